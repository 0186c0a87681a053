"""The client for service brokers and connections that do not come about, break, or are used by others.

What was certainly not sent is told from what may have been.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl

import pytest

from tests.certificates import Authority
from tests.hostile import (
    ENOUGH_S,
    Caller,
    HostileServer,
    Visit,
    Way,
    answers_every,
    assert_can_be_shown,
    closes,
    hangs,
    http,
    repeats,
    resets,
)
from worker.broker.client import UnclearError
from worker.broker.outcome import Meaning, of_poll, of_start

SUCCEEDED = '{"state": "succeeded"}'
GOOD = (Meaning.SUCCESS, Meaning.SUCCESS)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the authority of the tests, as SSL_CERT_FILE would do for a new process."""
    context = ssl.create_default_context(cafile=str(authority.bundle))
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)


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
