"""procrastinate: jobs in PostgreSQL, driven by one process with an event loop, woken by LISTEN and NOTIFY.

Its guide for production says to delete finished jobs; doing so at once is twice as quick as marking them.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Final

import procrastinate
from procrastinate.schema import SchemaManager

from tests.bench.peers.work import POOL_SIZE, SLOTS, AsyncWork, add_jobs, command, create_schema, database_url

if TYPE_CHECKING:
    from psycopg import AsyncConnection

QUEUE: Final = "peer"

# It warns of an app in the main module because of the names that tasks have there; ours has one of its own.
logging.getLogger("procrastinate.blueprints").setLevel(logging.ERROR)


async def _configure(connection: AsyncConnection) -> None:
    # Each of its statements calls one function in the database: a transaction around it is two more round trips.
    await connection.set_autocommit(True)


app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=database_url(), min_size=POOL_SIZE, max_size=POOL_SIZE, configure=_configure
    )
)


@app.task(queue=QUEUE, name="peer.drive", pass_context=True)  # type: ignore[untyped-decorator] # may not be installed
async def drive(context: procrastinate.JobContext, guid: str) -> None:
    """Do the work of one job."""
    work: AsyncWork = context.additional_context["work"]
    await work.run(uuid.UUID(guid))


def worker() -> None:
    """Work until SIGTERM."""
    _create_schema()
    asyncio.run(_work())


async def _work() -> None:
    async with AsyncWork() as work, app.open_async():
        await app.run_worker_async(
            queues=[QUEUE], concurrency=SLOTS, delete_jobs="successful", additional_context={"work": work}
        )


def enqueue(count: int) -> None:
    """Make so many jobs and defer all in one statement."""
    _create_schema()
    guids = add_jobs(database_url(), count)
    asyncio.run(_defer([str(guid) for guid in guids]))


async def _defer(guids: list[str]) -> None:
    async with app.open_async():
        await drive.batch_defer_async(*({"guid": guid} for guid in guids))


def _create_schema() -> None:
    create_schema(database_url(), SchemaManager.get_schema(), is_there="procrastinate_jobs")


if __name__ == "__main__":
    command(worker=worker, enqueue=enqueue)
