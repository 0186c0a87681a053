"""What the store's two ways to run a statement promise, on a real database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from shared.errors import StoreError, StoreUnavailableError
from shared.store.database import Database
from tests.support import eventually, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.settings import Settings

LOCK = "select from numbers where id = %(id)s for update"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    settings = make_settings(database_timeout_s=2)
    url = settings.database_url.get_secret_value()
    rows(url, "create table numbers (id int primary key, number int not null)")
    rows(url, "insert into numbers values (1, 10)")
    return settings


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    async with Database(settings, size=2, name="test") as database:
        yield database


async def test_it_shows_what_was_committed_while_it_waited_for_the_lock(database: Database, settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    with psycopg.connect(url) as other:
        other.execute("update numbers set number = 11 where id = 1")
        asking = asyncio.create_task(database.fetch_locked(LOCK, "select max(number) as n from numbers", {"id": 1}))
        await eventually(lambda: bool(rows(url, "select 1 as one from pg_locks where not granted")))
        # A row that a snapshot from before the wait could not see.
        other.execute("insert into numbers values (2, 12)")
    assert await asking == [{"n": 12}]


async def test_it_does_both_statements_or_none(database: Database) -> None:
    first = "update numbers set number = 0 where id = %(id)s"
    with pytest.raises(StoreError):
        await database.fetch_locked(first, "select 1 / (%(id)s - 1)", {"id": 1})
    assert await database.fetch("select number from numbers") == [{"number": 10}]
    with pytest.raises(StoreError):
        await database.fetch_locked("select 1 / (%(id)s - 1)", first, {"id": 1})
    assert await database.fetch("select number from numbers") == [{"number": 10}]


async def test_it_keeps_what_a_locked_statement_wrote(database: Database) -> None:
    change = "update numbers set number = number + 1 where id = %(id)s returning number"
    # Often enough for the driver to prepare both.
    for number in range(11, 21):
        assert await database.fetch_locked(LOCK, change, {"id": 1}) == [{"number": number}]
    assert await database.fetch("select number from numbers") == [{"number": 20}]
    assert await database.fetch_locked(LOCK, "delete from numbers where id = %(id)s", {"id": 1}) == []
    assert await database.fetch("select number from numbers") == []


async def test_it_gives_up_on_a_lock_that_is_held_too_long(database: Database, settings: Settings) -> None:
    with psycopg.connect(settings.database_url.get_secret_value()) as other:
        other.execute("update numbers set number = 11 where id = 1")
        with pytest.raises(StoreUnavailableError):
            await database.fetch_locked(LOCK, "select 1 as one", {"id": 1})
    assert await database.fetch_locked(LOCK, "select number from numbers", {"id": 1}) == [{"number": 11}]


async def test_it_leaves_the_last_word_to_the_url(settings: Settings) -> None:
    url = f"{settings.database_url.get_secret_value()}?options=-c%20statement_timeout%3D7s"
    theirs = type(settings)(**(settings.model_dump() | {"database_url": url}))
    async with Database(theirs, size=1, name="test") as database:
        shown = await database.fetch(
            "select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock,"
            " current_setting('idle_in_transaction_session_timeout') as idle,"
            " current_setting('tcp_keepalives_idle') as silence, current_setting('application_name') as name"
        )
    assert shown == [{"statement": "7s", "lock": "1s", "idle": "2s", "silence": "15", "name": "test"}]
