"""Answers 429 to those who have used up their requests: users by their guid, others by their address.

As in Cloud Foundry, administrators, Basic auth and the public paths are not counted, and a bad token is 401 before
anything is counted.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.middlewares.authentication import needs_token
from api.rate_limits import Window
from shared.errors import IpBasedRateLimitExceededError, RateLimitExceededError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

WINDOW: Final = web.RequestKey("window", Window)
#: What one customer of a network provider has at least (RFC 6177), to choose addresses from.
IPV6_PREFIX: Final = 64


@web.middleware
async def rate_limit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request. Raises RateLimitExceededError, IpBasedRateLimitExceededError."""
    settings = request.app[CONTEXT].settings
    caller = request.get(CALLER)
    limit = settings.rate_limit_per_address if caller is None else settings.rate_limit_per_user
    if limit is None or not needs_token(request) or (_has_basic_auth(request) if caller is None else caller.is_admin):
        return await handler(request)
    who = f"user {caller.user_guid}" if caller else f"address {_address(request, settings.trusted_proxies)}"
    window = await request.app[CONTEXT].rate_limits.count(who, limit)
    if window is not None:
        request[WINDOW] = window
        if window.is_exceeded:
            error = IpBasedRateLimitExceededError if caller is None else RateLimitExceededError
            raise error(retry_after_s=window.rest_s)
    return await handler(request)


async def show_window(request: web.Request, response: web.StreamResponse) -> None:
    """Say in an answer, before it begins, what is left of the window."""
    if (window := request.get(WINDOW)) is not None:
        response.headers["X-RateLimit-Limit"] = str(window.limit)
        response.headers["X-RateLimit-Remaining"] = str(window.remaining)
        response.headers["X-RateLimit-Reset"] = str(window.resets_at_s)


def _has_basic_auth(request: web.Request) -> bool:
    return request.headers.get("Authorization", "").partition(" ")[0].lower() == "basic"


def _address(request: web.Request, trusted_proxies: int) -> str:
    """Where a request comes from: the peer, or the entry that the first of our proxies appended.

    Entries further left are whatever the client sent. For IPv6 it is the network, within which a client can choose.
    """
    sent = ",".join(request.headers.getall("X-Forwarded-For", ())) if trusted_proxies else ""
    entries = [entry.strip() for entry in sent.split(",") if entry.strip()]
    for text in (*entries[-trusted_proxies:][:1], request.remote or ""):
        try:
            address = ip_address(_without_port(text))
        except ValueError:
            continue
        if not isinstance(address, IPv6Address):
            return str(address)
        return str(address.ipv4_mapped or IPv6Network((int(address), IPV6_PREFIX), strict=False))
    return "unknown"


def _without_port(text: str) -> str:
    """`text`, which some proxies write as 192.0.2.1:80 or [2001:db8::1]:80."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
