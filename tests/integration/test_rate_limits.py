"""Limits on requests: who is counted as whom, what everybody is told, and that a Redis that is away stops nobody."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import redis

from api.rate_limits import RateLimits, Window
from deploy.local.valkey import ValkeyServer
from shared.errors import SettingsError
from shared.security.verifier import create_verifier
from shared.settings import load_settings
from tests.integration.conftest import HintLog, client_of
from tests.support import bearer, eventually, seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from aiohttp import ClientResponse

    from shared.settings import Settings
    from tests.integration.conftest import Client

    ApiOf = Callable[[Settings], AbstractAsyncContextManager[Client]]

JOB = "/v3/jobs/x"  # not found, for those who may ask
BACKUPS = "/v3/service_instances/i-1/backups"
MARKS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
WINDOW_S = 10_000_000  # so long that no test sees its end
BOTH = {"rate_limit_per_user": 3, "rate_limit_per_address": 2, "rate_limit_window_s": WINDOW_S}


@pytest.fixture
def database_url(database_of_module: str) -> str:
    return database_of_module


@pytest.fixture(scope="module")
def counting_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis even where the run's queue is none."""
    with ValkeyServer(tmp_path_factory.mktemp("counting")) as server:
        yield server.url()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def limited(make_settings: Callable[..., Settings], counting_url: str) -> Callable[..., Settings]:
    return lambda **values: make_settings(**(BOTH | {"rate_limit_url": counting_url} | values))


@asynccontextmanager
async def api(settings: Settings) -> AsyncIterator[Client]:
    async with client_of(settings, HintLog(), create_verifier(settings)) as client:
        yield client


async def code_of(response: ClientResponse) -> tuple[int, int]:
    (error,) = (await response.json())["errors"]
    return response.status, error["code"]


def marks_of(response: ClientResponse) -> tuple[str, ...]:
    return tuple(response.headers[name] for name in MARKS if name in response.headers)


async def test_item_36_it_limits_nobody_unless_told_to(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    async with api(settings) as client:
        for headers in (bearer(settings), {}):
            assert marks_of(await client.get(JOB, headers=headers)) == ()


async def test_item_36_it_answers_429_to_a_user_with_too_many_requests(limited: Callable[..., Settings]) -> None:
    settings = limited()
    seed(settings)
    async with api(settings) as client:
        answers = [await client.get(BACKUPS, headers=bearer(settings)) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"3"}
        (reset,) = {int(answer.headers["X-RateLimit-Reset"]) for answer in answers}
        assert time.time() < reset <= time.time() + WINDOW_S + 1
        assert "Retry-After" not in answers[2].headers
        assert 1 <= int(answers[3].headers["Retry-After"]) <= WINDOW_S
        assert await answers[3].json() == {
            "errors": [{"code": 10013, "title": "CF-RateLimitExceeded", "detail": "Rate Limit Exceeded"}]
        }
        # Others have their own.
        assert (await client.get(JOB, headers=bearer(settings, "somebody else"))).status == 404


async def test_item_36_it_answers_429_to_an_address_with_too_many_requests(limited: Callable[..., Settings]) -> None:
    settings = limited()
    async with api(settings) as client:
        answers = [await client.get(JOB) for _ in range(3)]
        assert [await code_of(answer) for answer in answers] == [(401, 10002), (401, 10002), (429, 10014)]
        assert all(len(marks_of(answer)) == 3 for answer in answers)
        assert 1 <= int(answers[2].headers["Retry-After"]) <= WINDOW_S
        assert "Please log in." in (await answers[2].json())["errors"][0]["detail"]
        # Who has a token is not counted with those who have none.
        assert await code_of(await client.get(JOB, headers=bearer(settings))) == (404, 10010)


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({"Authorization": "bearer nonsense"}, (401, 1000)),
        ({"Authorization": "bearer a.b.c"}, (401, 1000)),
        ({"Authorization": "Basic dTpw"}, (401, 10002)),
    ],
)
async def test_item_36_it_never_answers_429_to_a_bad_token_or_basic_auth(
    limited: Callable[..., Settings], headers: dict[str, str], answer: tuple[int, int]
) -> None:
    async with api(limited()) as client:
        assert [(await client.get(JOB)).status for _ in range(3)] == [401, 401, 429]
        for _ in range(4):
            response = await client.get(JOB, headers=headers)
            assert await code_of(response) == answer
            assert marks_of(response) == ()


