"""What every peer does for a job: claim its row, PUT at the broker, record, GET last_operation, record the end.

Once for those with an event loop and once for those that block. Each statement is a transaction and a round trip of
its own, and connections are kept, to PostgreSQL and to the broker. Times are the database's. A job that its worker
finds claimed is somebody else's, so a message that comes twice is harmless.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import aiohttp
import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

#: Jobs in hand at once, of all peers but the naive one, whose slots are processes. BENCH_SLOTS says another number.
SLOTS: Final = int(os.environ.get("BENCH_SLOTS", "200"))
#: More connections than this make two cores slower, not faster.
POOL_SIZE: Final = 16
CALL_TIMEOUT_S: Final = 60
#: Of the advisory lock under which tables are made: "if not exists" alone fails where two do it at once.
_LOCK: Final = 0x5AFE_BE7C

_TABLE: Final = """
create table if not exists peer_jobs (
    guid uuid primary key,
    instance text not null,
    state text not null default 'start',
    claimed_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz not null default now()
)
"""
_ADD: Final = """
insert into peer_jobs (guid, instance)
select gen_random_uuid(), gen_random_uuid()::text from generate_series(1, %s)
returning guid
"""
_CLAIM: Final = """
update peer_jobs set state = 'claimed', claimed_at = clock_timestamp()
where guid = %s and state = 'start'
returning instance
"""
_RECORD: Final = "update peer_jobs set state = 'polling' where guid = %s and state = 'claimed'"
_FINISH: Final = """
update peer_jobs set state = 'succeeded', completed_at = clock_timestamp()
where guid = %s and state = 'polling'
"""


class WorkError(Exception):
    """The broker answered what it should not. The job's row stays as it is."""


def database_url() -> str:
    """Where PostgreSQL is: BENCH_DATABASE_URL."""
    return os.environ["BENCH_DATABASE_URL"]


def queue_url() -> str:
    """Where Redis or Valkey is: BENCH_QUEUE_URL."""
    return os.environ["BENCH_QUEUE_URL"]


def broker_url() -> str:
    """Where the service broker is, without a slash at the end: BENCH_BROKER_URL."""
    return os.environ["BENCH_BROKER_URL"]


def create_table(url: str) -> None:
    """Make the table of the peers' jobs where there is none."""
    create_schema(url, _TABLE, is_there="peer_jobs")


def create_schema(url: str, statements: str, *, is_there: str) -> None:
    """Run the statements unless the table `is_there` is. Several processes may do this at once."""
    with psycopg.connect(url) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        found = connection.execute("select to_regclass(%s) is not null", (is_there,)).fetchone()
        if found != (True,):
            connection.execute(statements.encode())


def add_jobs(url: str, count: int) -> list[UUID]:
    """Insert so many jobs, each of an instance of its own, and return their guids."""
    create_table(url)
    with psycopg.connect(url) as connection:
        return [guid for (guid,) in connection.execute(_ADD, (count,))]


def _path(instance: str, guid: UUID) -> str:
    return f"/v2/service_instances/{instance}/backups/{guid}"


def _check(status: int, answer: Any, expected: dict[str, Any]) -> None:  # Any: the JSON of the answer
    if not 200 <= status < 300 or any(answer.get(name) != value for name, value in expected.items()):
        raise WorkError(f"the broker answered {status} {answer}")


class AsyncWork:
    """The work of many jobs at once on one event loop: one pool, one HTTP session."""

    def __init__(self) -> None:
        self.pool = AsyncConnectionPool(
            database_url(), min_size=POOL_SIZE, max_size=POOL_SIZE, open=False, kwargs={"autocommit": True}
        )

    async def __aenter__(self) -> Self:
        await self.pool.open(wait=True)
        # As many connections as there are slots: aiohttp's own limit is 100.
        self._http = aiohttp.ClientSession(
            broker_url(),
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._http.close()
        await self.pool.close()

    async def run(self, guid: UUID) -> None:
        """Do the work of one job. Raises WorkError."""
        async with self.pool.connection() as connection:
            claimed = await (await connection.execute(_CLAIM, (guid,))).fetchone()
        if claimed is None:
            return
        path = _path(claimed[0], guid)
        async with self._http.put(path, json={}) as response:
            _check(response.status, await response.json(), {})
        async with self.pool.connection() as connection:
            await connection.execute(_RECORD, (guid,))
        async with self._http.get(f"{path}/last_operation") as response:
            _check(response.status, await response.json(), {"state": "succeeded"})
        async with self.pool.connection() as connection:
            await connection.execute(_FINISH, (guid,))


class BlockingWork:
    """The work of one job after the other in each thread: a pool for the process, an HTTP connection for the thread."""

    def __init__(self, *, connections: int) -> None:
        self._pool = ConnectionPool(
            database_url(), min_size=connections, max_size=connections, open=False, kwargs={"autocommit": True}
        )
        self._thread = threading.local()

    def run(self, guid: UUID) -> None:
        """Do the work of one job. Raises WorkError, OSError, HTTPException."""
        # Not before the first job, since processes are forked; and one thread does it, whichever comes first.
        self._pool.open()
        with self._pool.connection() as connection:
            claimed = connection.execute(_CLAIM, (guid,)).fetchone()
        if claimed is None:
            return
        path = _path(claimed[0], guid)
        self._call("PUT", path, body="{}")
        with self._pool.connection() as connection:
            connection.execute(_RECORD, (guid,))
        self._call("GET", f"{path}/last_operation", state="succeeded")
        with self._pool.connection() as connection:
            connection.execute(_FINISH, (guid,))

    def _call(self, method: str, path: str, *, body: str | None = None, **expected: str) -> None:
        http: HTTPConnection | None = getattr(self._thread, "http", None)
        if http is None:
            http = self._thread.http = HTTPConnection(urlsplit(broker_url()).netloc, timeout=CALL_TIMEOUT_S)
        headers = {} if body is None else {"Content-Type": "application/json"}
        http.request(method, path, body=body, headers=headers)
        response = http.getresponse()
        _check(response.status, json.loads(response.read()), expected)


def command(
    *, worker: Callable[[], None], enqueue: Callable[[int], None], api: Callable[[int], None] | None = None
) -> None:
    """Do what the command line says: `worker`, `enqueue COUNT`, or `api PORT` of a peer that has one."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    commands.add_parser("worker", help="work until SIGTERM").set_defaults(run=lambda _: worker())
    enqueuing = commands.add_parser("enqueue", help="make jobs and publish them")
    enqueuing.add_argument("count", type=int)
    enqueuing.set_defaults(run=lambda arguments: enqueue(arguments.count))
    if api is not None:
        serving = commands.add_parser("api", help="accept jobs over HTTP until SIGTERM")
        serving.add_argument("port", type=int)
        serving.set_defaults(run=lambda arguments: api(arguments.port))
    arguments = parser.parse_args()
    arguments.run(arguments)
