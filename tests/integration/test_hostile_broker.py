"""The client for service brokers and answers that break every rule: each call ends, and means one thing."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import zlib

import pytest

from tests.hostile import (
    PIECE,
    Caller,
    HostileServer,
    Visit,
    Way,
    answers_every,
    drips,
    hangs,
    http,
    repeats,
    resets,
    says,
    settings_with,
)
from worker.broker.client import BODY_BYTES_MAX
from worker.broker.outcome import DESCRIPTION_BYTES_MAX, Meaning, of_poll
from worker.steps.pauses import before_poll, before_retry

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTHY = HEAD + b"Content-Length: 104857600\r\n\r\n"
SUCCEEDED = '{"state": "succeeded"}'


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(hangs, id="after accepting"),
        pytest.param(says(b"", hangs), id="after the request"),
        pytest.param(says(HEAD + b"Content-", hangs), id="in the headers"),
        pytest.param(says(LENGTHY, hangs), id="after the headers"),
        pytest.param(says(http(200, SUCCEEDED, length=99), hangs), id="in the body"),
        pytest.param(says(CHUNKED + b"5\r\n{}", hangs), id="in a chunk"),
        pytest.param(says(b"HTTP/1.1 100 Continue\r\n\r\n", hangs), id="after 100 Continue"),
        pytest.param(says(HEAD, drips(b"X: y\r\n")), id="dripping headers"),
        pytest.param(says(HEAD + b"X:", repeats(PIECE)), id="flooding a header with spaces"),
        pytest.param(says(LENGTHY, drips(b" ")), id="dripping a body"),
        pytest.param(says(CHUNKED, drips(b"1\r\n \r\n")), id="dripping chunks"),
        pytest.param(says(b"", drips(b"HTTP/1.1 102 Processing\r\n\r\n")), id="dripping 1xx"),
        pytest.param(says(b"", repeats(b"HTTP/1.1 102 Processing\r\n\r\n" * 99)), id="flooding 1xx"),
    ],
)
async def test_it_loses_patience_with_a_broker_that_does_not_end_its_answer(hasty: Caller, way: Way) -> None:
    async with HostileServer(way) as server:
        start, poll = await hasty.start_and_poll(server.url)
    assert (start.meaning, poll.meaning) == (Meaning.AMBIGUOUS, Meaning.UNCLEAR)
    assert poll.description == "the service broker did not answer within 0.3 s"


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        pytest.param(says(b""), "closed the connection without an answer", id="cut before headers"),
        pytest.param(says(HEAD + b"Content-"), "closed the connection without an answer", id="cut in headers"),
        pytest.param(says(http(200, SUCCEEDED, length=99)), "broke off in the middle", id="cut in a body"),
        pytest.param(says(http(400, "", length=99)), "broke off in the middle", id="cut in the body of a refusal"),
        pytest.param(says(CHUNKED + b'16\r\n{"state"'), "broke off in the middle", id="cut in a chunk"),
        pytest.param(
            says(CHUNKED + b"16\r\n" + SUCCEEDED.encode() + b"\r\n"), "broke off in the middle", id="cut between chunks"
        ),
        pytest.param(says(CHUNKED + b"xyz\r\n{}\r\n0\r\n\r\n"), "", id="chunk of no size"),
        pytest.param(says(b"", resets), "connection reset by peer", id="reset before headers"),
        pytest.param(says(LENGTHY + b"{", resets), "", id="reset in a body"),
        pytest.param(says(b"garbage\r\n\r\n"), "not valid HTTP", id="garbage"),
        pytest.param(says(b"\0\xff\xfe\r\n\r\n"), "not valid HTTP", id="binary garbage"),
        pytest.param(says(b"HTTP/1.1 abc OK\r\n\r\n"), "not valid HTTP", id="status that is no number"),
        pytest.param(says(b"HTTP/1.1 99999 OK\r\n\r\n"), "not valid HTTP", id="status of five digits"),
        pytest.param(says(b"HTTP/9.9 200 OK\r\n\r\n{}"), "not valid HTTP", id="HTTP/9.9"),
        pytest.param(says(SUCCEEDED.encode()), "not valid HTTP", id="HTTP/0.9"),
        pytest.param(says(HEAD + b"X: " + b"x" * 10_000 + b"\r\n\r\n"), "not valid HTTP", id="long header"),
        pytest.param(says(b"HTTP/1.1 200 " + b"x" * 10_000 + b"\r\n\r\n"), "not valid HTTP", id="long status line"),
        pytest.param(says(HEAD + b"X: y\r\n" * 1000 + b"\r\n"), "not valid HTTP", id="many headers"),
        pytest.param(says(HEAD, repeats(b"X: y\r\n")), "not valid HTTP", id="endless headers"),
        pytest.param(says(HEAD + b"X: ", repeats(b"x" * 9999)), "not valid HTTP", id="endless header"),
        pytest.param(says(http(200, "{}", "Content-Length: 7")), "not valid HTTP", id="two lengths"),
        pytest.param(says(HEAD + b"Content-Length: -1\r\n\r\n{}"), "not valid HTTP", id="negative length"),
        pytest.param(says(CHUNKED + b"0\r\n", repeats(b"X: " + PIECE)), "", id="endless trailer"),
    ],
)
async def test_it_cannot_tell_what_a_broken_answer_means(caller: Caller, way: Way, reason: str) -> None:
    async with HostileServer(way) as server:
        start, poll = await caller.start_and_poll(server.url)
    assert (start.meaning, poll.meaning) == (Meaning.AMBIGUOUS, Meaning.UNCLEAR)
    assert (start.http_status, poll.http_status) == (None, None)
    assert reason in (poll.description or "")


GOOD = (Meaning.SUCCESS, Meaning.SUCCESS)
BAD = (Meaning.AMBIGUOUS, Meaning.UNCLEAR)


@pytest.mark.parametrize(
    ("body", "meanings"),
    [
        pytest.param(SUCCEEDED, GOOD, id="plain"),
        pytest.param("\ufeff" + SUCCEEDED, GOOD, id="byte order mark"),
        pytest.param("", BAD, id="nothing"),
        pytest.param(SUCCEEDED[:-1], BAD, id="half"),
        pytest.param(SUCCEEDED * 2, BAD, id="twice"),
        pytest.param("<html></html>", BAD, id="HTML"),
        pytest.param("[]", BAD, id="list"),
        pytest.param("null", BAD, id="null"),
        pytest.param('"succeeded"', BAD, id="text"),
        pytest.param('{"state": "failed", "state": "succeeded"}', BAD, id="two states"),
        pytest.param('{"state": "succeeded", "x": {"a": 1, "a": 1}}', BAD, id="two of a name inside"),
        pytest.param(SUCCEEDED.encode("utf-16"), BAD, id="UTF-16"),
        pytest.param(b'{"state": "succeeded", "x": "\xff"}', BAD, id="invalid UTF-8"),
        pytest.param(b'{"state": "succeeded", "x": "\xed\xa0\x80"}', BAD, id="surrogate in UTF-8"),
        pytest.param('{"state": "succeeded", "x": NaN}', BAD, id="NaN"),
        pytest.param('{"state": "succeeded", "x": -Infinity}', BAD, id="Infinity"),
        pytest.param('{"state": "succeeded", "x": 1e999}', BAD, id="infinite number"),
        pytest.param('{"state": "succeeded", "x": %s}' % ("9" * 100_000), BAD, id="huge integer"),
        pytest.param("[" * 500_000, BAD, id="deep list"),
        pytest.param('{"state":' * 100_000, BAD, id="deep object"),
    ],
)
async def test_it_takes_nothing_but_one_json_object_for_an_answer(
    caller: Caller, body: str | bytes, meanings: tuple[Meaning, Meaning]
) -> None:
    async with HostileServer(says(http(200, body))) as server:
        start, poll = await caller.start_and_poll(server.url)
    assert (start.meaning, poll.meaning) == meanings
    assert (start.http_status, poll.http_status) == (200, 200)


@pytest.mark.parametrize(
    ("answer", "meanings"),
    [
        pytest.param(http(200, SUCCEEDED, "Content-Type: text/html"), GOOD, id="JSON that is called HTML"),
        pytest.param(http(200, "<p>", "Content-Type: application/json"), BAD, id="HTML that is called JSON"),
        pytest.param(http(200, SUCCEEDED, "Content-Type: ;;;/"), GOOD, id="type that is none"),
        pytest.param(http(200, SUCCEEDED, "Content-Type: a/b; charset=utf-7"), GOOD, id="other character set"),
        pytest.param(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" * 9 + http(200, SUCCEEDED), GOOD, id="1xx before it"),
        pytest.param(HEAD + b"\r\n" + SUCCEEDED.encode(), GOOD, id="no length"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + SUCCEEDED.encode(), GOOD, id="HTTP/1.0"),
        pytest.param(http(200, gzip.compress(SUCCEEDED.encode()), "Content-Encoding: gzip"), BAD, id="compressed"),
        pytest.param(http(200, SUCCEEDED, "Content-Encoding: gzip"), GOOD, id="said to be compressed"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}", BAD, id="101"),
        pytest.param(http(204), BAD, id="204"),
        pytest.param(http(299, SUCCEEDED), BAD, id="299"),
        pytest.param(http(304), BAD, id="304"),
        pytest.param(http(999, SUCCEEDED), BAD, id="999"),
    ],
)
async def test_it_decides_by_status_and_content_alone(
    caller: Caller, answer: bytes, meanings: tuple[Meaning, Meaning]
) -> None:
    async with HostileServer(says(answer)) as server:
        start, poll = await caller.start_and_poll(server.url)
        assert all(b"accept-encoding: identity\r\n" in request.lower() for request in server.requests)
    assert (start.meaning, poll.meaning) == meanings


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["same host", "other host"])
async def test_it_follows_no_redirect(caller: Caller, status: int, place: str) -> None:
    async with HostileServer(answers_every(http(200, SUCCEEDED))) as other:
        target = f"{other.url}/v2/trap" if place == "other host" else "/v2/trap"
        async with HostileServer(answers_every(http(status, SUCCEEDED, f"Location: {target}"))) as server:
            start, poll = await caller.start_and_poll(server.url)
        assert (start.meaning, poll.meaning, start.http_status) == (*BAD, status)
        assert len(server.requests) == 2
        assert other.connections == 0


def inflating(kind: int) -> bytes:
    """A few kilobytes that inflate to 128 MB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, kind)
    return b"".join([*(packer.compress(PIECE) for _ in range(2048)), packer.flush()])