async def test_item_36_it_does_not_count_administrators(limited: Callable[..., Settings]) -> None:
    settings = limited()
    async with api(settings) as client:
        for _ in range(5):
            response = await client.get(JOB, headers=bearer(settings, is_admin=True))
            assert (response.status, marks_of(response)) == (404, ())


async def test_item_36_it_does_not_count_what_is_public_or_unknown(limited: Callable[..., Settings]) -> None:
    settings = limited()
    async with api(settings) as client:
        for path in ("/", "/v3", "/v3/info", "/healthz", "/v3/nothing"):
            for headers in ({}, bearer(settings)):
                for _ in range(4):
                    response = await client.get(path, headers=headers)
                    assert response.status in {200, 404}
                    assert marks_of(response) == ()


async def test_item_36_it_says_429_before_it_says_403(limited: Callable[..., Settings]) -> None:
    settings = limited()
    reader = bearer(settings, scopes=["cloud_controller.read"])
    async with api(settings) as client:
        answers = [await client.post(BACKUPS, headers=reader) for _ in range(4)]
        assert [await code_of(answer) for answer in answers] == [(403, 10003)] * 3 + [(429, 10013)]
        assert answers[0].headers["X-USER-GUID"] == "developer-guid"


async def test_item_36_it_counts_over_all_processes_and_methods(limited: Callable[..., Settings]) -> None:
    settings = limited(rate_limit_per_user=20)
    async with api(settings) as one, api(settings) as other:
        asked = [
            client.request(method, JOB, headers=bearer(settings))
            for client in (one, other)
            for method in ("GET", "HEAD") * 10
        ]
        answers = await asyncio.gather(*asked)
        assert Counter(answer.status for answer in answers) == {404: 20, 429: 20}


async def test_item_36_it_begins_anew_with_the_next_window(limited: Callable[..., Settings]) -> None:
    settings = limited(rate_limit_per_user=1, rate_limit_window_s=1)
    async with RateLimits(settings) as limits:

        async def is_within() -> bool:
            window = await limits.count("user u", 1)
            assert window
            return not window.is_exceeded

        assert False in [await is_within() for _ in range(3)]
        await eventually(is_within)


async def test_item_36_it_lets_windows_of_different_users_begin_at_different_times(
    limited: Callable[..., Settings],
) -> None:
    async with RateLimits(limited()) as limits:
        windows = [await limits.count(f"user {number}", 1) for number in range(20)]
    assert len({window.resets_at_s for window in windows if window}) > 10


async def test_item_36_it_leaves_nothing_in_redis_for_ever(limited: Callable[..., Settings], counting_url: str) -> None:
    settings = limited()
    async with RateLimits(settings) as limits:
        await limits.count("user u", 5)
        await limits.count("user u", 5)
    with redis.Redis.from_url(counting_url) as server:
        (key,) = server.keys(f"{settings.queue_prefix}*")
        assert (server.get(key), WINDOW_S <= int(server.ttl(key)) <= WINDOW_S + 60) == (b"2", True)


