"""The limit of the work: one asyncio process that does the same calls and records, with no queue and no rules.

`python -m tests.bench.no_queue --concurrency 200 --calls 3 [--is-coalesced]` works on all rows of `bench_jobs`, and
then waits for SIGTERM. Of the calls, the third is the one with which Safekeep asks for the size of a finished backup;
peers do without it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any, Final, LiteralString

import aiohttp
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from shared.coalescer import Coalescer
from tests.support import rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

POOL_SIZE: Final = 8
TABLE: Final = "bench_jobs"

_CREATE: Final = """
create table bench_jobs (
    guid         uuid primary key default gen_random_uuid(),
    instance     text not null default gen_random_uuid()::text,
    state        text not null default 'start',
    claimed_at   timestamptz,
    completed_at timestamptz
)
"""
_CLAIM: Final = """
update bench_jobs set state = 'claimed', claimed_at = clock_timestamp()
where guid = any(%(guids)s) and state = 'start' returning guid
"""
_ACCEPTED: Final = "update bench_jobs set state = 'poll' where guid = any(%(guids)s) returning guid"
_SUCCEEDED: Final = """
update bench_jobs set state = 'succeeded', completed_at = clock_timestamp() where guid = any(%(guids)s) returning guid
"""


def fill(database_url: str, count: int) -> None:
    """Make the table, with so many rows to work on."""
    rows(database_url, _CREATE)
    rows(database_url, "insert into bench_jobs select from generate_series(1, %s)", count)
    rows(database_url, "vacuum analyze bench_jobs")


class Statement:
    """One of the statements, for jobs each on its own or for those that meet."""

    def __init__(self, pool: AsyncConnectionPool[Any], text: LiteralString, *, is_coalesced: bool) -> None:
        self._pool = pool
        self._text = text
        self._coalescer: Coalescer[UUID, bool] | None = Coalescer(self._flush) if is_coalesced else None

    async def run(self, guid: UUID) -> None:
        """Run it for one job. Raises RuntimeError when the job is not there, or somebody else's."""
        changed = await self._coalescer.submit(guid) if self._coalescer else (await self._flush([guid]))[0]
        if not changed:
            raise RuntimeError(f"job {guid} did not change")

    async def _flush(self, guids: Sequence[UUID]) -> list[bool]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._text, {"guids": list(guids)})
            changed = {row["guid"] for row in await cursor.fetchall()}
        return [guid in changed for guid in guids]


async def work(concurrency: int, calls: int, *, is_coalesced: bool) -> None:
    """Do all jobs."""
    database_url, broker_url = os.environ["BENCH_DATABASE_URL"], os.environ["BENCH_BROKER_URL"]
    todo = iter(rows(database_url, "select guid, instance from bench_jobs"))
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        database_url, min_size=POOL_SIZE, open=False, kwargs={"autocommit": True, "row_factory": dict_row}
    )
    async with pool, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        claim, accepted, succeeded = (
            Statement(pool, text, is_coalesced=is_coalesced) for text in (_CLAIM, _ACCEPTED, _SUCCEEDED)
        )

        async def call(method: str, url: str, **options: Any) -> None:  # Any: options of aiohttp
            async with session.request(method, url, **options) as response:
                response.raise_for_status()
                await response.json()

        async def take_turns() -> None:
            for job in todo:
                guid = job["guid"]
                url = f"{broker_url}/v2/service_instances/{job['instance']}/backups/{guid}"
                await claim.run(guid)
                await call("PUT", url, json={"service_id": "service-id", "plan_id": "plan-id"})
                await accepted.run(guid)
                await call("GET", f"{url}/last_operation")
                if calls > 2:
                    await call("GET", url)
                await succeeded.run(guid)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(take_turns())
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        await stopping.wait()


def main() -> None:
    """Read the arguments and work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--calls", type=int, choices=(2, 3), default=3)
    parser.add_argument("--is-coalesced", action="store_true")
    options = parser.parse_args()
    asyncio.run(work(options.concurrency, options.calls, is_coalesced=options.is_coalesced))


if __name__ == "__main__":
    main()
