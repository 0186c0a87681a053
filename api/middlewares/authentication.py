"""Finds out who sent a request. What the token's scopes allow is checked in `scopes.py`, after requests are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.routes import ENDPOINTS

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

#: Discovery and health answer anybody, as in Cloud Foundry.
PUBLIC_PATHS: Final = frozenset(operation.path for operation in ENDPOINTS if operation.is_public)


@web.middleware
async def authentication(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Note the caller of a request that has a bearer token. Raises InvalidAuthTokenError when the token is not good."""
    token = _bearer_token(request) if needs_token(request) else None
    if token is not None:
        request[CALLER] = await request.app[CONTEXT].verifier.verify(token)
    return await handler(request)


def needs_token(request: web.Request) -> bool:
    """Whether only known callers are answered. An unknown route answers 404 to anybody, as in Cloud Foundry."""
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical not in PUBLIC_PATHS


async def name_caller(request: web.Request, response: web.StreamResponse) -> None:
    """Say in an answer, before it begins, whose token it was."""
    if (caller := request.get(CALLER)) is not None:
        response.headers["X-USER-GUID"] = caller.user_guid


def _bearer_token(request: web.Request) -> str | None:
    """The token of the one Authorization header, which is exactly two words; None for anything else.

    That is so for two such headers, too: which one counts is a matter of opinion, and a proxy in front of us may have
    another one.
    """
    match [header.split() for header in request.headers.getall("Authorization", ())]:
        case [[scheme, token]] if scheme.lower() == "bearer":
            return token
        case _:
            return None
