"""Refuses requests that can be understood in two ways, since a proxy before us may have understood them in the other.

Most of these the parser refuses already: two `Host` or `Content-Length`, a length and chunks at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion10, HttpVersion11, web

from shared.errors import BadRequestError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

#: Headers that decide something and that HTTP's own rules leave open; two more are looked at by those who read them.
SINGLE: Final = ("X-Vcap-Request-Id", "X-Request-Id")


@web.middleware
async def framing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let through what is not ambiguous."""
    if request.version < HttpVersion10:
        raise BadRequestError("HTTP/1.0 is the oldest version that is understood")
    if coding := request.headers.get("Transfer-Encoding"):
        # RFC 9112, 6.1: chunks that came with HTTP/1.0 went through somebody who did not know what they are.
        if request.version < HttpVersion11:
            raise BadRequestError("HTTP/1.0 has no Transfer-Encoding")
        if coding.lower() != "chunked":
            raise BadRequestError("of transfer codings, only chunked is understood")
    for name in SINGLE:
        if len(request.headers.getall(name, ())) > 1:
            raise BadRequestError(f"the header {name} stands more than once")
    return await handler(request)
