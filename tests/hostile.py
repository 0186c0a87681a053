"""A service broker that breaks HTTP on purpose, over real sockets: each way of doing so is a small function.

A way is handed a `Visit`, one connection, and does with it as it likes; when it returns, the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

PIECE = b" " * (1 << 16)


@dataclass
class Visit:
    """One connection to the server. Its number counts from 1."""

    server: HostileServer
    number: int
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
        visit = asyncio.create_task(self._serve(Visit(self, self.connections, reader, writer)))
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


class Authority:
    """A certificate authority for one run of tests; `bundle` is what to trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
        self.bundle = directory / "authority.pem"
        certificate = self._builder(self._name, self._key, 1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.bundle.write_bytes(pem)

    def server_context(self, name: str, *, days: int = 1, is_self_signed: bool = False) -> ssl.SSLContext:
        """The TLS of a server called `name`, whose certificate is good for `days` more; negative ones have expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        builder = self._builder(subject, key, days, issuer=subject if is_self_signed else None).add_extension(
            x509.SubjectAlternativeName([alternative]), critical=False
        )
        certificate = builder.sign(key if is_self_signed else self._key, hashes.SHA256())
        path = self._directory / f"{name}{days}{is_self_signed}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, issuer: x509.Name | None = None
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return x509.CertificateBuilder(
            issuer_name=issuer or self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - dt.timedelta(days=9),
            not_valid_after=now + dt.timedelta(days=days),
        )
