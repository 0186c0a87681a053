"""The only place that turns errors into responses: `{"errors":[{code,detail,title}]}`, whatever went wrong."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from api.presenters.errors import present_error
from shared.errors import ApiError, BadRequestError, DatabaseError, NotFoundError, StoreError, UnknownError
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
        return present(error)
    except web.HTTPException as error:
        if error.status < web.HTTPBadRequest.status_code:
            raise
        return present(_of_http(error))
    except StoreError as error:
        _log.error("the database refused a statement", method=request.method, route=_route(request), error=str(error))
        return present(DatabaseError())
    except Exception:  # noqa: BLE001 - the outermost catch: a client gets an answer whatever happened, the log the rest
        _log.exception("unexpected error", method=request.method, route=_route(request))
        return present(UnknownError())


def _of_http(error: web.HTTPException) -> ApiError:
    if isinstance(error, web.HTTPNotFound | web.HTTPMethodNotAllowed):
        return NotFoundError()
    return BadRequestError(error.reason, status=error.status)


def present(error: ApiError) -> web.Response:
    """The response that says `error`. After one to a body that was not read, the connection ends."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    response = web.json_response(present_error(error), status=error.status, headers=headers)
    if error.status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}:
        response.force_close()
    return response


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"
