"""The naive reading of Safekeep's design: the POST inserts a row and calls `delay()`, a Celery process drives one job.

No outbox, so a queue that is away fails the request after the commit; no leases; a process for each call in flight.
Celery's documentation suggests a prefetch of one message where tasks are long.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import celery
from aiohttp import web
from psycopg_pool import AsyncConnectionPool

from tests.bench.peers.work import POOL_SIZE, BlockingWork, add_jobs, command, create_table, database_url, queue_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROCESSES: Final = 8
POOL: Final = web.AppKey("pool", AsyncConnectionPool)

#: Of each process, which opens it with its first task.
work = BlockingWork(connections=1)
queue = celery.Celery("naive", broker=queue_url())
queue.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue="peer-naive",
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
)


@queue.task(name="peer.drive")  # type: ignore[untyped-decorator] # celery publishes no types
def drive(guid: str) -> None:
    """Do the work of one job and hold the process until it is done."""
    work.run(uuid.UUID(guid))


async def accept(request: web.Request) -> web.Response:
    """202 with the job's address."""
    guid = uuid.uuid4()
    async with request.app[POOL].connection() as connection:
        await connection.execute(
            "insert into peer_jobs (guid, instance) values (%s, %s)", (guid, request.match_info["guid"])
        )
    drive.delay(str(guid))
    return web.Response(status=202, headers={"Location": f"/v3/jobs/{guid}"})


async def _pool(app: web.Application) -> AsyncIterator[None]:
    async with AsyncConnectionPool(database_url(), min_size=POOL_SIZE, max_size=POOL_SIZE, open=False) as app[POOL]:
        yield


def api(port: int) -> None:
    """Accept jobs over HTTP until SIGTERM."""
    create_table(database_url())
    app = web.Application()
    app.add_routes([web.post("/v3/service_instances/{guid}/backups", accept)])
    app.cleanup_ctx.append(_pool)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def worker() -> None:
    """Work until SIGTERM."""
    queue.worker_main(["worker", "--pool=prefork", f"--concurrency={PROCESSES}", "--loglevel=WARNING"])


def enqueue(count: int) -> None:
    """Make so many jobs and a message for each."""
    for guid in add_jobs(database_url(), count):
        drive.delay(str(guid))


if __name__ == "__main__":
    command(worker=worker, enqueue=enqueue, api=api)
