"""A TCP proxy in the loop of the test, between a client and PostgreSQL: all that a network can do, on purpose."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType

#: How PostgreSQL says that a statement is over, outside a transaction.
READY = b"Z\x00\x00\x00\x05I"


@dataclass
class Way:
    """What happens to bytes of one direction. The cuts happen once, and cut every connection."""

    is_swallowed: bool = False  #: a black hole: everybody stays connected, and nothing arrives
    cut_after_bytes: int | None = None  #: of all connections together; the next byte after these is not passed on
    cut_when_ready: bool = False  #: nothing is passed on, and the end of the server's answer cuts
    passed: int = 0  #: bytes that were passed on so far


class Proxy:
    """Listens on a free port of the loopback interface, and connects to the server of `url`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.requests = Way()
        self.answers = Way()
        self.cuts = 0
        self._url = parts
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL of the database, by way of this proxy."""
        return urlunsplit(self._url._replace(netloc=f"{self._url.netloc.rpartition('@')[0]}@127.0.0.1:{self._port}"))

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        while self._serving:
            await asyncio.wait(self._serving)

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Accept no new connections, until `listen`; those that there are stay."""
        if self._server:
            self._server.close()

    def cut(self) -> None:
        """Cut all connections. What the server was sent before, it still gets."""
        self.cuts += 1
        for client, server in self._links:
            # A transport closes its socket at the loop's next turn; the client is to know before that.
            with suppress(OSError):
                client.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            client.transport.abort()
            server.close()
        self._links.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = (writer, server_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pass_on(self.requests, reader, server_writer), self._pass_on(self.answers, server_reader, writer)
            )
        finally:
            self._links.discard(link)
            for end in link:
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _pass_on(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = b""
        with suppress(OSError):
            while data := await reader.read(65536):
                if way.is_swallowed:
                    continue
                if way.cut_when_ready:
                    held += data
                    if held.endswith(READY):
                        way.cut_when_ready = False
                        self.cut()
                    continue
                if way.cut_after_bytes is not None:
                    if len(data) > way.cut_after_bytes:
                        writer.write(data[: way.cut_after_bytes])
                        way.cut_after_bytes = None
                        self.cut()
                        continue
                    way.cut_after_bytes -= len(data)
                writer.write(data)
                way.passed += len(data)
                await writer.drain()
        writer.close()
