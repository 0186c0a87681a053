"""Limits and circuit breakers per broker, held over all workers; and that nobody delays others."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import AsyncExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiohttp import web

from shared.records import Claim, Step
from shared.states import Event
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.support import QUICK, ScriptedBroker, eventually, job_request, read_job, rows, seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    from shared.settings import Settings


OTHERS = "select 1 from jobs where completed_at is null and broker_guid <> %s"


class Pool:
    """Jobs of several brokers and users, straight in the store."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.url = settings.database_url.get_secret_value()
        self.database = database
        self.jobs = Jobs(database, settings)

    def broker(self, name: str = "broker", url: str = "http://127.0.0.1:9") -> UUID:
        return seed(self.settings, instances=(), broker=name, broker_url=url).broker_guid

    async def accept(self, broker: UUID, count: int = 1, user: str = "ann") -> list[UUID]:
        requests = [job_request(broker, str(uuid.uuid4()), user_guid=user) for _ in range(count)]
        assert all(await self.jobs.accept(requests))
        guids = [request.guid for request in requests]
        rows(self.url, "update jobs set next_hint_at = now() where guid = any(%s)", guids)
        return guids

    async def claim(self, guids: list[UUID]) -> tuple[list[Claim], list[float | None]]:
        found = await self.jobs.claim(guids, owner="w", lease_s=60)
        return found.claims, [refusal.pause_s for refusal in found.refusals]

    async def record(self, claims: list[Claim], *, was_answered: bool | None, due_in_s: float | None = 0) -> None:
        is_end = due_in_s is None
        steps = [
            Step(
                claim=claim,
                worker="w",
                call="start",
                event=Event.SUCCEEDED if is_end else Event.TRY_AGAIN,
                outcome="test",
                due_in_s=due_in_s,
                was_answered=was_answered,
            )
            for claim in claims
        ]
        assert all(await self.jobs.record(steps))

    def state(self) -> dict[str, Any]:
        return rows(
            self.url,
            "select failures, openings, is_probing, extract(epoch from retry_at - now())::float8 as retry_in_s"
            " from broker_states",
        )[0]


@pytest.fixture
def make_pool(make_settings: Callable[..., Settings]) -> Callable[..., Any]:
    async def make(stack: AsyncExitStack, **values: Any) -> Pool:
        settings = make_settings(**QUICK | values)
        return Pool(settings, await stack.enter_async_context(Database(settings, size=8, name="test")))

    return make


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_it_never_has_more_calls_in_flight_than_the_limit(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack, broker_calls_in_flight=7)
    guids = await pool.accept(pool.broker(), 40)
    # Many claimers at once, each of whom would find room for all of its own.
    found = await asyncio.gather(*(pool.claim(guids[n : n + 5]) for n in range(0, 40, 5)))
    claims = [claim for claimed, _ in found for claim in claimed]
    assert len(claims) == 7
    assert sum(len(refused) for _, refused in found) == 33
    assert {pause for _, refused in found for pause in refused} == {None}
    await pool.record(claims[:3], was_answered=True, due_in_s=None)
    again, _ = await pool.claim(guids)
    assert len(again) == 3


async def test_it_lets_a_broker_have_a_limit_of_its_own(make_pool: Callable[..., Any], stack: AsyncExitStack) -> None:
    pool = await make_pool(stack)
    guids = await pool.accept(pool.broker(), 5)
    rows(pool.url, "update brokers set calls_in_flight = 2")
    assert len((await pool.claim(guids))[0]) == 2


async def test_it_counts_no_lease_that_is_over(make_pool: Callable[..., Any], stack: AsyncExitStack) -> None:
    pool = await make_pool(stack, broker_calls_in_flight=2)
    guids = await pool.accept(pool.broker(), 4)
    await pool.claim(guids)
    rows(pool.url, "update jobs set lease_until = now() where lease_until is not null")
    assert len((await pool.claim(guids))[0]) == 2


async def test_it_spreads_the_calls_of_a_minute(make_pool: Callable[..., Any], stack: AsyncExitStack) -> None:
    pool = await make_pool(stack, broker_calls_per_minute=60)
    broker = pool.broker()
    total = 0
    began = time.monotonic()
    for second in range(60):
        guids = await pool.accept(broker, 10)
        claims, refused = await pool.claim(guids)
        total += len(claims)
        assert claims or all(pause is not None and 0 < pause <= 60 for pause in refused)
        await pool.record(claims, was_answered=True, due_in_s=None)
        rows(pool.url, "update broker_states set tokens_at = tokens_at - interval '1 second'")
        # A tenth at once, and the rest at its pace: what was skipped above, and what really passed.
        assert total <= 6 + 54 / 60 * (second + 1 + time.monotonic() - began)
    assert total > 50


