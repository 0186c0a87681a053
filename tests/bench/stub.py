"""A service broker that does nothing, and that quickly: `python -m tests.bench.stub PORT LATENCY_MS`.

Every call is answered after the latency: a start is accepted, and whatever is asked about has succeeded. It speaks just
as much HTTP as the clients of the benchmark need, so that it takes as little as possible of the computer from them.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Final


def _answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


ACCEPTED: Final = _answer("202 Accepted", b'{"operation": "op"}')
SUCCEEDED: Final = _answer("200 OK", b'{"state": "succeeded"}')
FACTS: Final = _answer("200 OK", b'{"id": "b", "state": "succeeded", "created_at": 1, "size_bytes": 4711}')


class Connection(asyncio.Protocol):
    """One client, with one call under way at a time."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not a stream")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head = received.find(b"\r\n\r\n")
        if head < 0 or len(received) < head + 4 + _length(received, head):
            self._received = received
            return
        self._received = b""
        if received.startswith(b"PUT"):
            answer = ACCEPTED
        else:
            answer = SUCCEEDED if b"/last_operation" in received[: received.find(b"\r\n")] else FACTS
        if self._latency_s:
            asyncio.get_running_loop().call_later(self._latency_s, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _length(received: bytes, head: int) -> int:
    place = received.lower().find(b"\r\ncontent-length:", 0, head + 2)
    return 0 if place < 0 else int(received[place + 17 : received.find(b"\r\n", place + 17)])


async def serve(port: int, latency_s: float) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency_s), "127.0.0.1", port, backlog=4096)
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
