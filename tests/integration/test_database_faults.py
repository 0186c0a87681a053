"""The way to PostgreSQL when the server or the network fails: an error of ours, in time, and then it goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from shared.errors import StoreError, StoreUnavailableError
from shared.store.database import Database
from tests.faults import answers, fails
from tests.support import eventually, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import LiteralString

    from shared.settings import Settings
    from tests.proxy import Proxy

SQLSTATES_OF_OUTAGES = (
    *("08006", "40001", "40P01", "53000", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P02", "57P03"),
    *("58000", "58030", "25006", "25P03"),
)
SQLSTATES_OF_BUGS = ("22012", "23505", "23514", "25001", "42601", "42P01", "54000", "55000", "P0001", "XX000")


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(database_timeout_s=2)


async def occupy(database: Database, connections: int) -> None:
    """Make the pool as large as that: all of them are needed at once."""
    await asyncio.gather(*(database.fetch("select pg_sleep(0.1)") for _ in range(connections)))


# ---------------------------------------------------------------- cut in a statement


@pytest.mark.parametrize("is_answer", [False, True])
async def test_it_keeps_both_or_none_wherever_locked_statements_are_cut(
    url: str, proxy: Proxy, database: Database, *, is_answer: bool
) -> None:
    rows(url, "create table numbers (id int primary key, number int not null)")
    rows(url, "insert into numbers values (1, 0)")
    way = proxy.answers if is_answer else proxy.requests
    lock: LiteralString = "update numbers set number = number + 1 where id = %(id)s"
    statement: LiteralString = lock + " returning mod(number, 2) as odd"
    for cut_after in range(0, 4000, 7):
        await database.fetch("select 1")
        way.cut_after_bytes = cut_after
        try:
            assert await database.fetch_locked(lock, statement, {"id": 1}) == [{"odd": 0}]
        except StoreUnavailableError:
            continue
        break
    way.cut_after_bytes = None
    assert proxy.cuts > 5
    assert rows(url, "select mod(number, 2) as odd from numbers") == [{"odd": 0}]


async def test_it_needs_one_round_trip_for_locked_statements(url: str, proxy: Proxy, database: Database) -> None:
    rows(url, "create table numbers (number int)")
    proxy.answers.is_swallowed = True
    insert: LiteralString = "insert into numbers values (%(number)s)"
    asking = asyncio.create_task(database.fetch_locked(insert, insert, {"number": 1}))
    # Both are committed though the server has not been heard of.
    await eventually(lambda: len(rows(url, "select * from numbers")) == 2)
    proxy.answers.is_swallowed = False
    proxy.cut()
    await fails(asking)


# ---------------------------------------------------------------- the pool


async def test_it_makes_no_request_pay_for_connections_that_died_while_idle(settings: Settings, url: str) -> None:
    async with Database(settings, size=8, name="test") as database:
        await occupy(database, 8)
        rows(url, "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'test'")
        assert [await database.fetch("select 1 as one") for _ in range(20)] == [[{"one": 1}]] * 20


async def test_it_serves_those_who_waited_when_the_server_is_back(
    through: Callable[..., Settings], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A long outage in a second: pauses that doubled each time would be longer than anybody waits by then.
    monkeypatch.setattr("psycopg_pool.base.AttemptWithBackoff.INITIAL_DELAY", 0.05)
    monkeypatch.setattr("shared.store.database.RECONNECT_S", 0.05)
    async with Database(through(database_timeout_s=10), size=2, name="test") as database:
        await occupy(database, 2)
        proxy.refuse()
        proxy.cut()
        asking = [asyncio.create_task(database.fetch("select 1 as one")) for _ in range(5)]
        await eventually(lambda: database._pool.get_stats().get("connections_errors", 0) > 20)
        await proxy.listen()
        assert await asyncio.gather(*asking) == [[{"one": 1}]] * 5


async def test_it_says_so_when_all_connections_are_taken(through: Callable[..., Settings]) -> None:
    async with Database(through(database_timeout_s=0.5), size=1, name="test") as database:
        await database.fetch("select 1")
        async with database._pool.connection():
            await fails(database.fetch("select 1"))
            await fails(database.fetch_locked("select 1", "select 1", {}))
        assert await database.fetch("select 1 as one") == [{"one": 1}]


async def test_it_says_so_when_the_server_takes_no_more_connections(url: str, settings: Settings) -> None:
    rows(url, "create role guest login password 'guest'")
    try:
        rows(url, "alter role guest connection limit 0")
        guest = url.replace(url.partition("://")[2].partition("@")[0], "guest:guest")
        values = settings.model_dump() | {"database_url": guest, "database_timeout_s": 0.5}
        async with Database(type(settings)(**values), size=2, name="test") as database:
            await fails(database.fetch("select 1"))
            rows(url, "alter role guest connection limit -1")
            await eventually(lambda: answers(database))
    finally:
        rows(url, "drop role guest")


# ---------------------------------------------------------------- silence


@pytest.mark.parametrize("way", ["requests", "answers"])
async def test_it_does_not_wait_for_a_network_that_swallows_everything(
    through: Callable[..., Settings], proxy: Proxy, way: str
) -> None:
    async with Database(through(database_timeout_s=0.3), size=4, name="test") as database:
        await occupy(database, 4)
        getattr(proxy, way).is_swallowed = True
        await fails(database.fetch("select 1"))
        getattr(proxy, way).is_swallowed = False
        # Those that were idle would hang as well, for the network forgot them; they are gone already.
        proxy.answers.is_swallowed = False
        assert await database.fetch("select 1 as one") == [{"one": 1}]


async def test_it_does_not_wait_for_a_server_that_never_answers(through: Callable[..., Settings], proxy: Proxy) -> None:
    proxy.requests.is_swallowed = True
    async with Database(through(database_timeout_s=0.5), size=2, name="test") as database:
        await fails(database.fetch("select 1"))
        proxy.requests.is_swallowed = False
        await eventually(lambda: answers(database))


@pytest.mark.parametrize("is_locked", [False, True])
async def test_it_cancels_without_waiting_for_the_server(
    through: Callable[..., Settings], proxy: Proxy, url: str, *, is_locked: bool
) -> None:
    sleep: LiteralString = "select pg_sleep(60)"
    async with Database(through(database_timeout_s=60), size=1, name="test") as database:
        doing = database.fetch_locked("select 1", sleep, {}) if is_locked else database.fetch(sleep)
        task = asyncio.create_task(doing)
        await eventually(lambda: bool(rows(url, "select 1 as one from pg_stat_activity where wait_event = 'PgSleep'")))
        proxy.requests.is_swallowed = proxy.answers.is_swallowed = True
        task.cancel()
        async with asyncio.timeout(4):  # less than the driver's own patience
            await asyncio.wait([task])
        assert task.cancelled()
        proxy.requests.is_swallowed = proxy.answers.is_swallowed = False
        assert await database.fetch("select 1 as one") == [{"one": 1}]


# ---------------------------------------------------------------- what the server says


async def test_it_takes_what_is_nobodys_fault_for_an_outage(database: Database, url: str) -> None:
    for sqlstate in SQLSTATES_OF_OUTAGES:
        make_failing(url, sqlstate)
        await fails(database.fetch("select fail()"))
        assert await database.fetch("select 1 as one") == [{"one": 1}]
        await fails(database.fetch_locked("select 1", "select fail()", {}))
        await fails(database.fetch_locked("select fail()", "select 1", {}))
        assert await database.fetch("select 1 as one") == [{"one": 1}]


async def test_it_does_not_take_a_bug_for_an_outage(database: Database, url: str) -> None:
    for sqlstate in SQLSTATES_OF_BUGS:
        make_failing(url, sqlstate)
        for doing in (
            database.fetch("select fail()"),
            database.fetch_locked("select 1", "select fail()", {}),
            database.fetch_locked("select fail()", "select 1", {}),
        ):
            with pytest.raises(StoreError) as caught:
                await doing
            assert not isinstance(caught.value, StoreUnavailableError), sqlstate


def make_failing(url: str, sqlstate: str) -> None:
    rows(
        url,
        "create or replace function fail() returns int language plpgsql as"
        f" $$ begin raise exception 'on purpose' using errcode = '{sqlstate}'; end $$",
    )


async def test_it_takes_new_connections_when_the_server_became_read_only(
    through: Callable[..., Settings], url: str, postgres_url: str
) -> None:
    rows(url, "create table numbers (number int)")
    name = url.rpartition("/")[2]
    async with Database(through(), size=1, name="test") as database:
        rows(url, f'alter database "{name}" set default_transaction_read_only = on')
        await fails(database.fetch("insert into numbers values (1)"))
        rows(postgres_url, f'alter database "{name}" reset default_transaction_read_only')
        # The session that was told at its start that it may not write is gone.
        await eventually(lambda: writes(database))


async def writes(database: Database) -> bool:
    try:
        return await database.fetch("insert into numbers values (1) returning 1 as one") == [{"one": 1}]
    except StoreUnavailableError:
        return False


async def test_it_sees_a_deadlock_as_an_outage_and_the_other_one_goes_on(
    through: Callable[..., Settings], url: str
) -> None:
    rows(url, "create table numbers (id int primary key)")
    rows(url, "insert into numbers values (1), (2)")
    # The one that waits longer finds the deadlock.
    impatient = f"{url}?options=-c%20deadlock_timeout%3D50ms"
    async with Database(through(database_url=impatient), size=1, name="test") as database:
        with psycopg.connect(url, options="-c deadlock_timeout=60s") as other:
            other.execute("select from numbers where id = 2 for update")
            asking = asyncio.create_task(
                database.fetch_locked(
                    "select from numbers where id = 1 for update", "select from numbers where id = 2 for update", {}
                )
            )
            await eventually(lambda: bool(rows(url, "select 1 as one from pg_locks where not granted")))
            blocked = asyncio.to_thread(other.execute, "select id from numbers where id = 1 for update")
            crossing = asyncio.create_task(blocked)
            await fails(asking)
            assert (await crossing).fetchall() == [(1,)]
        assert len(await database.fetch("select id from numbers for update")) == 2
