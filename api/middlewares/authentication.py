"""Finds out who sent a request and whether the token's scopes allow its method. Roles are the directory's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.routes import ENDPOINTS
from shared.errors import InvalidAuthTokenError, NotAuthenticatedError, NotAuthorizedError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from shared.security.tokens import Caller

#: Discovery and health answer anybody, as in Cloud Foundry.
PUBLIC_PATHS: Final = frozenset(operation.path for operation in ENDPOINTS if operation.is_public)
READING_METHODS: Final = frozenset({"GET", "HEAD"})
#: Scopes that open one operation and nothing else, by its path; all of them read.
OPENING_SCOPES: Final = {operation.path: operation.scopes for operation in ENDPOINTS if operation.scopes}


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let known callers through. An unknown route answers 404 to anybody, as in Cloud Foundry."""
    resource = request.match_info.route.resource
    if resource is None or resource.canonical in PUBLIC_PATHS:
        return await handler(request)
    caller = await request.app[CONTEXT].verifier.verify(_bearer_token(request))
    if not _may_ask(caller, request):
        raise NotAuthorizedError
    request[CALLER] = caller
    response = await handler(request)
    response.headers["X-USER-GUID"] = caller.user_guid
    return response


def _bearer_token(request: web.Request) -> str:
    """The token of the one Authorization header, which is exactly two words.

    Raises NotAuthenticatedError for anything else, and for two such headers: which one counts is a matter of opinion,
    and a proxy in front of us may have another one. Raises InvalidAuthTokenError for what no token can be.
    """
    match [header.split() for header in request.headers.getall("Authorization", ())]:
        case [[scheme, token]] if scheme.lower() == "bearer":
            if not token.isascii():
                raise InvalidAuthTokenError
            return token
        case _:
            raise NotAuthenticatedError


def _may_ask(caller: Caller, request: web.Request) -> bool:
    if request.method not in READING_METHODS:
        return caller.may_write
    resource = request.match_info.route.resource
    opening = OPENING_SCOPES.get(resource.canonical, frozenset()) if resource else frozenset()
    return caller.may_read or not caller.scopes.isdisjoint(opening)
