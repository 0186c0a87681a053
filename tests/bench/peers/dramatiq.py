"""dramatiq: messages in Redis, driven by threads in a process for each core."""

from __future__ import annotations

import os
import sys
import uuid
from typing import Final

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.bench.peers.work import POOL_SIZE, SLOTS, BlockingWork, add_jobs, command, database_url, queue_url

PROCESSES: Final = 2
#: As many jobs in hand as the others have. Half of them is no quicker where the broker is quick.
THREADS: Final = SLOTS // PROCESSES
#: Of each process.
CONNECTIONS: Final = POOL_SIZE // PROCESSES

#: What the threads of a process share.
work = BlockingWork(connections=CONNECTIONS)
queue = RedisBroker(url=queue_url(), namespace="peer-dramatiq")
dramatiq.set_broker(queue)


@dramatiq.actor  # type: ignore[untyped-decorator] # may not be installed
def drive(guid: str) -> None:
    """Do the work of one job and hold the thread until it is done."""
    work.run(uuid.UUID(guid))


def worker() -> None:
    """Become dramatiq's own program, which works until SIGTERM."""
    options = ["--processes", str(PROCESSES), "--threads", str(THREADS)]
    os.execv(sys.executable, [sys.executable, "-m", "dramatiq", "tests.bench.peers.dramatiq", *options])


def enqueue(count: int) -> None:
    """Make so many jobs and a message for each; dramatiq has no way to publish several at once."""
    for guid in add_jobs(database_url(), count):
        drive.send(str(guid))


if __name__ == "__main__":
    command(worker=worker, enqueue=enqueue)
