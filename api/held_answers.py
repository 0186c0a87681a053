"""Answers that are held back until there is news, and then written at once, however many wait for the same news.

Through its handler and its middlewares, an answer takes a tenth of a millisecond, and the ten thousandth comes a second
late. What is known of it before the news is therefore put together while its request waits; then a write is all that
is left, and the handlers, which come after it one by one, find their answers given.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import HttpVersion11, web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter

_LINE_END: Final = "\r\n"


class News(NamedTuple):
    """What all answers with the same news have in common."""

    head: bytes
    body: bytes


def write_news(body: bytes, headers: Mapping[str, str]) -> News:
    """The news `body`, with `headers`, for answers that are sent now."""
    common = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body))}
    return News(f"HTTP/1.1 200 OK\r\n{_lines(common | dict(headers))}".encode(), body)


class HeldAnswer:
    """The answer to one request, which is given by `give`, or not at all."""

    __slots__ = ("_request", "_rest", "is_given")

    def __init__(self, request: web.Request, rest: bytes) -> None:
        self._request = request
        self._rest = rest
        self.is_given = False

    @classmethod
    async def hold(cls, request: web.Request, headers: Mapping[str, str]) -> HeldAnswer | None:
        """The answer to `request`, with `headers` and those that every answer of the application has.

        None for what is better answered in the ordinary way: what is not plain HTTP/1.1, or ends its connection.
        """
        if request.method != "GET" or request.version != HttpVersion11 or not request.keep_alive:
            return None
        response = web.Response(headers=headers)
        await request.app.on_response_prepare.send(request, response)
        return cls(request, f"{_lines(response.headers)}\r\n".encode())

    def give(self, news: News) -> None:
        """Write the answer, unless the client has left."""
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            self.is_given = True
            transport.write(b"".join((news.head, self._rest, news.body)))


class GivenResponse(web.StreamResponse):
    """What a handler returns whose answer has been written."""

    def __init__(self) -> None:
        super().__init__()
        self._keep_alive = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 - aiohttp's
        """Nothing: it has begun."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: it has ended."""


def _lines(headers: Mapping[str, str]) -> str:
    """The headers as they are written. Raises ValueError for one that would end its line."""
    text = "".join(f"{name}: {value}{_LINE_END}" for name, value in headers.items())
    if text.count("\n") != len(headers) or text.count("\r") != len(headers):
        raise ValueError("a header has a line end in it")
    return text
