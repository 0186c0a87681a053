"""Cells that measure how long a backup takes when there is nothing else to do, from the POST until its job has ended.

The end is seen in the database, by primary key, every millisecond: it takes the least from what is measured, and is the
same for Safekeep and for the peer.
"""

from __future__ import annotations

import http.client
import random
import time
from typing import TYPE_CHECKING, Final

from psycopg import sql

from tests.bench.http_cells import start_naive_api
from tests.bench.measurement import Measurement, Times
from tests.bench.system import connect
from tests.bench.work_cells import POLL_INTERVAL_S

if TYPE_CHECKING:
    from tests.bench.system import Scene, System

LOOK_S: Final = 0.001
WARM_UPS: Final = 10
#: Pauses between two backups, so that none keeps step with a loop of the workers.
PAUSE_S: Final = (0.005, 0.05)
PATIENCE_S: Final = 30.0


def round_trip_safekeep(system: System) -> Measurement:
    """Our API and one worker."""
    with system.scene() as scene:
        port = scene.start_api()
        scene.start_worker(is_awaited=True, poll_interval_s=POLL_INTERVAL_S)
        return _measure(scene, port, "jobs")


def round_trip_naive(system: System) -> Measurement:
    """INSERT, `task.delay()`, and one Celery worker."""
    with system.scene() as scene:
        port = start_naive_api(scene)
        scene.start("worker", ["-m", "tests.bench.peers.naive", "worker"], environment=scene.peer_environment)
        return _measure(scene, port, "peer_jobs")


def _measure(scene: Scene, port: int, table: str) -> Measurement:
    find = sql.SQL("select state from {} where guid = %s").format(sql.Identifier(table))
    times_ms = []
    count = scene.scale.round_trips
    client = http.client.HTTPConnection("127.0.0.1", port)
    randomness = random.Random(7)
    began_s = time.time()
    with scene.sampler() as sampler, connect(scene.database_url) as connection:
        for number in range(1, WARM_UPS + count + 1):
            time.sleep(randomness.uniform(*PAUSE_S))
            if number == WARM_UPS + 1:
                began_s = time.time()
            started = time.perf_counter()
            client.request(
                "POST",
                f"/v3/service_instances/instance-{number}/backups",
                headers={"Authorization": f"bearer {scene.tokens[0]}"},
            )
            response = client.getresponse()
            response.read()
            guid = str(response.headers["Location"]).rpartition("/")[2]
            while (state := connection.execute(find, (guid,)).fetchall()[0][0]) != "succeeded":
                if state == "failed" or time.perf_counter() > started + PATIENCE_S:
                    raise RuntimeError(f"a job was {state} after {time.perf_counter() - started:.1f} s")
                time.sleep(LOOK_S)
            if number > WARM_UPS:
                times_ms.append((time.perf_counter() - started) * 1000)
        ended_s = time.time()
    client.close()
    scene.check()
    usage = sampler.usage(began_s, ended_s)
    # Without the pauses, so that the rate is that of a client who waits for each.
    return Measurement.of(usage, count=count, seconds=sum(times_ms) / 1000, times=Times.of(times_ms))
