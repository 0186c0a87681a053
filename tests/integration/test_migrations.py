"""The schema: applied once, by any number of processes, and never in a version that nobody knows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from deploy.local.databases import scratch_database
from shared.errors import SchemaError, StoreUnavailableError
from shared.store.migrate import known_migrations, migrate
from tests.support import rows

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    with scratch_database(postgres_url, prefix="safekeep_test") as url:
        yield url


def test_it_applies_what_is_missing_and_then_nothing(empty_url: str) -> None:
    assert migrate(empty_url) == known_migrations()
    assert migrate(empty_url) == []


def test_it_is_safe_to_run_several_at_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(migrate, [empty_url] * 4))
    assert sorted(map(len, applied)) == [0, 0, 0, len(known_migrations())]


def test_it_refuses_a_schema_that_is_newer_than_the_code(empty_url: str) -> None:
    migrate(empty_url)
    rows(empty_url, "insert into schema_migrations (version, name, checksum) values (9999, 'future', '')")
    with pytest.raises(SchemaError, match="9999_future"):
        migrate(empty_url)


def test_it_notices_a_migration_that_was_edited(empty_url: str) -> None:
    migrate(empty_url)
    rows(empty_url, "update schema_migrations set checksum = 'other' where version = 1")
    with pytest.raises(SchemaError, match="0001_initial was edited"):
        migrate(empty_url)


def test_it_changes_nothing_when_it_fails(empty_url: str) -> None:
    rows(empty_url, "create table roles ()")  # in the way of the first migration
    with pytest.raises(Exception, match="roles"):
        migrate(empty_url)
    assert rows(empty_url, "select to_regclass('jobs') as jobs") == [{"jobs": None}]


def test_it_says_that_the_server_is_away() -> None:
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        migrate("postgresql://u@127.0.0.1:1/d")
