"""A service broker that breaks HTTP on purpose, over real sockets, and who calls it.

Each way of breaking it is a small function. It is handed a `Visit`, one connection, and does with it as it likes; when
it returns, the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from shared.records import BrokerAddress
from shared.settings import Settings
from worker.broker.client import BrokerClient, NotReceivedError, Origin, UnclearError
from worker.broker.outcome import Outcome, of_poll, of_start

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from shared.security.secrets import Sealer
    from worker.broker.client import Answer

USERNAME, PASSWORD = "hostile-user", "höstile-password"
PATH = "/v2/service_instances/i-1/backups/b-1"
ORIGIN = Origin(job_guid="job", request_id="request", traceparent=None, user_guid="user")
ENOUGH_S = 60.0  #: so long that it is over only when something hangs
PIECE = b" " * (1 << 16)


@dataclass
class Visit:
    """One connection to the server."""

    server: HostileServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """The head of the next request, when all of it is here."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await self.reader.readexactly(int(line.partition(b":")[2]))
        self.server.requests.append(head)
        return head

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()
        self.server.bytes_sent += len(raw)

    async def until_gone(self) -> None:
        """Wait until the client closes the connection."""
        while await self.reader.read(1 << 16):
            pass


Way = Callable[[Visit], Awaitable[None]]


@dataclass
class HostileServer:
    """Treats every connection in one way, and counts. `scheme` and `host` say how it is called."""

    way: Way
    tls: ssl.SSLContext | None = None
    scheme: str = "http"
    host: str = "127.0.0.1"
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    bytes_sent: int = 0
    _visits: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        # A small buffer, so that what could be sent says what was read.
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listener, ssl=self.tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_listening()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    def stop_listening(self) -> None:
        self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        visit = asyncio.create_task(self._serve(Visit(self, reader, writer)))
        self._visits.add(visit)

    async def _serve(self, visit: Visit) -> None:
        try:
            # The client may go away at any moment: that is what most ways are about.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.way(visit)
        finally:
            visit.writer.close()
            with contextlib.suppress(OSError):
                await visit.writer.wait_closed()


def http(status: int, body: bytes | str = b"", *headers: str, length: int | None = None) -> bytes:
    """An answer as it goes over the wire. `length` is what it claims as Content-Length."""
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(raw) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


async def closes(_visit: Visit) -> None:
    """End the connection in good order."""


async def hangs(visit: Visit) -> None:
    await visit.until_gone()


async def resets(visit: Visit) -> None:
    """End the connection with RST instead of FIN."""
    visit.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    visit.writer.transport.abort()


def says(raw: bytes, then: Way = closes) -> Way:
    """Read a request, say `raw`, then."""

    async def way(visit: Visit) -> None:
        await visit.request()
        await visit.send(raw)
        await then(visit)

    return way


def repeats(raw: bytes, times: int | None = None) -> Way:
    """Say `raw` again and again, as fast as it is read."""

    async def way(visit: Visit) -> None:
        sent = 0
        while times is None or sent < times:
            await visit.send(raw)
            sent += 1

    return way


def drips(raw: bytes) -> Way:
    """Say `raw` again and again, a byte at a time with pauses, so that no pause is ever long."""

    async def way(visit: Visit) -> None:
        while True:
            for byte in raw:
                await visit.send(bytes([byte]))
                await asyncio.sleep(0.02)

    return way


def answers_every(raw: bytes) -> Way:
    """A broker that behaves: each request gets `raw`, on a connection that is kept."""

    async def way(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(raw)

    return way


def settings_with(timeout_s: float) -> Settings:
    """Settings that need no database."""
    return Settings(
        environment="development",
        database_url="postgresql://nowhere/nothing",
        queue_url="redis://nowhere",
        broker_timeout_s=timeout_s,
        lease_s=3 * timeout_s,
    )


@dataclass
class Caller:
    """Calls brokers as the steps do, and knows no more than they of what will happen."""

    client: BrokerClient
    sealer: Sealer

    async def call(self, url: str, method: str = "GET") -> Answer | NotReceivedError | UnclearError:
        broker = BrokerAddress(
            guid=uuid.uuid4(),
            name="broker",
            url=url,
            username=USERNAME,
            password_sealed=self.sealer.seal(PASSWORD),
        )
        body = '{"service_id": "s"}' if method == "PUT" else None
        try:
            async with asyncio.timeout(ENOUGH_S):
                return await self.client.call(
                    broker,
                    method,
                    "/v2/service_instances/i-1/backups/b-1",
                    query={"plan_id": "p"},
                    body=body,
                    origin=ORIGIN,
                )
        except (NotReceivedError, UnclearError) as error:
            return error

    async def start_and_poll(self, url: str) -> tuple[Outcome, Outcome]:
        start, poll = await asyncio.gather(self.call(url, "PUT"), self.call(url))
        outcomes = of_start("backup", start), of_poll("backup", poll)
        for text in (outcomes[0].error and outcomes[0].error.detail, outcomes[1].description):
            assert_can_be_shown(text, url)
        return outcomes


def assert_can_be_shown(text: str | None, url: str) -> None:
    """A reader of the job gets one short sentence of ours, which gives nothing away."""
    if text is None:
        return
    assert len(text) < 150, text
    assert "\n" not in text
    secrets = {USERNAME, PASSWORD, "://", "127.0.0.1", "localhost", url.rpartition(":")[2], "aiohttp", "_ssl", "errno"}
    assert not {secret for secret in secrets if secret.lower() in text.lower()}, text
    assert not re.search(r"[A-Z]\w+(Error|Exception|Message)|[<>{}\[\]'\"]", text), text
