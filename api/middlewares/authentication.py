"""Finds out who sent a request and whether the token's scopes allow its method. Roles are the directory's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.routes import ENDPOINTS
from shared.errors import NotAuthenticatedError, NotAuthorizedError

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
    if request.path in PUBLIC_PATHS or request.match_info.http_exception is not None:
        return await handler(request)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthenticatedError
    caller = await request.app[CONTEXT].verifier.verify(token.strip())
    if not _may_ask(caller, request):
        raise NotAuthorizedError
    request[CALLER] = caller
    response = await handler(request)
    response.headers["X-USER-GUID"] = caller.user_guid
    return response


def _may_ask(caller: Caller, request: web.Request) -> bool:
    if request.method not in READING_METHODS:
        return caller.may_write
    resource = request.match_info.route.resource
    opening = OPENING_SCOPES.get(resource.canonical, frozenset()) if resource else frozenset()
    return caller.may_read or not caller.scopes.isdisjoint(opening)
