"""Lets through whose token allows the method at all. What the caller may do to which instance is for the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER
from api.middlewares.authentication import needs_token
from api.routes import ENDPOINTS
from shared.errors import NotAuthenticatedError, NotAuthorizedError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from shared.security.callers import Caller

READING_METHODS: Final = frozenset({"GET", "HEAD"})
#: Scopes that open one operation and nothing else, by its path; all of them read.
OPENING_SCOPES: Final = {operation.path: operation.scopes for operation in ENDPOINTS if operation.scopes}


@web.middleware
async def scopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises NotAuthenticatedError where nobody is known, and NotAuthorizedError where the token lacks the scope."""
    if needs_token(request):
        caller = request.get(CALLER)
        if caller is None:
            raise NotAuthenticatedError
        if not _may_ask(caller, request):
            raise NotAuthorizedError
    return await handler(request)


def _may_ask(caller: Caller, request: web.Request) -> bool:
    if request.method not in READING_METHODS:
        return caller.may_write
    resource = request.match_info.route.resource
    opening = OPENING_SCOPES.get(resource.canonical, frozenset()) if resource else frozenset()
    return caller.may_read or not caller.scopes.isdisjoint(opening)
