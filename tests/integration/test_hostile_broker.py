"""The client for service brokers against servers that break every rule: each call ends, and means one thing."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import re
import select
import socket
import ssl
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from shared.records import BrokerAddress
from shared.security.secrets import Sealer, generate_key
from shared.settings import Settings
from tests.hostile import (
    PIECE,
    Authority,
    HostileServer,
    Visit,
    Way,
    answers_every,
    closes,
    drips,
    hangs,
    http,
    repeats,
    resets,
    says,
)
from worker.broker.client import BODY_BYTES_MAX, BrokerClient, NotReceivedError, Origin, UnclearError
from worker.broker.outcome import DESCRIPTION_BYTES_MAX, Meaning, Outcome, of_poll, of_start
from worker.steps.pauses import before_poll, before_retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.broker.client import Answer

USERNAME, PASSWORD = "hostile-user", "höstile-password"
PATH = "/v2/service_instances/i-1/backups/b-1"
ORIGIN = Origin(job_guid="job", request_id="request", traceparent=None, user_guid="user")
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTHY = HEAD + b"Content-Length: 104857600\r\n\r\n"
ENOUGH_S = 60.0  #: so long that it is over only when something hangs
A_MOMENT_S = 0.3
SUCCEEDED = '{"state": "succeeded"}'


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
                return await self.client.call(broker, method, PATH, query={"plan_id": "p"}, body=body, origin=ORIGIN)
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


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    sealer = Sealer([generate_key()])
    async with BrokerClient(settings_with(ENOUGH_S), sealer) as client:
        yield Caller(client, sealer)


@pytest.fixture
async def hasty() -> AsyncIterator[Caller]:
    """A caller that soon loses patience."""
    sealer = Sealer([generate_key()])
    async with BrokerClient(settings_with(A_MOMENT_S), sealer) as client:
        yield Caller(client, sealer)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the authority of the tests, as SSL_CERT_FILE would do for a new process."""
    context = ssl.create_default_context(cafile=str(authority.bundle))
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)


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
    ("name", "options", "reason"),
    [
        pytest.param("localhost", {"is_self_signed": True}, "not accepted: self-signed certificate", id="self-signed"),
        pytest.param("else.example", {}, "not accepted: it is for another name", id="other name"),
        pytest.param("192.0.2.1", {}, "not accepted: it is for another name", id="other address"),
        pytest.param("localhost", {"days": -1}, "not accepted: certificate has expired", id="expired"),
    ],
)
@pytest.mark.usefixtures("trust")
async def test_it_sends_nothing_to_a_broker_whose_certificate_is_wrong(
    caller: Caller, authority: Authority, name: str, options: dict[str, bool | int], reason: str
) -> None:
    tls = authority.server_context(name, **options)  # type: ignore[arg-type]  # a row of the table
    async with HostileServer(answers_every(http(200, "{}")), tls, "https", "localhost") as server:
        start, poll = await caller.start_and_poll(server.url)
        assert server.requests == []
    assert (start.meaning, poll.meaning) == (Meaning.NOT_RECEIVED, Meaning.UNCLEAR)
    assert poll.description == f"the service broker could not be reached: its TLS certificate is {reason}"


@pytest.mark.usefixtures("trust")
async def test_it_calls_a_broker_whose_certificate_is_right(caller: Caller, authority: Authority) -> None:
    tls = authority.server_context("localhost")
    async with HostileServer(answers_every(http(200, SUCCEEDED)), tls, "https", "localhost") as server:
        start, poll = await caller.start_and_poll(server.url)
    assert (start.meaning, poll.meaning) == GOOD


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        pytest.param(repeats(http(200, "{}"), 1), "it does not speak TLS as it should", id="plain text"),
        pytest.param(closes, "", id="cut"),
        pytest.param(resets, "connection reset by peer", id="reset"),
    ],
)
async def test_it_sends_nothing_without_tls_to_an_https_url(caller: Caller, way: Way, reason: str) -> None:
    async with HostileServer(way, None, "https") as server:
        start, poll = await caller.start_and_poll(server.url)
    assert (start.meaning, poll.meaning) == (Meaning.NOT_RECEIVED, Meaning.UNCLEAR)
    assert reason in (poll.description or "")


