"""Cells that make requests: accepting backups, and reading jobs, over 64 keep-alive connections."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from deploy.local.postgres import find_postgres_tool
from deploy.local.processes import free_port
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.bench.load import LoadResult, LoadSpec
from tests.bench.measurement import Measurement, Times
from tests.bench.system import finish, running
from tests.support import job_request, rows

if TYPE_CHECKING:
    from tests.bench.system import Scene, System

CONNECTIONS: Final = 64
JOBS_READ: Final = 1000
ACCEPT_BATCH: Final = 200

#: The same rows as an accepted backup has, one at a time, at the speed of C.
_INSERT: Final = """
with job as (
    insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                      request_body, can_undo, due_at, next_hint_at, deadline_at, user_name, service_instance_name,
                      space_guid, organization_guid)
    values (gen_random_uuid(), 'service_instance.create_backup', gen_random_uuid()::text, '{broker_guid}',
            gen_random_uuid(), 'user-1', gen_random_uuid()::text,
            '{{"service_id": "service-id", "plan_id": "plan-id"}}', true, now(), now(), now() + interval '1 day',
            'user-1', 'instance', 'space', 'org')
    returning resource_guid, service_instance_guid
)
insert into backups (guid, service_instance_guid) select resource_guid, service_instance_guid from job;
"""


def accept_bare(system: System) -> Measurement:
    """A handler that only answers."""
    with system.scene() as scene:
        return _accept(scene, _start_bare(scene))


def accept_pgbench(system: System) -> Measurement:
    """64 clients that only insert."""
    with system.scene() as scene:
        script = scene.file("insert.sql")
        script.write_text(" ".join(_INSERT.format(broker_guid=system.broker_guid).split()), encoding="ascii")
        url = urlsplit(scene.database_url)
        log = scene.file("pgbench")
        seconds = max(1, round(scene.scale.seconds))
        arguments: list[str] = [
            *(str(find_postgres_tool("pgbench")), "--no-vacuum", "--protocol=prepared", f"--file={script}"),
            *(f"--client={CONNECTIONS}", "--jobs=2", f"--time={seconds}", "--log", f"--log-prefix={log}"),
            *("-h", str(url.hostname), "-p", str(url.port), "-U", str(url.username), url.path.strip("/")),
        ]
        with (
            running(arguments, {"PGPASSWORD": unquote(url.password or "")}) as process,
            scene.sampler(load=process.pid) as sampler,
        ):
            finish(process)
        ended_s, times_ms = [], []
        for file in log.parent.glob(f"{log.name}.*"):
            for line in file.read_text(encoding="ascii").splitlines():
                _, _, time_us, _, epoch, epoch_us = line.split()[:6]
                times_ms.append(int(time_us) / 1000)
                ended_s.append(int(epoch) + int(epoch_us) / 1e6)
        usage = sampler.usage(min(ended_s), max(ended_s))
        return Measurement.of(usage, count=len(times_ms), seconds=max(ended_s) - min(ended_s), times=Times.of(times_ms))


def accept_safekeep(system: System) -> Measurement:
    """Our API, each backup of an instance of its own, and nobody who works on them."""
    with system.scene() as scene:
        return _accept(scene, scene.start_api())


def accept_safekeep_with_worker(system: System) -> Measurement:
    """The same while a worker, too, has its share of the computer."""
    with system.scene() as scene:
        port = scene.start_api()
        scene.start_worker(is_awaited=True)
        return _accept(scene, port)


def accept_naive(system: System) -> Measurement:
    """INSERT, then `task.delay()`."""
    with system.scene() as scene:
        return _accept(scene, start_naive_api(scene))


def read_bare(system: System) -> Measurement:
    """A handler that answers JSON made beforehand."""
    with system.scene() as scene:
        return _read(scene, _start_bare(scene), [str(uuid.uuid4()) for _ in range(JOBS_READ)])


def read_safekeep(system: System) -> Measurement:
    """Jobs of our API."""
    with system.scene() as scene:
        guids = asyncio.run(store_jobs(scene, JOBS_READ))
        return _read(scene, scene.start_api(), guids)


def read_safekeep_unchanged(system: System) -> Measurement:
    """Jobs of our API by clients that have them already."""
    with system.scene() as scene:
        guids = asyncio.run(store_jobs(scene, JOBS_READ))
        port = scene.start_api()
        client = http.client.HTTPConnection("127.0.0.1", port)
        tags = []
        for guid in guids:
            client.request("GET", f"/v3/jobs/{guid}", headers={"Authorization": f"bearer {scene.tokens[0]}"})
            response = client.getresponse()
            response.read()
            tags.append(response.headers["ETag"])
        client.close()
        return _read(scene, port, guids, tags)


def start_naive_api(scene: Scene) -> int:
    """The port of the naive peer's API."""
    port = free_port()
    create_peer_table(scene)
    arguments = ["-m", "tests.bench.peers.naive", "api", str(port)]
    scene.start("api", arguments, environment=scene.peer_environment, port=port)
    return port


