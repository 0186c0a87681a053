"""taskiq: messages in Redis, driven by one process with an event loop.

With the broker on a list, which is a little quicker than the one on a stream, and does without acknowledgements.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker

from tests.bench.peers.work import SLOTS, AsyncWork, add_jobs, command, database_url, queue_url

queue = ListQueueBroker(queue_url(), queue_name="peer-taskiq")


@queue.on_event(TaskiqEvents.WORKER_STARTUP)  # type: ignore[untyped-decorator] # may not be installed
async def start(state: TaskiqState) -> None:
    """Open what the tasks share."""
    state.work = await AsyncWork().__aenter__()


@queue.on_event(TaskiqEvents.WORKER_SHUTDOWN)  # type: ignore[untyped-decorator] # may not be installed
async def stop(state: TaskiqState) -> None:
    """Close it."""
    await state.work.__aexit__()


@queue.task(task_name="peer.drive")  # type: ignore[untyped-decorator] # may not be installed
async def drive(guid: str) -> None:
    """Do the work of one job."""
    await queue.state.work.run(uuid.UUID(guid))


def worker() -> None:
    """Become taskiq's own program, which works until SIGTERM."""
    options = ["--workers", "1", "--max-async-tasks", str(SLOTS), "--log-level", "WARNING"]
    os.execv(sys.executable, [sys.executable, "-m", "taskiq", "worker", "tests.bench.peers.taskiq:queue", *options])


def enqueue(count: int) -> None:
    """Make so many jobs and a message for each."""
    asyncio.run(_publish([str(guid) for guid in add_jobs(database_url(), count)]))


async def _publish(guids: list[str]) -> None:
    await queue.startup()
    await asyncio.gather(*(drive.kiq(guid) for guid in guids))
    await queue.shutdown()


if __name__ == "__main__":
    command(worker=worker, enqueue=enqueue)