async def test_it_opens_the_breaker_after_failures_in_a_row_and_probes_with_one_call(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack, breaker_failures=3, breaker_pause_s=10, breaker_pause_max_s=30)
    guids = await pool.accept(pool.broker(), 10)
    claims, _ = await pool.claim(guids[:4])
    await pool.record(claims[:2], was_answered=False)
    await pool.record(claims[2:3], was_answered=True)  # an answer in between
    assert pool.state()["failures"] == 0
    claims, _ = await pool.claim(guids[4:7])
    await pool.record(claims, was_answered=False)
    assert (pool.state()["failures"], pool.state()["openings"]) == (3, 1)
    assert 9 < pool.state()["retry_in_s"] <= 10
    claims, refused = await pool.claim(guids)
    assert claims == []
    assert all(pause is not None and 9 < pause <= 10 for pause in refused)
    assert await pool.jobs.hint_due() == []

    rows(pool.url, "update broker_states set retry_at = now()")
    (probe,), refused = await pool.claim(guids)
    assert len(refused) == 8  # the one that is still on its way is not due
    assert pool.state()["is_probing"]
    assert (await pool.claim(guids))[0] == []
    await pool.record([probe], was_answered=False)
    assert pool.state()["openings"] == 2
    assert 19 < pool.state()["retry_in_s"] <= 20  # twice as long

    rows(pool.url, "update broker_states set retry_at = now()")
    (probe,), _ = await pool.claim(guids)
    await pool.record([probe], was_answered=True)
    assert pool.state() == {"failures": 0, "openings": 0, "is_probing": False, "retry_in_s": None}
    assert len((await pool.claim(guids))[0]) > 1


async def test_it_does_not_reopen_for_calls_that_were_out_when_it_opened(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack, breaker_failures=2, breaker_pause_s=10, breaker_pause_max_s=300)
    claims, _ = await pool.claim(await pool.accept(pool.broker(), 20))
    for number in range(0, 20, 2):
        await pool.record(claims[number : number + 2], was_answered=False)
    assert pool.state()["openings"] == 1


async def test_it_lets_another_probe_out_when_the_first_one_died(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack, breaker_failures=1)
    guids = await pool.accept(pool.broker(), 3)
    claims, _ = await pool.claim(guids[:1])
    await pool.record(claims, was_answered=False)
    for _ in range(2):
        rows(pool.url, "update broker_states set retry_at = now()")
        assert len((await pool.claim(guids))[0]) == 1


async def test_it_ends_jobs_at_their_deadline_though_their_broker_is_left_alone(
    make_pool: Callable[..., Any], stack: AsyncExitStack, engine_of: Callable[..., Any]
) -> None:
    pool = await make_pool(stack)
    broker = pool.broker()
    await pool.accept(broker)
    rows(pool.url, "update broker_states set failures = 9, retry_at = now() + interval '1 hour'")
    # The deadline is fixed, so time passes by moving all of it.
    rows(pool.url, "alter table jobs disable trigger jobs_identity_is_fixed")
    rows(pool.url, "update jobs set deadline_at = now()")
    async with engine_of(pool.settings):
        await eventually(lambda: rows(pool.url, "select state from jobs")[0]["state"] == "failed")
    assert rows(pool.url, "select call, event from job_steps") == [{"call": "none", "event": "expired"}]


async def test_it_tells_readers_that_a_job_waits_for_its_broker(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack)
    (guid,) = await pool.accept(pool.broker("postgres-broker"))
    rows(pool.url, "update broker_states set failures = 9, retry_at = '2099-01-02 03:04:05Z'")
    job = await read_job(pool.database, guid)
    assert job
    assert job.broker_retry_at
    assert (job.broker_name, job.broker_retry_at.isoformat()) == ("postgres-broker", "2099-01-02T03:04:05+00:00")


async def test_it_hints_some_jobs_of_every_broker_and_every_user(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack, hint_interval_s=30)
    one, two = pool.broker("one"), pool.broker("two")
    await pool.accept(one, 300, "ann")
    (bob,) = await pool.accept(one, 1, "bob")
    (other,) = await pool.accept(two, 1, "ann")
    first = await pool.jobs.hint_due(limit=100)
    assert {bob, other} < {job.guid for job in first}
    assert len(first) == 100
    # What a process has enough of is passed over, but for users who have none of it.
    (cid,) = await pool.accept(one, 1, "cid")
    assert [job.guid for job in await pool.jobs.hint_due(crowded={one: ["ann"]}, limit=100)] == [cid]


