"""What statements cost as finished jobs pile up: `python -m tests.bench.growth --sizes 10000,1000000,10000000`.

For each size its own PostgreSQL, durable, with so many finished jobs, all that belongs to them, and ten thousand open
jobs of which a thousand are due. Each call of the store is made some hundred times; printed are medians and 99th
percentiles, and how many times the smallest size's median the others' are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final, cast

import psycopg
from psycopg.rows import dict_row

from deploy.local.postgres import PostgresServer
from shared.directory.tables import TablesDirectory
from shared.lists import AuditEventFilter, JobFilter
from shared.records import Step
from shared.security.callers import Caller
from shared.security.secrets import generate_key
from shared.security.tokens import ADMIN_SCOPES
from shared.settings import Settings
from shared.states import Event, JobState
from shared.store.audit_events import AuditEvents
from shared.store.backups import Backups
from shared.store.database import Database
from shared.store.job_lists import JobLists
from shared.store.jobs import Jobs
from shared.store.migrate import migrate
from tests.bulk import BUSY_INSTANCES, DAYS, QUIET_INSTANCES, guid_of, seed_directory, seed_finished, seed_open
from tests.support import job_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from typing import LiteralString

    Calls = dict[str, Callable[[], Awaitable[object]]]

OPEN: Final = 10_000
DUE: Final = 1_000
RATIO_MAX: Final = 1.2
#: Three steps of each job are twice as much to write as all else; the largest size has one.
STEPS: Final = 3
MANY: Final = 2_000_000
WARM_UP: Final = 20
FREE: Final = QUIET_INSTANCES + BUSY_INSTANCES + OPEN
TABLES: Final = ("jobs", "job_steps", "backups", "restores", "audit_events")
#: What loading goes without; only the server of the benchmark is set so, and only while it loads.
LOADING: Final = {
    "max_wal_size": "16GB",
    "maintenance_work_mem": "1GB",
    "synchronous_commit": "off",
    "autovacuum": "off",
}
#: As a server of its own would have it: with the local stack's 64 MiB one would measure the system's page cache.
SERVER: Final = {"shared_buffers": "2GB"}
ADMIN: Final = Caller("admin", "admin", frozenset(ADMIN_SCOPES))
QUIET_INSTANCE: Final = str(guid_of("instance", 33))
QUIET_USER: Final = str(guid_of("user", 3))


class Undone:
    """A database whose statements leave nothing behind."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def fetch(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[Any]:
        """The rows of `statement`."""
        async with self._connection.transaction(force_rollback=True):
            cursor = await self._connection.execute(statement, parameters)
            return await cursor.fetchall()


def load(connection: psycopg.Connection[Any], settings: Settings, finished: int) -> None:
    """Fill the tables; indexes are made afterwards, which is many times as quick."""
    _configure(connection, LOADING)
    seed_directory(connection, settings, instances=FREE + 5000)
    constraints = connection.execute(
        "select conrelid::regclass::text as table_name, conname as name, pg_get_constraintdef(oid) as definition"
        " from pg_constraint where conrelid = any(%s::regclass[])"
        " and (contype = 'p' or confrelid = any(%s::regclass[])) order by contype desc",
        (list(TABLES), list(TABLES)),
    ).fetchall()
    indexes = connection.execute(
        "select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition from pg_index"
        " where indrelid = any(%s::regclass[]) and not indisprimary",
        (list(TABLES),),
    ).fetchall()
    for index in indexes:
        connection.execute(f"drop index {index['name']}".encode())
    for each in reversed(constraints):
        connection.execute(f"alter table {each['table_name']} drop constraint {each['name']}".encode())
    seed_finished(connection, finished, steps=STEPS if finished < MANY else 1)
    for each in constraints:
        # The rows refer to each other as they should; looking at all of them would only take time.
        is_reference = each["definition"].startswith("FOREIGN")
        definition = each["definition"] + (" not valid" if is_reference else "")
        connection.execute(f"alter table {each['table_name']} add constraint {each['name']} {definition}".encode())
    for index in indexes:
        connection.execute(index["definition"])
    seed_open(connection, OPEN, due=DUE)
    connection.execute("vacuum (freeze, analyze)")
    connection.execute("checkpoint")
    _configure(connection, dict.fromkeys(LOADING, ""))


