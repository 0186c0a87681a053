"""Lets through whose token allows the method at all. What the caller may do to which instance is for the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER
from api.middlewares.authentication import needs_token
from shared.errors import NotAuthenticatedError, NotAuthorizedError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

READING_METHODS: Final = frozenset({"GET", "HEAD"})


@web.middleware
async def scopes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Raises NotAuthenticatedError where nobody is known, and NotAuthorizedError where the token lacks the scope."""
    if needs_token(request):
        caller = request.get(CALLER)
        if caller is None:
            raise NotAuthenticatedError
        if not (caller.may_read if request.method in READING_METHODS else caller.may_write):
            raise NotAuthorizedError
    return await handler(request)
