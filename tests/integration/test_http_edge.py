"""Where a request ends and how long it may take: lengths, chunks, endless bodies, slow clients, over bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from api.server import UNREAD_BYTES_MAX
from tests.raw import ENOUGH_S, FINE, NOT_HTTP, Target, connected, request
from tests.support import eventually, rows, seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings

BACKUPS = "/v3/service_instances/i-1/backups"
RESTORE = "/v3/service_instances/i-1/actions/restore"

# ---------------------------------------------------------------- lengths


async def test_it_never_guesses_where_a_body_ends(target: Target) -> None:
    line = f"POST {BACKUPS}"
    length, chunked = "Content-Length: 2", "Transfer-Encoding: chunked"
    end = b"0\r\n\r\n"
    table = [
        (request(line, target.admin, length, "Content-Length: 3", body=b"{} "), NOT_HTTP),
        (request(line, target.admin, length, length, body=b"{}"), NOT_HTTP),
        (request(line, target.admin, "Content-Length: 2, 2", body=b"{}"), NOT_HTTP),
        (request(line, target.admin, "Content-Length: -2", body=b"{}"), NOT_HTTP),
        (request(line, target.admin, "Content-Length: +2", body=b"{}"), NOT_HTTP),
        (request(line, target.admin, "Content-Length: 0x2", body=b"{}"), NOT_HTTP),
        (request(line, target.admin, "Content-Length: 2.0", body=b"{}"), NOT_HTTP),
        (request(line, target.admin, "Content-Length: " + "9" * 40, body=b"{}"), NOT_HTTP),
        (request(line, target.admin, length, chunked, body=end), NOT_HTTP),
        (request(line, target.admin, chunked, length, body=end), NOT_HTTP),
        (request(line, target.admin, chunked, chunked, body=end), NOT_HTTP),
        (request(line, target.admin, "Transfer-Encoding: xchunked", body=end), NOT_HTTP),
        (request(line, target.admin, "Transfer-Encoding: gzip, chunked", body=end), NOT_HTTP),
        (request(line, target.admin, "Transfer-Encoding: chunked, gzip", body=end), NOT_HTTP),
        (request(line, target.admin, "Transfer-Encoding: identity", body=end), NOT_HTTP),
        (request(line, target.admin, "Transfer-Encoding : chunked", body=end), NOT_HTTP),
        (request(line, target.admin, "Transfer-Encoding:\x0bchunked", body=end), NOT_HTTP),
        (request(line, target.admin, chunked, body=end).replace(b"HTTP/1.1", b"HTTP/1.0"), NOT_HTTP),
    ]
    chunks = [
        b"zz\r\n{}\r\n",
        b"2\r\n{}XX\r\n",
        b"-2\r\n{}\r\n",
        b"F" * 17 + b"\r\n{}\r\n",
        b"2 \r\n{}\r\n",
        b"0x2\r\n{}\r\n",
    ]
    table += [(request(line, target.admin, chunked, body=each + end), NOT_HTTP) for each in chunks]
    await target.check(table)
    assert rows(target.url, "select 1 from jobs") == []


async def test_it_never_takes_a_body_for_the_next_request(target: Target) -> None:
    smuggled = request("GET /v3/info")
    raw = request(f"POST {RESTORE}", target.admin, f"Content-Length: {len(smuggled)}", body=smuggled)
    async with connected(target.server.port) as connection:
        await connection.send(raw + request("GET /healthz"))
        assert (await connection.reply()).code == 10008
        assert (await connection.reply()).body == b"OK"


async def test_it_answers_nothing_that_follows_what_it_did_not_understand(target: Target) -> None:
    async with connected(target.server.port) as connection:
        await connection.send(request(f"POST {BACKUPS}", "Content-Length: x") + request("GET /healthz") * 3)
        assert (await connection.reply()).code == 1004
        assert await connection.until_closed() == b""


@pytest.mark.parametrize("line", [f"POST {RESTORE}", f"POST {BACKUPS}", f"GET {BACKUPS}", "GET /healthz"])
async def test_it_refuses_a_body_that_says_that_it_is_too_large(target: Target, line: str) -> None:
    raw = request(line, target.admin, f"Content-Length: {10**12}")
    await target.check([(raw, (413, 1004))])
    assert rows(target.url, "select 1 from jobs") == []


@pytest.mark.parametrize("path", [RESTORE, BACKUPS])
async def test_it_does_not_read_a_body_that_has_no_end(target: Target, path: str) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    async with connected(target.server.port) as connection:
        await connection.send(request(f"POST {path}", target.admin, "Transfer-Encoding: chunked"))
        reply = asyncio.create_task(connection.reply())
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(ENOUGH_S):
                while True:
                    await connection.send(piece)
                    sent += len(piece)
        answer = await reply
    assert (answer.status, answer.code) == (413, 1004)
    assert answer.headers["Connection"] == "close"
    # What the buffers of two sockets hold comes on top of it.
    assert sent < UNREAD_BYTES_MAX + (32 << 20)


# ---------------------------------------------------------------- time


HEADS = {
    "a part of the line": b"GET /heal",
    "a part of the headers": b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ",
    "all but the end": b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
    "empty lines": b"\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("before", [0, 1])
async def test_it_does_not_wait_for_a_head_for_ever(serve: Callable[..., Any], head: bytes, before: int) -> None:
    target = await serve(request_head_timeout_s=0.05)
    async with connected(target.server.port) as connection:
        for _ in range(before):
            await connection.send(request("GET /healthz"))
            assert (await connection.reply()).status == 200
        await connection.send(head)
        late = await connection.reply()
        assert await connection.until_closed() == b""
    assert (late.status, late.code) == (408, 1004)
    assert target.faults_of(late, "GET", "/-") == [f"another id: {late.headers['X-VCAP-Request-ID']}"]


async def test_it_does_not_wait_for_a_head_that_comes_a_byte_at_a_time(serve: Callable[..., Any]) -> None:
    target = await serve(request_head_timeout_s=0.3)
    async with connected(target.server.port) as connection:
        reply = asyncio.create_task(connection.reply())
        await connection.send(b"GET /")
        with contextlib.suppress(ConnectionError):
            while not reply.done():
                await connection.send(b"x")
                await asyncio.wait([reply], timeout=0.01)
        assert (await reply).status == 408


async def test_it_closes_a_connection_that_says_nothing_without_a_word(serve: Callable[..., Any]) -> None:
    target = await serve(request_head_timeout_s=0.05)
    async with connected(target.server.port) as connection:
        assert await connection.until_closed() == b""


async def test_it_keeps_a_connection_that_rests_between_requests(serve: Callable[..., Any]) -> None:
    target = await serve(request_head_timeout_s=0.05)
    async with connected(target.server.port) as resting, connected(target.server.port) as other:
        await resting.send(request("GET /healthz"))
        await resting.reply()
        assert await other.until_closed() == b""  # opened later: so the bound is over for the first one, too
        await resting.send(request("GET /healthz"))
        assert (await resting.reply()).status == 200


@pytest.mark.parametrize("path", [RESTORE, BACKUPS])
@pytest.mark.parametrize("framing", ["Content-Length: 20", "Transfer-Encoding: chunked"])
async def test_it_does_not_wait_for_a_body_for_ever(
    serve: Callable[..., Any], settings: Settings, path: str, framing: str
) -> None:
    seed(settings)
    target = await serve(request_body_timeout_s=0.05)
    for body in (b"", b"1"):
        async with connected(target.server.port) as connection:
            await connection.send(request(f"POST {path}", target.admin, framing, body=body))
            late = await connection.reply()
            assert await connection.until_closed() == b""
        assert (late.status, late.code) == (408, 1004)
        assert target.faults_of(late, "POST", path) == []
    assert rows(target.url, "select 1 from jobs") == []


async def test_it_survives_those_who_go_away(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    """And nobody is called because of them."""
    beginnings = [
        b"",
        b"GET /hea",
        request(f"GET {BACKUPS}", target.admin),
        request(f"POST {RESTORE}", target.admin, "Content-Length: 20", body=b"{"),
        request(f"POST {RESTORE}", target.admin, "Transfer-Encoding: chunked", body=b"10\r\n{"),
    ]
    with structlog.testing.capture_logs() as said:
        for raw in beginnings * 3:
            async with connected(target.server.port) as connection:
                await connection.send(raw)
                reset = struct.pack("ii", 1, 0)
                connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                connection.writer.transport.abort()
        await eventually(lambda: len(target.server.handler.connections) == 0)
        await target.check([(request("GET /healthz"), FINE)])
    assert [entry for entry in said if entry["log_level"] == "error"] == []
    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []
