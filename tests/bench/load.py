"""The load: many keep-alive connections, each with one request under way, from a process of its own.

`python -m tests.bench.load FILE` reads what to send from a JSON file, prints what came of it as JSON, and lives until
its input ends. It is cheap on purpose, since it shares the computer with what it measures: bytes made beforehand, and
of an answer only its status and its length are looked at.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.bench.measurement import Times

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST: Final = "127.0.0.1"
READ_BYTES: Final = 1 << 16
#: An answer that takes longer is none.
PATIENCE_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """What to send. Requests are each a path and lines of a head; they are used once unless `is_repeating`."""

    port: int
    method: str
    requests: list[tuple[str, list[str]]]
    is_repeating: bool
    connections: int
    warm_up_s: float
    seconds: float
    expected_status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What came of it, after the warm-up. Moments are the computer's clock."""

    began_at_s: float
    ended_at_s: float
    count: int
    unexpected: dict[str, int]  #: answers with another status, by status
    times: Times


def to_bytes(spec: LoadSpec) -> list[bytes]:
    """The requests as they go out."""
    length = ["Content-Length: 0"] if spec.method == "POST" else []
    return [
        "\r\n".join([f"{spec.method} {path} HTTP/1.1", f"Host: {HOST}:{spec.port}", *length, *lines, "", ""]).encode()
        for path, lines in spec.requests
    ]


def run(spec: LoadSpec) -> LoadResult:
    """Send the requests until the time is over or none is left. Raises OSError when the server breaks off."""
    prepared = to_bytes(spec)
    waiting = cycle(prepared) if spec.is_repeating else iter(prepared)
    with select.epoll() as poll:
        connections: dict[int, socket.socket] = {}
        for _ in range(spec.connections):
            connection = socket.create_connection((HOST, spec.port), timeout=PATIENCE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connections[connection.fileno()] = connection
            poll.register(connection, select.EPOLLIN)
        try:
            return _Load(spec, waiting, connections).drive(poll)
        finally:
            for connection in connections.values():
                connection.close()


class _Load:
    """One run over open connections, by their file descriptors."""

    def __init__(self, spec: LoadSpec, waiting: Iterator[bytes], connections: dict[int, socket.socket]) -> None:
        self._waiting = waiting
        self._connections = connections
        self._expected = str(spec.expected_status).encode()
        self._unexpected: Counter[str] = Counter()
        self._times_s: list[float] = []
        self._sent_at: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        self._measured_from = time.perf_counter() + spec.warm_up_s
        self._until = self._measured_from + spec.seconds
        self._last = self._measured_from

    def drive(self, poll: select.epoll) -> LoadResult:
        """Send until the time is over or nothing is left, and wait for the last answers."""
        for number in self._connections:
            self._send(number, time.perf_counter())
        while self._sent_at:
            events = poll.poll(PATIENCE_S)
            if not events:
                raise TimeoutError(f"no answer within {PATIENCE_S:.0f} s")
            for number, _ in events:
                self._receive(number)
        return self._result()

    def _send(self, number: int, now: float) -> None:
        request = next(self._waiting, None) if now < self._until else None
        if request is None:
            self._sent_at.pop(number, None)
            return
        self._sent_at[number] = now
        self._connections[number].sendall(request)

    def _receive(self, number: int) -> None:
        data = self._connections[number].recv(READ_BYTES)
        if not data:
            raise ConnectionError("the server closed a connection")
        if number in self._partial:
            data = self._partial.pop(number) + data
        if not _is_whole(data):
            self._partial[number] = data
            return
        now = time.perf_counter()
        if now >= self._measured_from:
            self._times_s.append(now - self._sent_at[number])
            self._last = now
        if (status := data[9:12]) != self._expected:
            self._unexpected[status.decode("ascii", errors="replace")] += 1
        self._send(number, now)

    def _result(self) -> LoadResult:
        ended_at_s = time.time() - (time.perf_counter() - self._last)
        return LoadResult(
            began_at_s=ended_at_s - (self._last - self._measured_from),
            ended_at_s=ended_at_s,
            count=len(self._times_s),
            unexpected=dict(self._unexpected),
            times=Times.of([each * 1000 for each in self._times_s] or [0.0]),
        )


def _is_whole(data: bytes) -> bool:
    """Whether the answer has come to its end; every server here sends a length, or a status without a body."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    place = data.find(b"\r\nContent-Length: ", 0, head + 2)
    if place < 0:
        return True
    length = int(data[place + 18 : data.find(b"\r\n", place + 18)])
    return len(data) >= head + 4 + length


def main() -> None:
    """Read, send, print."""
    spec = LoadSpec(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(asdict(run(spec))), flush=True)
    # Whoever measures this process wants it to be there until it has.
    sys.stdin.read()


if __name__ == "__main__":
    main()
