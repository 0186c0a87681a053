"""Cells in which jobs are finished: first all of them are put in, then the workers start.

Measured is from the moment when a tenth of the jobs had finished, by the database's clock, until the last of them: how
quickly workers start is measured elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg
from psycopg import sql

from shared.store.jobs import HINT_GRACE_S
from tests.bench import no_queue
from tests.bench.http_cells import create_peer_table, store_jobs
from tests.bench.measurement import Measurement
from tests.bench.system import connect
from tests.support import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.system import Scene, System

LATENCIES_MS: Final = (0, 50, 500)
#: Calls under way at once, for the limit and for Safekeep, over all of its workers.
IN_FLIGHT: Final = {0: 200, 50: 200, 500: 1000}
#: The same of Safekeep. A broker that answers at once is not what bounds it, so each worker has the default there.
SAFEKEEP_IN_FLIGHT: Final = IN_FLIGHT | {0: 400}
#: How many jobs take some seconds.
LIMIT_JOBS: Final = {0: 8000, 50: 5000, 500: 4000}
SAFEKEEP_JOBS: Final = {0: 5000, 50: 4000, 500: 4000}
PEER_JOBS: Final = {
    "naive": {0: 2000, 50: 400, 500: 80},
    "procrastinate": {0: 1500, 50: 1500, 500: 3000},
    "dramatiq": {0: 2000, 50: 2000, 500: 4000},
    "taskiq": {0: 5000, 50: 4000, 500: 4000},
}
JOBS_MIN: Final = 20
#: A poll is due as soon as settings allow it, so that workers never wait for the time to come.
POLL_INTERVAL_S: Final = 0.001
#: Of the jobs, those that finish first are not counted.
WARM_UP_SHARE: Final = 0.1
LOOK_S: Final = 0.1
PATIENCE_S: Final = 120.0


class Variant(NamedTuple):
    """How the process without a queue works."""

    calls: int
    is_coalesced: bool


def without_queue(variant: Variant, latency_ms: int) -> Callable[[System], Measurement]:
    """A cell: one process without a queue."""

    def run(system: System) -> Measurement:
        with system.scene(latency_ms) as scene:
            no_queue.fill(scene.database_url, _count(scene, LIMIT_JOBS[latency_ms]))
            arguments = ["-m", "tests.bench.no_queue", f"--concurrency={IN_FLIGHT[latency_ms]}"]
            arguments += [f"--calls={variant.calls}", *(["--is-coalesced"] if variant.is_coalesced else [])]
            scene.start("worker", arguments, environment=scene.peer_environment)
            return _measure(scene, no_queue.TABLE)

    return run


def with_safekeep(workers: int, latency_ms: int) -> Callable[[System], Measurement]:
    """A cell: so many of our worker processes."""

    def run(system: System) -> Measurement:
        with system.scene(latency_ms) as scene:
            asyncio.run(store_jobs(scene, _count(scene, SAFEKEEP_JOBS[latency_ms])))
            # The API would have sent hints for these jobs; the dispatcher leaves them to it for a moment.
            time.sleep(HINT_GRACE_S)
            in_flight = SAFEKEEP_IN_FLIGHT[latency_ms]
            for _ in range(workers):
                scene.start_worker(
                    is_awaited=False,
                    poll_interval_s=POLL_INTERVAL_S,
                    calls_in_flight=in_flight // workers,
                    # A call counts for its broker until its end is recorded; how many are made at once is said above.
                    broker_calls_in_flight=in_flight * 2,
                )
            return _measure(scene, "jobs")

    return run


def with_peer(name: str, latency_ms: int) -> Callable[[System], Measurement]:
    """A cell: the same work as a peer does it."""

    def run(system: System) -> Measurement:
        with system.scene(latency_ms) as scene:
            create_peer_table(scene)
            module = f"tests.bench.peers.{name}"
            count = _count(scene, PEER_JOBS[name][latency_ms])
            scene.run([sys.executable, "-m", module, "enqueue", str(count)], environment=scene.peer_environment)
            rows(scene.database_url, "vacuum analyze")
            slots = {"BENCH_SLOTS": str(IN_FLIGHT[latency_ms])}
            scene.start("worker", ["-m", module, "worker"], environment=scene.peer_environment | slots)
            return _measure(scene, "peer_jobs")

    return run


def _count(scene: Scene, count: int) -> int:
    return max(JOBS_MIN, count // scene.scale.jobs_divisor)


def _measure(scene: Scene, table: str) -> Measurement:
    with scene.sampler() as sampler, connect(scene.database_url) as connection:
        _wait(scene, connection, table)
    with connect(scene.database_url) as connection:
        found = connection.execute(
            sql.SQL("select extract(epoch from completed_at)::float8, state from {} order by completed_at").format(
                sql.Identifier(table)
            )
        ).fetchall()
    if wrong := {state for _, state in found} - {"succeeded"}:
        raise RuntimeError(f"jobs ended as {', '.join(sorted(wrong))}")
    first = int(len(found) * WARM_UP_SHARE)
    began_s, ended_s = found[first][0], found[-1][0]
    usage = sampler.usage(began_s, ended_s)
    count = len(found) - first - 1
    return Measurement.of(usage, count=count, seconds=ended_s - began_s, part="worker")


def _wait(scene: Scene, connection: psycopg.Connection[tuple[int]], table: str) -> None:
    """Return when all jobs have ended. Raises RuntimeError when that takes too long."""
    statement = sql.SQL("select count(*) from {} where completed_at is null").format(sql.Identifier(table))
    deadline = time.monotonic() + PATIENCE_S
    while (left := connection.execute(statement).fetchall()[0][0]) > 0:
        scene.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{left} jobs had not ended after {PATIENCE_S:.0f} s")
        time.sleep(LOOK_S)