def create_peer_table(scene: Scene) -> None:
    """Make the table that all peers work on."""
    code = "import sys; from tests.bench.peers.work import create_table; create_table(sys.argv[1])"
    scene.run([sys.executable, "-c", code, scene.database_url])


async def store_jobs(scene: Scene, count: int) -> list[str]:
    """Accept so many backups of distinct instances and of several users, straight at the store; their jobs' guids."""
    guids = []
    async with Database(scene.settings, size=1, name="bench") as database:
        jobs = Jobs(database, scene.settings)
        for first in range(0, count, ACCEPT_BATCH):
            requests = [
                job_request(
                    scene.system.broker_guid,
                    str(uuid.uuid4()),
                    user_guid=f"user-{number % len(scene.tokens) + 1}",
                    request_body='{"service_id": "service-id", "plan_id": "plan-id"}',
                )
                for number in range(first, min(first + ACCEPT_BATCH, count))
            ]
            await jobs.accept(requests)
            guids += [str(request.guid) for request in requests]
    rows(scene.database_url, "vacuum analyze")
    return guids


def _start_bare(scene: Scene) -> int:
    port = free_port()
    scene.start("api", ["-m", "tests.bench.bare", str(port)], port=port)
    return port


def _accept(scene: Scene, port: int) -> Measurement:
    requests = [
        (f"/v3/service_instances/instance-{number}/backups", _authorization(scene, number))
        for number in range(1, scene.scale.instances + 1)
    ]
    return _load(scene, port, "POST", requests, is_repeating=False, expected_status=202)


def _read(scene: Scene, port: int, guids: list[str], tags: list[str] | None = None) -> Measurement:
    requests = [
        (f"/v3/jobs/{guid}", _authorization(scene, number) + ([f"If-None-Match: {tags[number]}"] if tags else []))
        for number, guid in enumerate(guids)
    ]
    return _load(scene, port, "GET", requests, is_repeating=True, expected_status=304 if tags else 200)


def _authorization(scene: Scene, number: int) -> list[str]:
    return [f"Authorization: bearer {scene.tokens[number % len(scene.tokens)]}"]


def _load(
    scene: Scene,
    port: int,
    method: str,
    requests: list[tuple[str, list[str]]],
    *,
    is_repeating: bool,
    expected_status: int,
) -> Measurement:
    spec = LoadSpec(
        port=port,
        method=method,
        requests=requests,
        is_repeating=is_repeating,
        connections=CONNECTIONS,
        warm_up_s=scene.scale.warm_up_s,
        seconds=scene.scale.seconds,
        expected_status=expected_status,
    )
    file = scene.file("load.json")
    file.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    with running([sys.executable, "-m", "tests.bench.load", file]) as process:
        with scene.sampler(load=process.pid) as sampler:
            line = process.stdout.readline() if process.stdout else ""
        finish(process)
    found = json.loads(line)
    result = LoadResult(**found | {"times": Times(*found["times"])})
    if result.unexpected:
        raise RuntimeError(f"answers with another status than {expected_status}: {result.unexpected}")
    scene.check()
    usage = sampler.usage(result.began_at_s, result.ended_at_s)
    seconds = result.ended_at_s - result.began_at_s
    return Measurement.of(usage, count=result.count, seconds=seconds, part="api", times=result.times)
