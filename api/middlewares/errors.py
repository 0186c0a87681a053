"""The only place that turns errors into responses: `{"errors":[{code,detail,title}]}`, whatever went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from shared.errors import ApiError, BadRequestError, MessageParseError, NotFoundError, UnknownError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

_log = get_logger(__name__)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what the handler raised."""
    try:
        return await handler(request)
    except ApiError as error:
        return _response(error)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return _response(NotFoundError())
    except web.HTTPRequestEntityTooLarge:
        return _response(BadRequestError("Bad request: the body is too large"), status=413)
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        return _response(MessageParseError(), status=error.status)
    except Exception:  # noqa: BLE001 - the outermost catch: a client gets an answer whatever happened, the log the rest
        _log.exception("unexpected error", method=request.method, route=_route(request))
        return _response(UnknownError())


def _response(error: ApiError, status: int | None = None) -> web.Response:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    body = {"errors": [{"code": error.code, "detail": error.detail, "title": error.title}]}
    return web.json_response(body, status=status or error.status, headers=headers)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"