async def test_it_knows_that_nothing_was_sent_when_time_is_over_before_tls_is(hasty: Caller) -> None:
    async with HostileServer(hangs, None, "https") as server:
        start, poll = await hasty.start_and_poll(server.url)
    assert (start.meaning, poll.meaning) == (Meaning.NOT_RECEIVED, Meaning.UNCLEAR)
    assert poll.description == "the service broker could not be reached within 0.3 s"


async def test_it_knows_that_nothing_was_sent_when_nobody_listens(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    start, poll = await caller.start_and_poll(url)
    assert (start.meaning, poll.meaning) == (Meaning.NOT_RECEIVED, Meaning.UNCLEAR)
    assert poll.description == "the service broker could not be reached: connection refused"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://broker.invalid", "its name does not resolve"),
        (f"http://{'x' * 64}.invalid", ""),
        ("http://a..b", ""),
        ("ftp://broker.invalid", "its URL cannot be used"),
        ("http://u:p@broker.invalid", "its URL cannot be used"),
        ("http://broker.invalid:99999", "its URL cannot be used"),
        ("http://[::1", "its URL cannot be used"),
        ("http://", "its URL cannot be used"),
        ("", "its URL cannot be used"),
    ],
)
async def test_it_knows_that_nothing_was_sent_to_an_address_that_is_none(caller: Caller, url: str, reason: str) -> None:
    start, poll = of_start("backup", await caller.call(url, "PUT")), of_poll("backup", await caller.call(url))
    assert (start.meaning, poll.meaning) == (Meaning.NOT_RECEIVED, Meaning.UNCLEAR)
    assert "could not be reached" in (poll.description or "")
    assert reason in (poll.description or "")
    assert_can_be_shown(poll.description, "http://nowhere:none")


@pytest.mark.parametrize("method", ["PUT", "GET"])
async def test_it_does_not_forget_what_it_sent_when_the_second_try_finds_nobody(caller: Caller, method: str) -> None:
    async def vanishes(visit: Visit) -> None:
        await visit.request()
        visit.server.stop_listening()

    async with HostileServer(vanishes) as server:
        assert isinstance(await caller.call(server.url, method), UnclearError)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.usefixtures("trust")
async def test_it_never_takes_what_a_broker_says_unasked_for_the_next_answer(
    caller: Caller, authority: Authority, scheme: str
) -> None:
    said, is_time = asyncio.Event(), asyncio.Event()

    async def says_more(visit: Visit) -> None:
        await visit.request()
        await visit.send(http(200, '{"state": "in progress"}'))
        await is_time.wait()
        await visit.send(http(200, SUCCEEDED))
        said.set()
        await visit.until_gone()

    tls = authority.server_context("localhost") if scheme == "https" else None
    async with HostileServer(says_more, tls, scheme, "localhost") as server:
        assert of_poll("backup", await caller.call(server.url)).meaning is Meaning.IN_PROGRESS
        is_time.set()
        await said.wait()
        wait_for_words_on_idle_connection(caller)
        assert of_poll("backup", await caller.call(server.url)).meaning is Meaning.IN_PROGRESS
        assert (server.connections, len(server.requests)) == (2, 2)


def wait_for_words_on_idle_connection(caller: Caller) -> None:
    """Return when the system has them, without giving the loop a chance to look."""
    assert caller.client._session is not None
    assert caller.client._session.connector is not None
    ((protocol, _),) = next(iter(caller.client._session.connector._conns.values()))
    assert protocol.transport is not None
    connection = protocol.transport.get_extra_info("socket")
    assert protocol.should_close or select.select([connection], [], [], ENOUGH_S)[0]


async def test_it_keeps_connections_to_a_broker_that_behaves(caller: Caller) -> None:
    async with HostileServer(answers_every(http(200, SUCCEEDED))) as server:
        for _ in range(9):
            assert of_poll("backup", await caller.call(server.url)).meaning is Meaning.SUCCESS
        assert server.connections == 1


@pytest.mark.parametrize("way", [closes, resets], ids=["closed", "reset"])
async def test_it_knows_or_does_not_know_but_never_believes_when_it_is_cut_off_at_once(
    caller: Caller, way: Way
) -> None:
    """Whether the request was on its way already is chance."""
    async with HostileServer(way) as server:
        start, poll = await caller.start_and_poll(server.url)
    assert start.meaning in {Meaning.NOT_RECEIVED, Meaning.AMBIGUOUS}
    assert poll.meaning is Meaning.UNCLEAR


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
