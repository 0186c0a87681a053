"""HTTP over bare sockets, for requests that no client library would send, and for what is answered to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

from tests.contract import Answered, faults
from tests.support import bearer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from shared.settings import Settings
    from tests.support import ApiServer

ENOUGH_S = 60.0  #: so long that it is over only when something hangs
SENT_ID = "hostile"

#: What is expected: a status, and the code of the error.
Expected = tuple[int, int | None]
NOT_HTTP: Expected = (400, 1004)
NO_ROUTE: Expected = (404, 10000)
NO_THING: Expected = (404, 10010)
NO_TOKEN: Expected = (401, 10002)
BAD_TOKEN: Expected = (401, 1000)
BAD_QUERY: Expected = (400, 10005)
BAD_JSON: Expected = (400, 1001)
REFUSED: Expected = (422, 10008)
FINE: Expected = (200, None)


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def code(self) -> int | None:
        """The code of the error, if it is one."""
        try:
            return int(json.loads(self.body)["errors"][0]["code"])
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Connection:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def reply(self, method: str = "GET") -> Reply:
        """The next answer. Raises asyncio.IncompleteReadError when the connection ends before it does."""
        async with asyncio.timeout(ENOUGH_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").rstrip().split("\r\n")
            headers = CIMultiDict[str](line.partition(": ")[::2] for line in lines)
            status = int(first.split()[1])
            has_body = method != "HEAD" and status not in {100, 204, 304}
            body = await self.reader.readexactly(int(headers.get("Content-Length", 0))) if has_body else b""
        return Reply(status, headers, body)

    async def until_closed(self) -> bytes:
        """What the server still says until it ends the connection."""
        async with asyncio.timeout(ENOUGH_S):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
        return b""


@contextlib.asynccontextmanager
async def connected(port: int | None) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(port: int | None, raw: bytes, method: str = "GET") -> Reply:
    """The answer to `raw` on a connection of its own."""
    async with connected(port) as connection:
        await connection.send(raw)
        return await connection.reply(method)


def request(line: str, *headers: str, body: bytes = b"", host: str | None = "x") -> bytes:
    """A request as it goes over the wire, with an id by which its answer can be known."""
    lines = [f"{line} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), f"X-Vcap-Request-Id: {SENT_ID}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode("utf-8", "surrogateescape") + body


def json_request(line: str, *headers: str, body: Any) -> bytes:  # Any: bytes as they are, or what JSON can say
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(line, *headers, "Content-Type: application/json", f"Content-Length: {len(raw)}", body=raw)


class Target:
    """The API under attack."""

    def __init__(self, server: ApiServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.url = settings.database_url.get_secret_value()
        self.admin = f"Authorization: {bearer(settings, is_admin=True)['Authorization']}"

    async def check(self, table: Iterable[tuple[bytes, Expected]]) -> None:
        """Fail with all that is otherwise than the table says."""
        found = []
        for raw, expected in table:
            method, path = _method_and_path(raw)
            reply = await exchange(self.server.port, raw, method)
            found += [f"{raw[:150]!r}: {fault}" for fault in self.faults_of(reply, method, path)]
            code = expected[1] if method != "HEAD" else None
            if (reply.status, reply.code) != (expected[0], code):
                found.append(f"{raw[:150]!r}: {reply.status} {reply.body[:200]!r} and not {expected}")
        assert not found, "\n".join(found)

    def faults_of(self, reply: Reply, method: str, path: str) -> list[str]:
        found = faults(Answered(method=method, path=path, status=reply.status, headers=reply.headers, body=reply.body))
        # What is no request has no headers that could be believed.
        if (reply.status, reply.code) != NOT_HTTP and not reply.headers["X-VCAP-Request-ID"].startswith(f"{SENT_ID}::"):
            found.append(f"another id: {reply.headers['X-VCAP-Request-ID']}")
        return found


def _method_and_path(raw: bytes) -> tuple[str, str]:
    match = re.match(rb"([A-Z]+) (?:[a-z]+://[^/ ]*)?(/[^ ?#]*)?", raw)
    return (match[1].decode(), (match[2] or b"/-").decode("latin-1")) if match else ("GET", "/-")