async def test_it_takes_in_all_users_of_a_crowded_broker_wherever_it_begins(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack, hint_interval_s=30)
    broker = pool.broker()
    users = [f"{number:x}-user" for number in range(16)]
    for user in users:
        await pool.accept(broker, 5, user)
    for _ in range(10):
        due = await pool.jobs.hint_due(limit=16)
        assert len({job.guid for job in due}) == len(due) == 16
        hinted = rows(pool.url, "select user_guid from jobs where guid = any(%s)", [job.guid for job in due])
        assert sorted(row["user_guid"] for row in hinted) == users
        await pool.jobs.take_back_hints([job.guid for job in due])


async def test_it_hints_polls_before_starts_and_restores_before_backups(
    make_pool: Callable[..., Any], stack: AsyncExitStack
) -> None:
    pool = await make_pool(stack, hint_interval_s=30)
    broker = pool.broker()
    guids = await pool.accept(broker, 30)
    rows(pool.url, "update jobs set state = 'poll' where guid = %s", guids[17])
    due = await pool.jobs.hint_due(limit=10)
    assert due[0].guid == guids[17]


class Brokers:
    """Ten brokers, each of which takes its time for an answer; those in `hung` never answer."""

    def __init__(self) -> None:
        self.started: list[tuple[str, float]] = []
        self.hung: set[str] = set()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.put("/{name}/v2/service_instances/{i}/backups/{id}", self._start)])
        app.add_routes([web.get("/{name}/v2/service_instances/{i}/backups/{id}", self._read)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _start(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.started.append((name, time.monotonic()))
        await asyncio.sleep(3600 if name in self.hung else 0.02)  # the time that the broker takes
        return web.json_response({}, status=201)

    async def _read(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({})


async def test_it_starts_the_one_job_of_a_user_within_the_first_of_anothers_thousand(
    make_pool: Callable[..., Any], stack: AsyncExitStack, broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    pool = await make_pool(stack, broker_calls_in_flight=10, calls_in_flight=20)
    guid = pool.broker(url=broker.url)
    for _ in range(10):
        await pool.accept(guid, 100, "ann")
    await pool.accept(guid, 1, "bob")
    async with engine_of(pool.settings):
        await eventually(lambda: rows(pool.url, "select 1 from jobs where completed_at is null") == [], 90)
    started = rows(
        pool.url,
        "select user_guid from jobs join job_steps on job_guid = guid and job_steps.fence = 1 order by recorded_at",
    )
    place = [row["user_guid"] for row in started].index("bob")
    assert len(started) == 1001
    assert place < 50


async def test_it_keeps_nine_brokers_going_while_the_tenth_hangs(
    make_pool: Callable[..., Any],
    stack: AsyncExitStack,
    engine_of: Callable[..., Any],
) -> None:
    brokers = await stack.enter_async_context(Brokers())
    pool = await make_pool(stack, broker_calls_in_flight=10, calls_in_flight=100, hint_interval_s=5)
    names = [f"b{number}" for number in range(10)]
    guids = {name: pool.broker(name, f"{brokers.url}/{name}") for name in names}
    rates: dict[bool, list[float]] = {False: [], True: []}
    async with engine_of(pool.settings):
        for is_hung in (False, True) * 3:
            brokers.hung = {names[0]} if is_hung else set()
            brokers.started.clear()
            began = time.monotonic()
            for name in names:
                await pool.accept(guids[name], 40)
            await eventually(lambda: rows(pool.url, OTHERS, guids[names[0]]) == [], 60)
            rates[is_hung].append(9 * 40 / (time.monotonic() - began))
            # The hung one's jobs are taken away, so that each round begins alike.
            brokers.hung = set()
            rows(pool.url, "update broker_states set failures = 0, retry_at = null, is_probing = false, openings = 0")
            rows(pool.url, "update jobs set next_hint_at = now() where completed_at is null and lease_until is null")
            await eventually(lambda: rows(pool.url, "select 1 from jobs where completed_at is null") == [], 60)
    # Not a timed assertion: both are of this run. It would be a tenth of the other if the hung one held the others up.
    assert median(rates[True]) > 0.5 * median(rates[False]), rates