def _configure(connection: psycopg.Connection[Any], settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        connection.execute((f"alter system set {name} = '{value}'" if value else f"alter system reset {name}").encode())
    connection.execute("select pg_reload_conf()")


@asynccontextmanager
async def calls(settings: Settings, retention_s: float) -> AsyncIterator[Calls]:
    """What is measured, by name."""
    async with (
        Database(settings, size=1, name="bench") as database,
        await psycopg.AsyncConnection.connect(
            settings.database_url.get_secret_value(), autocommit=True, row_factory=dict_row
        ) as connection,
    ):
        yield _calls(settings, database, cast("Database", Undone(connection)), retention_s)


def _calls(settings: Settings, database: Database, undone: Database, retention_s: float) -> Calls:
    jobs, lists = Jobs(database, settings), JobLists(database)
    backups, events = Backups(database), AuditEvents(database)
    directory = TablesDirectory(database, staleness_s=0)
    free = iter(range(FREE, FREE + 5000))
    due = [guid_of("open", number) for number in range(DUE)]
    claims: list[Any] = []

    async def accept() -> None:
        (accepted,) = await jobs.accept([job_request(guid_of("broker", 0), str(guid_of("instance", next(free))))])
        assert accepted.is_stored

    async def claim() -> None:
        claims[:] = (await jobs.claim(due[:100], owner="bench", lease_s=60)).claims
        assert len(claims) == 100

    async def record() -> None:
        steps = [
            Step(claim=each, worker="bench", call="poll", event=Event.IN_PROGRESS, outcome="", due_in_s=0.0)
            for each in claims
        ]
        assert all(await jobs.record(steps))
        due[:] = due[100:] + due[:100]

    def page(**wanted: Any) -> Callable[[], Awaitable[object]]:
        return lambda: lists.list_page(JobFilter(**wanted))

    def count(**wanted: Any) -> Callable[[], Awaitable[object]]:
        return lambda: lists.count(JobFilter(**wanted), count_max=10_000)

    newest = AuditEventFilter(is_newest_first=True, limit=50, offset=0)
    failed = (JobState.FAILED, JobState.CANCELLED)
    return {
        "accept 1": accept,
        "claim 100": claim,
        "record 100": record,
        "hint due": lambda: _hint(jobs),
        "read a job": lambda: lists.find_each([guid_of("job", 4711)]),
        "page of all jobs": page(),
        "page of failed jobs": page(states=failed),
        "page of an instance": page(service_instance_guids=(QUIET_INSTANCE,)),
        "page of a user": page(reader=QUIET_USER),
        "count of all jobs": count(),
        "count of an instance": count(service_instance_guids=(QUIET_INSTANCE,)),
        "count of a user": count(reader=QUIET_USER),
        "newest 5 backups": lambda: backups.list_newest(QUIET_INSTANCE, 5),
        "read a backup": lambda: backups.find(guid_of("resource", 3300), QUIET_INSTANCE),
        "clean-ups": jobs.list_clean_ups,
        "prune 200": lambda: Jobs(undone, settings).prune(retention_s=retention_s, limit=200),
        "find an instance": lambda: directory.find_instance(QUIET_INSTANCE, ADMIN),
        "page of audit events": lambda: events.list_page(newest, ADMIN),
    }


async def _hint(jobs: Jobs) -> None:
    """Hint what is due, and take it back, so that it is due for a hint again."""
    hinted = await jobs.hint_due(limit=100)
    assert hinted
    await jobs.take_back_hints([job.guid for job in hinted])


async def measure(settings: Settings, retention_s: float, repetitions: int) -> dict[str, list[float]]:
    """The times of each call in milliseconds. The calls take turns, so that a slow moment is shared by all."""
    times: dict[str, list[float]] = {}
    async with calls(settings, retention_s) as measured:
        for repetition in range(-WARM_UP, repetitions):
            for name, call in measured.items():
                began = time.perf_counter()
                await call()
                if repetition >= 0:
                    times.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    return times


def run(finished: int, repetitions: int) -> dict[str, Any]:
    """What was measured with so many finished jobs."""
    with (
        tempfile.TemporaryDirectory(prefix="safekeep-bench-") as home,
        PostgresServer(Path(home), settings=SERVER) as server,
    ):
        migrate(server.url())
        settings = Settings.model_validate(
            {"database_url": server.url(), "queue_url": "redis://127.0.0.1:1", "secret_keys": generate_key()}
        )
        began = time.monotonic()
        with psycopg.connect(server.url(), autocommit=True, row_factory=dict_row) as connection:
            load(connection, settings, finished)
            row = connection.execute("select pg_database_size(current_database()) as bytes").fetchone()
            # The thousand oldest may go.
            retention_s = DAYS * 86400 * (1 - 1000 / finished)
        loaded_s = time.monotonic() - began
        size_mib = round(row["bytes"] / 2**20) if row else 0
        print(f"{finished:>9} finished jobs: {size_mib} MiB, loaded in {loaded_s:.0f} s", flush=True)
        times = asyncio.run(measure(settings, retention_s, repetitions))
    return {"finished": finished, "mib": size_mib, "times": times}


def report(results: Sequence[dict[str, Any]]) -> bool:
    """Print the table; whether all is flat."""
    print(f"\n{'p50 / p99 in ms':24}" + "".join(f"{result['finished']:>18}" for result in results) + "   ratio")
    is_flat = True
    for name, first in results[0]["times"].items():
        cells = [_cell(result["times"][name]) for result in results]
        ratios = [median(result["times"][name]) / median(first) for result in results[1:]]
        is_flat = is_flat and all(ratio <= RATIO_MAX for ratio in ratios)
        marks = "".join(f"  {ratio:5.2f}{'' if ratio <= RATIO_MAX else ' !'}" for ratio in ratios)
        print(f"{name:24}" + "".join(f"{cell:>18}" for cell in cells) + marks)
    print(f"ratios of medians, at most {RATIO_MAX}: {'flat' if is_flat else 'NOT FLAT'}")
    return is_flat


def _cell(times: Sequence[float]) -> str:
    return f"{median(times):.2f} / {quantiles(times, n=100)[98]:.2f}"


def main() -> int:
    """Measure and print; 1 when something grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,1000000,10000000", help="finished jobs, smallest first")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    arguments = parser.parse_args()
    results = [run(int(size), arguments.repetitions) for size in arguments.sizes.split(",")]
    if arguments.json:
        arguments.json.write_text(json.dumps(results), encoding="utf-8")
    return 0 if report(results) else 1


if __name__ == "__main__":
    sys.exit(main())