@pytest.mark.parametrize("head", [LENGTHY, CHUNKED, HEAD + b"\r\n"], ids=["length", "chunks", "no length"])
async def test_it_reads_no_more_of_a_body_than_it_will_hold(caller: Caller, head: bytes) -> None:
    piece = b"10000\r\n" + PIECE + b"\r\n" if head is CHUNKED else PIECE
    async with HostileServer(says(head, repeats(piece, 1600))) as server:
        outcomes = await caller.start_and_poll(server.url)
        assert (outcomes[0].meaning, outcomes[1].meaning) == BAD
        # What was not read stayed in buffers of the system, whose sizes are its own affair.
        assert server.bytes_sent < 2 * (BODY_BYTES_MAX + (8 << 20))


@pytest.mark.parametrize(("name", "kind"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
async def test_it_inflates_nothing(caller: Caller, name: str, kind: int) -> None:
    bomb = inflating(kind)
    assert len(bomb) < BODY_BYTES_MAX
    async with HostileServer(says(http(200, bomb, f"Content-Encoding: {name}"))) as server:
        answer = await caller.call(server.url)
    assert (getattr(answer, "status", None), getattr(answer, "body", ...)) == (200, None)


async def test_it_holds_a_body_of_just_the_size_that_is_allowed(caller: Caller) -> None:
    for excess, meaning in ((0, Meaning.SUCCESS), (1, Meaning.UNCLEAR)):
        body = SUCCEEDED + " " * (BODY_BYTES_MAX - len(SUCCEEDED) + excess)
        async with HostileServer(says(http(200, body))) as server:
            assert of_poll("backup", await caller.call(server.url)).meaning is meaning


async def test_it_bounds_time_and_size_together(hasty: Caller) -> None:
    """Neither bound relies on the other, on what the answer says of itself, or on the broker noticing."""

    async def floods(visit: Visit) -> None:
        await asyncio.gather(repeats(b"HTTP/1.1 200 OK\r\n\r\n" + PIECE)(visit), visit.until_gone())

    async with HostileServer(floods) as server:
        outcomes = await hasty.start_and_poll(server.url)
        assert (outcomes[0].meaning, outcomes[1].meaning) == BAD
        assert server.bytes_sent < 2 * (BODY_BYTES_MAX + (8 << 20))


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 1e9, 2**31),
        ("Thu, 01 Jan 99999999999999999 00:00:00 GMT", None, None),
        ("Thu, 01 Jan 2020 00:00:00 +99999999999999", None, None),
        ("Thu, 99 Jan 2020 99:99:99 GMT", None, None),
        ("-7", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("²", None, None),
        ("1" + "0" * 400, 2**31, 2**31),
        ("9" * 5000, 2**31, 2**31),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_it_waits_a_bounded_time_whatever_retry_after_says(
    caller: Caller, value: str, least: float | None, most: float | None
) -> None:
    async with HostileServer(answers_every(http(503, "{}", f"Retry-After: {value}"))) as server:
        start, poll = await caller.start_and_poll(server.url)
    assert start.meaning is (Meaning.AMBIGUOUS if least is None else Meaning.WAIT)
    for pause_s in (start.retry_after_s, poll.retry_after_s):
        assert (pause_s is None) == (least is None)
        assert pause_s is None or (least or 0) <= pause_s <= (most or math.inf)
    settings = settings_with(1)
    for attempts in (1, 10**6):
        assert 0 < before_retry(settings, attempts, start.retry_after_s) < math.inf
        assert 0 < before_poll(settings, attempts, poll.retry_after_s) < 2 * settings.retry_after_max_s


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({}, "the service broker reported a failure and gave no reason"),
        ({"description": " "}, "the service broker reported a failure and gave no reason"),
        ({"description": ["no", "text"]}, "the service broker reported a failure and gave no reason"),
        ({"description": "the disk is full"}, "the disk is full"),
        ({"description": "x" + "€" * DESCRIPTION_BYTES_MAX}, "x" + "€" * ((DESCRIPTION_BYTES_MAX - 1) // 3)),
    ],
    ids=["none", "blank", "list", "short", "long"],
)
async def test_it_has_a_reason_for_every_failure(caller: Caller, said: dict[str, object], shown: str) -> None:
    body = json.dumps({"state": "failed", **said}, ensure_ascii=False)
    async with HostileServer(says(http(200, body))) as server:
        poll = of_poll("backup", await caller.call(server.url))
    assert poll.meaning is Meaning.FAILURE
    assert poll.error is not None
    assert poll.error.detail == f"backup could not be completed: {shown}"
