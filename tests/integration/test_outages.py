"""API and workers over an outage of PostgreSQL: a server of these tests' own, which crashes, hangs and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from deploy.local.databases import scratch_database
from deploy.local.postgres import PostgresServer
from shared.store.database import Database
from shared.store.jobs import Jobs
from shared.store.migrate import migrate
from tests.faults import fails
from tests.proxy import Proxy
from tests.support import ScriptedBroker, accept_all, bearer, eventually, job_request, rows, seed
from worker.engine import LOOKS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import ClientResponse

    from shared.records import JobRequest
    from shared.settings import Settings
    from tests.integration.conftest import Client

BACKUPS = "/v3/service_instances/i-1/backups"
JOBS = 12
QUICK: dict[str, Any] = {
    "database_timeout_s": 1,
    "dispatch_interval_s": 0.02,
    "hint_interval_s": 0.2,
    "poll_interval_s": 0.01,
    "start_backoff_s": 0.01,
    "broker_timeout_s": 0.4,
    "lease_s": 1,
    "worker_grace_s": 0.2,
    "start_attempts": 100,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres"), is_durable=False) as server:
        yield server


@pytest.fixture
def database_url(server: PostgresServer) -> Iterator[str]:
    with scratch_database(server.url(), prefix="safekeep_test") as url:
        migrate(url)
        # The server does without syncing files, which only a computer's crash needs; its own crash needs this.
        rows(url, f'alter database "{url.rpartition("/")[2]}" set synchronous_commit = on')
        yield url


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(**QUICK)


@pytest.fixture
def url(settings: Settings) -> str:
    return settings.database_url.get_secret_value()


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """Stop every process that serves the database, as a hung disk or an overloaded host would.

    None of them in the middle of a write: its rows would stay locked, and nobody could go on until it does.
    """
    writing = "select 1 from pg_locks where pid = any(%s) and locktype = 'transactionid' and granted"
    while True:
        stopped = [row["pid"] for row in rows(url, "select pid from pg_stat_activity where application_name <> ''")]
        assert stopped
        send(signal.SIGSTOP, stopped)
        if not rows(url, writing, stopped):
            break
        send(signal.SIGCONT, stopped)
    try:
        yield
    finally:
        send(signal.SIGCONT, stopped)


def send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, number)


# ---------------------------------------------------------------- the store


@pytest.mark.parametrize("is_locked", [False, True])
async def test_it_lets_go_of_a_hung_server(settings: Settings, url: str, *, is_locked: bool) -> None:
    async with Database(settings, size=4, name="test") as database:
        await asyncio.gather(*(database.fetch("select pg_sleep(0.1)") for _ in range(4)))
        with frozen(url):
            await fails(database.fetch_locked("select 1", "select 1", {}) if is_locked else database.fetch("select 1"))
            # The others hang too, and are not tried one after the other: the server takes new ones.
            assert await database.fetch("select 1 as one") == [{"one": 1}]


async def test_it_ends_while_the_server_hangs(settings: Settings, server: PostgresServer) -> None:
    quick = settings.model_copy(update={"database_timeout_s": 0.3})
    os.kill(server.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20), Database(quick, size=2, name="test") as database:
            await fails(database.fetch("select 1"))
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize("is_crash", [False, True])
async def test_it_makes_no_request_pay_for_a_restart(
    settings: Settings, server: PostgresServer, *, is_crash: bool
) -> None:
    patient = settings.model_copy(update={"database_timeout_s": 10})
    async with Database(patient, size=4, name="test") as database:
        await asyncio.gather(*(database.fetch("select pg_sleep(0.1)") for _ in range(4)))
        restart(server, is_crash=is_crash)
        assert [await database.fetch("select 1 as one") for _ in range(9)] == [[{"one": 1}]] * 9


def restart(server: PostgresServer, *, is_crash: bool = True) -> None:
    port = server.port
    if is_crash:
        server.crash()
    else:
        server.stop()
    server.start()
    assert server.port == port


async def test_it_ends_a_statement_that_the_server_died_under(settings: Settings, server: PostgresServer) -> None:
    patient = settings.model_copy(update={"database_timeout_s": 10})
    async with Database(patient, size=1, name="test") as database:
        await database.fetch("select 1")
        asking = asyncio.create_task(database.fetch("select pg_sleep(30)"))
        query = "select 1 as one from pg_stat_activity where wait_event = 'PgSleep'"
        await eventually(lambda: bool(rows(server.url(), query)))
        restart(server)
        await fails(asking)
        assert await database.fetch("select 1 as one") == [{"one": 1}]


# ---------------------------------------------------------------- the API


async def check_unavailable(response: ClientResponse) -> None:
    assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert await response.json() == {
        "errors": [{"code": 10015, "title": "CF-ServiceUnavailable", "detail": "Database connection failure"}]
    }


async def test_it_answers_503_while_the_database_is_away_and_goes_on_when_it_is_back(
    client: Client, settings: Settings, server: PostgresServer
) -> None:
    seed(settings, instances=["i-1", "i-2"])
    headers = bearer(settings)
    accepted = await client.post(BACKUPS, headers=headers)
    assert accepted.status == 202
    job = "/" + accepted.headers["Location"].split("/", 3)[3]
    server.crash()
    try:
        responses = await asyncio.gather(
            client.post("/v3/service_instances/i-2/backups", headers=headers),
            client.get(job, headers=headers),
            client.get(BACKUPS, headers=headers),
            client.post(
                "/v3/service_instances/i-1/actions/restore", headers=headers, json={"backup_id": str(uuid.uuid4())}
            ),
        )
        for response in responses:
            await check_unavailable(response)
        ready = await client.get("/readyz")
        assert (ready.status, (await ready.json())["status"]) == (503, "unavailable")
        assert (await client.get("/healthz")).status == 200
    finally:
        server.start()
    assert (await client.get("/readyz")).status == 200
    assert (await client.get(job, headers=headers)).status == 200
    assert (await client.get(BACKUPS, headers=headers)).status == 200
    assert (await client.post("/v3/service_instances/i-2/backups", headers=headers)).status == 202


async def test_it_answers_503_when_the_table_is_locked(client: Client, settings: Settings, url: str) -> None:
    seed(settings)
    headers = bearer(settings)
    with psycopg.connect(url) as other:
        other.execute("lock table jobs in access exclusive mode")
        await check_unavailable(await client.post(BACKUPS, headers=headers))
        await check_unavailable(await client.get(f"/v3/jobs/{uuid.uuid4()}", headers=headers))
    assert (await client.post(BACKUPS, headers=headers)).status == 202
    assert rows(url, "select count(*) as n from jobs") == [{"n": 1}]


async def test_it_answers_503_and_stores_nothing_when_the_server_cannot_write(
    client: Client, settings: Settings, url: str
) -> None:
    seed(settings)
    headers = bearer(settings)
    for sqlstate in ("53100", "25006", "40001", "40P01", "57P01"):
        make_failing(url, sqlstate)
        # The last of the rows that an accept writes.
        rows(url, "create or replace trigger fail after insert on backups for each row execute function fail()")
        await check_unavailable(await client.post(BACKUPS, headers=headers))
        assert rows(url, "select guid from jobs union select guid from backups") == []
    rows(url, "drop trigger fail on backups")
    assert (await client.post(BACKUPS, headers=headers)).status == 202


def make_failing(url: str, sqlstate: str) -> None:
    rows(
        url,
        "create or replace function fail() returns trigger language plpgsql as"
        f" $$ begin raise exception 'on purpose' using errcode = '{sqlstate}'; end $$",
    )


# ---------------------------------------------------------------- the worker


async def accept(settings: Settings, broker: ScriptedBroker) -> list[JobRequest]:
    instances = [f"i-{number}" for number in range(JOBS)]
    seeded = seed(settings, instances=instances, broker_url=broker.url)
    requests = [job_request(seeded.broker_guid, instance) for instance in instances]
    async with Database(settings, size=1, name="test") as database:
        assert await accept_all(Jobs(database, settings), *requests) == [True] * JOBS
    rows(settings.database_url.get_secret_value(), "update jobs set next_hint_at = now()")
    return requests


def have_come(broker: ScriptedBroker, calls: int) -> bool:
    return len(broker.calls) >= calls


def have_been_cut(proxy: Proxy, cuts: int) -> bool:
    return proxy.cuts >= cuts


async def check_each_ended_once(url: str, broker: ScriptedBroker, requests: list[JobRequest]) -> None:
    open_jobs = "select guid from jobs where completed_at is null"
    await eventually(lambda: not rows(url, open_jobs), timeout_s=60)
    assert rows(url, "select distinct state from jobs") == [{"state": "succeeded"}]
    assert rows(url, "select distinct state from backups") == [{"state": "succeeded"}]
    ends = rows(url, "select job_guid from job_steps where event = 'succeeded'")
    assert sorted(row["job_guid"] for row in ends) == sorted(request.guid for request in requests)
    assert broker.made == {str(request.resource_guid): 1 for request in requests}
    assert rows(url, "select job_guid from job_steps group by job_guid, fence having count(*) > 1") == []


@pytest.mark.parametrize("is_crash", [False, True])
async def test_it_ends_every_job_once_though_the_database_restarts_meanwhile(
    settings: Settings,
    url: str,
    broker: ScriptedBroker,
    engine_of: Callable[..., Any],
    server: PostgresServer,
    *,
    is_crash: bool,
) -> None:
    broker.polls_until_done = 10
    requests = await accept(settings, broker)
    async with engine_of(settings):
        for calls in (1, 4 * JOBS):
            await eventually(partial(have_come, broker, calls))
            restart(server, is_crash=is_crash)
        await check_each_ended_once(url, broker, requests)


async def test_it_ends_every_job_once_though_connections_are_cut_all_the_time(
    settings: Settings, url: str, broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    broker.polls_until_done = 5
    requests = await accept(settings, broker)
    async with Proxy(url) as proxy:
        behind = type(settings)(**(settings.model_dump() | {"database_url": proxy.url}))
        async with engine_of(behind):
            for cut in range(1, 11):
                way = proxy.answers if cut % 2 else proxy.requests
                # Each time at another byte of whatever is under way.
                way.cut_after_bytes = 997 * cut
                await eventually(partial(have_been_cut, proxy, cut))
            await check_each_ended_once(url, broker, requests)


async def test_it_takes_hints_at_once_though_the_database_is_away(
    settings: Settings, url: str, broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    requests = await accept(settings, broker)
    async with Proxy(url) as proxy:
        behind = type(settings)(**(settings.model_dump() | {"database_url": proxy.url}))
        async with engine_of(behind) as engine:
            proxy.refuse()
            proxy.cut()
            # Whoever hands them over also hands over the pulses by which a worker is known to be well.
            async with asyncio.timeout(20):
                for _ in range(2 * LOOKS_MAX):
                    await asyncio.to_thread(engine.take, [str(requests[0].guid)])
            assert await asyncio.to_thread(engine.ping, 20)
            await proxy.listen()
            await check_each_ended_once(url, broker, requests)


async def test_it_ends_every_job_once_though_the_server_hung(
    settings: Settings, url: str, broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    broker.polls_until_done = 5
    requests = await accept(settings, broker)
    quick = settings.model_copy(update={"database_timeout_s": 0.5})
    async with engine_of(quick):
        await eventually(partial(have_come, broker, JOBS))
        with frozen(url):
            await check_each_ended_once(url, broker, requests)
    # What the hung backends still had in hand came too late, and changed nothing.
    await check_each_ended_once(url, broker, requests)
