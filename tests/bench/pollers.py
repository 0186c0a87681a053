"""Clients for benchmarks that cost next to nothing: requests written beforehand, plain sockets, one loop of epoll.

They run in a process of their own, so that what is measured is the server. Times are of the clock that all
processes of one computer share.
"""

from __future__ import annotations

import multiprocessing
import re
import select
import socket
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
PATIENCE_S: Final = 120
#: Connections that are opened at once, fewer than a listening socket keeps in its queue.
BURST: Final = 100


class Rate(NamedTuple):
    """What so many connections got that ask again as soon as they are answered."""

    per_s: float
    p50_s: float
    p99_s: float
    statuses: frozenset[int]


class Arrival(NamedTuple):
    """An answer to one who waited."""

    at_s: float
    status: int


class Pollers:
    """A process that opens connections to a server on loopback and asks. Use it with `with`."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, port), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()

    def ask_often(self, requests: Sequence[bytes], *, connections: int, seconds: float) -> Rate:
        """Have each of so many connections ask in turn for all of `requests`, one after the other."""
        rate: Rate = self._call("ask_often", list(requests), connections, seconds)
        return rate

    def begin_to_wait(self, requests: Sequence[bytes]) -> None:
        """Send each of `requests` on a connection of its own, and return without an answer to any."""
        self._call("begin_to_wait", list(requests))

    def expect(self, count: int) -> None:
        """Go and wait for so many answers; `arrivals` has them."""
        self._pipe.send(("expect", count))

    def arrivals(self) -> list[Arrival]:
        """The answers that were expected, in the order in which they came."""
        found: list[Arrival] = self._received()
        return found

    def leave(self) -> None:
        """Close all connections of those who wait."""
        self._call("leave")

    def _call(self, *message: object) -> Any:  # Any: whatever was asked for
        self._pipe.send(message)
        return self._received()

    def _received(self) -> Any:  # Any: as above
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _serve(pipe: Connection, port: int) -> None:
    """Do what comes through the pipe, until it ends."""
    crowd = _Crowd(port)
    while True:
        name, *arguments = pipe.recv()
        try:
            pipe.send(getattr(crowd, name)(*arguments))
        except (OSError, ValueError) as error:
            pipe.send(error)


class _Crowd:
    """The connections of this process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._waiting: dict[int, socket.socket] = {}
        self._poll = select.epoll()

    def ask_often(self, requests: Sequence[bytes], connections: int, seconds: float) -> Rate:
        opened = [self._connect() for _ in range(connections)]
        poll = select.epoll()
        sockets = {sock.fileno(): sock for sock in opened}
        asked_at: dict[int, float] = {}
        times: list[float] = []
        statuses: set[int] = set()
        turn = 0
        began_at = time.monotonic()
        for number, sock in sockets.items():
            poll.register(number, select.EPOLLIN)
            asked_at[number] = time.monotonic()
            sock.sendall(requests[turn % len(requests)])
            turn += 1
        while (now := time.monotonic()) < began_at + seconds:
            for number, _ in poll.poll(1):
                sock = sockets[number]
                statuses.add(_read_answer(sock))
                answered_at = time.monotonic()
                times.append(answered_at - asked_at[number])
                asked_at[number] = answered_at
                sock.sendall(requests[turn % len(requests)])
                turn += 1
        for sock in opened:
            sock.close()
        times.sort()
        return Rate(
            len(times) / (now - began_at), times[len(times) // 2], times[len(times) * 99 // 100], frozenset(statuses)
        )

    def begin_to_wait(self, requests: Sequence[bytes]) -> None:
        for start in range(0, len(requests), BURST):
            for request in requests[start : start + BURST]:
                sock = self._connect()
                sock.sendall(request)
                self._waiting[sock.fileno()] = sock
                self._poll.register(sock.fileno(), select.EPOLLIN)

    def expect(self, count: int) -> list[Arrival]:
        if self._poll.poll(0):
            raise ValueError("somebody was answered before there was news")
        found: list[tuple[float, bytes]] = []
        gives_up_at = time.monotonic() + PATIENCE_S
        while len(found) < count:
            if time.monotonic() > gives_up_at:
                raise ValueError(f"{len(found)} of {count} answers after {PATIENCE_S} s")
            for number, _ in self._poll.poll(1, 100):
                data = self._waiting[number].recv(65536)
                found.append((time.monotonic(), data))
        return [Arrival(at_s, int(data[9:12])) for at_s, data in found]

    def leave(self) -> None:
        for number, sock in self._waiting.items():
            self._poll.unregister(number)
            sock.close()
        self._waiting.clear()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def _read_answer(sock: socket.socket) -> int:
    """The status of an answer, all of which is read."""
    data = sock.recv(65536)
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += _more(sock)
    length = LENGTH.search(data, 0, end + 2)
    missing = end + 4 + int(length[1]) - len(data) if length and data[9:12] != b"304" else 0
    while missing > 0:
        missing -= len(_more(sock))
    return int(data[9:12])


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("the server has left")
    return data