@pytest.mark.parametrize(
    ("limit", "used", "remaining"),
    [
        (2000, 1, 1800),
        (2000, 200, 1800),
        (2000, 201, 1600),
        (2000, 1999, 0),
        (2000, 2000, 0),
        (2000, 2001, 0),
        (2000, 9999, 0),
        (10, 1, 9),
        (10, 9, 1),
        (10, 10, 0),
        (100, 55, 40),
        (3, 1, 1),
        (3, 2, 0),
        (1, 1, 0),
    ],
)
def test_item_36_it_rounds_what_remains_down_to_tenths(limit: int, used: int, remaining: int) -> None:
    window = Window(limit=limit, used=used, now_s=0, resets_at_s=1)
    assert (window.remaining, window.is_exceeded) == (remaining, used > limit)


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("proxies", "one", "other", "is_same"),
    [
        (0, "192.0.2.1", "192.0.2.2", True),
        (1, "192.0.2.1", "192.0.2.2", False),
        (1, "198.51.100.1, 192.0.2.1", "198.51.100.2, 192.0.2.1", True),
        (1, "192.0.2.1", "nonsense, 192.0.2.1", True),
        (1, "192.0.2.1, 198.51.100.1", "192.0.2.1, 198.51.100.2", False),
        (2, "192.0.2.1, 10.0.0.1", "192.0.2.1, 10.0.0.2", True),
        (2, "192.0.2.1, 10.0.0.1", "192.0.2.2, 10.0.0.1", False),
        (2, "x, 192.0.2.1, 10.0.0.1", "192.0.2.1, 10.0.0.1", True),
        (2, "192.0.2.1", "192.0.2.1, 10.0.0.1", True),
        (1, "192.0.2.1:4711", "192.0.2.1", True),
        (1, "[2001:db8::1]:80", "2001:db8::ffff:1", True),
        (1, "2001:db8::1", "2001:db8:0:1::1", False),
        (1, "::1", "::2", True),
        (1, "::ffff:192.0.2.1", "192.0.2.1", True),
        (1, "unknown", "", True),
        (1, "é☃", ",,", True),
    ],
)
async def test_item_36_it_takes_the_address_that_our_first_proxy_saw(
    limited: Callable[..., Settings], proxies: int, one: str, other: str, *, is_same: bool
) -> None:
    async with api(limited(rate_limit_per_address=1, trusted_proxies=proxies)) as client:
        assert (await client.get(JOB, headers={"X-Forwarded-For": one})).status == 401
        again = await client.get(JOB, headers={"X-Forwarded-For": other})
        assert again.status == (429 if is_same else 401)


# ---------------------------------------------------------------- without Redis


async def test_item_36_it_lets_everybody_through_while_redis_is_stopped(
    make_settings: Callable[..., Settings], own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.rate_limits.PAUSE_AFTER_FAILURE_S", 0.01)
    settings = make_settings(**BOTH, rate_limit_url=own_valkey.url())
    async with api(settings) as client:
        statuses = [(await client.get(JOB, headers=bearer(settings))).status for _ in range(4)]
        assert statuses == [404, 404, 404, 429]
        own_valkey.stop()
        for headers, status in ((bearer(settings), 404), ({}, 401)):
            answers = [await client.get(JOB, headers=headers) for _ in range(6)]
            assert {(answer.status, marks_of(answer)) for answer in answers} == {(status, ())}
        own_valkey.start()

        async def is_counted() -> bool:
            return marks_of(await client.get(JOB, headers=bearer(settings))) != ()

        await eventually(is_counted)


async def test_item_36_it_waits_once_and_briefly_for_a_redis_that_hangs(
    make_settings: Callable[..., Settings], own_valkey: ValkeyServer
) -> None:
    settings = make_settings(**BOTH, rate_limit_url=own_valkey.url())
    async with api(settings) as client:
        assert (await client.get(JOB, headers=bearer(settings))).status == 404
        own_valkey.signal(signal.SIGSTOP)
        try:
            async with asyncio.timeout(20):  # 200 requests that each waited would take 100 s
                answers = [await client.get(JOB, headers=bearer(settings)) for _ in range(100)]
                answers += await asyncio.gather(*(client.get(JOB) for _ in range(100)))
            assert Counter(answer.status for answer in answers) == {404: 100, 401: 100}
        finally:
            own_valkey.signal(signal.SIGCONT)


async def test_item_36_it_lets_everybody_through_where_redis_refuses(
    make_settings: Callable[..., Settings], own_valkey: ValkeyServer
) -> None:
    with redis.Redis.from_url(own_valkey.url()) as server:
        server.config_set("maxmemory", "1mb")
    settings = make_settings(**BOTH, rate_limit_url=own_valkey.url())
    async with api(settings) as client:
        assert {(await client.get(JOB, headers=bearer(settings))).status for _ in range(5)} == {404}


def test_it_wants_a_redis_where_the_queue_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEKEEP_DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("SAFEKEEP_QUEUE_URL", "amqp://h")
    load_settings()
    monkeypatch.setenv("SAFEKEEP_RATE_LIMIT_PER_USER", "2000")
    with pytest.raises(SettingsError, match="SAFEKEEP_RATE_LIMIT_URL must name a Redis"):
        load_settings()
    monkeypatch.setenv("SAFEKEEP_RATE_LIMIT_URL", "http://h")
    with pytest.raises(SettingsError, match="SAFEKEEP_RATE_LIMIT_URL: must start with redis://"):
        load_settings()
    monkeypatch.setenv("SAFEKEEP_RATE_LIMIT_URL", "redis://h")
    assert load_settings().has_rate_limits
