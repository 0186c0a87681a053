"""What it costs to read jobs, and to wait for them: `python -m tests.bench.reads --waiters 10000`.

A real API process on its own PostgreSQL, and a bare handler of the same HTTP library that answers as many bytes from
memory: how many reads a second each gives to 64 connections, in turns. Then so many clients wait on the API, first all
for one job and then each for one of its own, and one job ends, or some do: how long after a worker sent that to the
database the first, the median and the last answer arrived, and how much memory all took while they waited.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import psutil
from aiohttp import web

from deploy.local.processes import free_port
from deploy.local.stack import Stack
from shared.records import Step
from shared.states import Event
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.bench.pollers import Pollers
from tests.support import job_request, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS: Final = 64
JOBS: Final = 1000  # that are read in turns
BATCH: Final = 500
MANY: Final = 50  # that end at once; fewer than may be claimed at once
LEAVING_S: Final = 1  # after which the API has seen who is gone
#: An API that uses less of its processor than this has nothing in hand but its looks.
CALM: Final = 0.5


def serve_bare(port: int, body: str) -> None:
    """The limit: the same library, and nothing between it and the answer."""

    async def read(_request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/v3/jobs/{guid}", read)])
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def accept(stack: Stack, count: int) -> list[uuid.UUID]:
    """Store so many open jobs, each on an instance that nobody else uses."""
    template = stack.identity.instance_guid
    instances = [str(uuid.uuid4()) for _ in range(count)]
    rows(
        stack.database_url,
        "insert into service_instances (guid, name, type, space_guid, plan_guid)"
        " select unnest(%s::text[]), 'db', type, space_guid, plan_guid from service_instances where guid = %s",
        instances,
        template,
    )
    broker_guid = rows(stack.database_url, "select guid from brokers")[0]["guid"]

    async def store() -> list[uuid.UUID]:
        requests = [job_request(broker_guid, instance) for instance in instances]
        async with Database(stack.settings, size=1, name="bench") as database:
            jobs = Jobs(database, stack.settings)
            for start in range(0, count, BATCH):
                await jobs.accept(requests[start : start + BATCH])
        return [request.guid for request in requests]

    guids = asyncio.run(store())
    rows(stack.database_url, "analyze")
    return guids


async def end(stack: Stack, guids: Sequence[uuid.UUID]) -> float:
    """End the jobs as a worker does, in one statement; when it was sent."""
    async with Database(stack.settings, size=1, name="bench") as database:
        jobs = Jobs(database, stack.settings)
        claims = (await jobs.claim(guids, owner="bench", lease_s=60)).claims
        steps = [Step(claim=claim, worker="bench", call="start", event=Event.SUCCEEDED, outcome="") for claim in claims]
        began_at = time.monotonic()
        if not all(await jobs.record(steps)) or len(steps) < len(guids):
            raise SystemExit("the jobs could not be ended")
        return began_at


def requests_of(stack: Stack, guids: Sequence[uuid.UUID], header: str | None = None) -> list[bytes]:
    """The bytes of a request for each of the jobs, with one more header."""
    common = [
        "HTTP/1.1",
        f"Host: {stack.api_url.removeprefix('http://')}",
        f"Authorization: bearer {stack.developer_token}",
        *([header] if header else []),
    ]
    rest = "\r\n".join([*common, "", ""])
    return [f"GET /v3/jobs/{guid} {rest}".encode() for guid in guids]


def measure_rates(stack: Stack, guids: Sequence[uuid.UUID], *, rounds: int, seconds: float) -> dict[str, Any]:
    """The rates of a bare handler and of the API, in turns."""
    plain = requests_of(stack, guids)
    known = requests_of(stack, guids, 'If-None-Match: "1"')
    port = free_port()
    body = "x" * 500
    bare = multiprocessing.get_context("spawn").Process(target=serve_bare, args=(port, body), daemon=True)
    bare.start()
    found: dict[str, list[Any]] = {"bare handler": [], "200": [], "304": []}
    try:
        _await_port(port)
        with Pollers(port) as limit, Pollers(int(stack.api_url.rpartition(":")[2])) as ours:
            cells = {"bare handler": (limit, plain), "200": (ours, plain), "304": (ours, known)}
            for number in range(rounds + 1):
                for name, (pollers, requests) in cells.items():
                    rate = pollers.ask_often(requests, connections=CONNECTIONS, seconds=seconds if number else 1)
                    if rate.statuses != {304 if name == "304" else 200}:
                        raise SystemExit(f"{name}: answered {sorted(rate.statuses)}")
                    if number:
                        found[name].append(rate)
    finally:
        bare.terminate()
        bare.join()
    limit_per_s = median(rate.per_s for rate in found["bare handler"])
    result = {}
    for name, rates in found.items():
        speeds = [rate.per_s for rate in rates]
        result[name] = {
            "per_s": round(median(speeds)),
            "least_per_s": round(min(speeds)),
            "most_per_s": round(max(speeds)),
            "p50_ms": round(median(rate.p50_s for rate in rates) * 1000, 2),
            "p99_ms": round(median(rate.p99_s for rate in rates) * 1000, 2),
            "of_limit": round(median(speeds) / limit_per_s, 2),
        }
    return result


def measure_waiting(stack: Stack, guids: Sequence[uuid.UUID], *, changed: Sequence[uuid.UUID]) -> dict[str, Any]:
    """How so many wait, one for each of `guids`, and how those of `changed` learn of their change."""
    api = psutil.Process(stack.pids["api"])
    port = int(stack.api_url.rpartition(":")[2])
    with Pollers(port) as pollers:
        before = api.memory_info().rss
        pollers.begin_to_wait(requests_of(stack, guids, "Prefer: wait=55"))
        _await_calm(api)
        waiting = api.memory_info().rss
        began_at, cpu_s = time.monotonic(), _cpu_s(api)
        time.sleep(3)
        waiting_cpu = (_cpu_s(api) - cpu_s) / (time.monotonic() - began_at)
        expected = sum(guid in set(changed) for guid in guids)
        pollers.expect(expected)
        cpu_s = _cpu_s(api)
        changed_at = asyncio.run(end(stack, changed))
        arrivals = pollers.arrivals()
        if wrong := {arrival.status for arrival in arrivals} - {200}:
            raise SystemExit(f"waiters were answered {wrong}")
        pollers.leave()
        time.sleep(2 * LEAVING_S)
        _await_calm(api)
        times_ms = [round((arrival.at_s - changed_at) * 1000, 1) for arrival in arrivals]
        return {
            "waiters": len(guids),
            "answered": expected,
            "first_ms": times_ms[0],
            "p50_ms": times_ms[len(times_ms) // 2],
            "last_ms": times_ms[-1],
            "cpu_ms": round((_cpu_s(api) - cpu_s) * 1000),
            "rss_before_mib": round(before / 2**20, 1),
            "rss_waiting_mib": round(waiting / 2**20, 1),
            "rss_after_mib": round(api.memory_info().rss / 2**20, 1),
            "kib_each": round((waiting - before) / 1024 / len(guids), 1),
            "cpu_while_waiting": round(waiting_cpu, 3),
        }


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _await_calm(process: psutil.Process) -> None:
    """Return when the process has done what it was asked for."""
    while True:
        cpu_s, began_at = _cpu_s(process), time.monotonic()
        time.sleep(0.5)
        if (_cpu_s(process) - cpu_s) / (time.monotonic() - began_at) < CALM:
            return


def _await_port(port: int) -> None:
    while not any(
        connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
        for connection in psutil.net_connections("tcp4")
    ):
        time.sleep(0.05)


def main() -> int:
    """Measure and print; 0, since a number is not right or wrong by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiters", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round of reads")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"reads": {}, "waiting": []}
    with (
        tempfile.TemporaryDirectory(prefix="safekeep-bench-") as home,
        # No workers: what they do has its own benchmarks.
        Stack(Path(home, "stack"), is_scratch=True, workers=0) as stack,
    ):
        guids = accept(stack, max(JOBS, arguments.waiters) + MANY)
        if arguments.rounds:
            result["reads"] = measure_rates(stack, guids[:JOBS], rounds=arguments.rounds, seconds=arguments.seconds)
            for name, cell in result["reads"].items():
                print(f"{name:14}", *(f"{key} {value}" for key, value in cell.items()), flush=True)
        if arguments.waiters:
            count = arguments.waiters
            for waited, changed in (
                ([guids[0]] * (count // 10), guids[:1]),
                ([guids[1]] * count, guids[1:2]),
                (guids[2 : count + 2], guids[2:3]),
                (guids[MANY : count + MANY], guids[MANY : 2 * MANY]),
            ):
                cell = measure_waiting(stack, waited, changed=changed)
                cell["jobs"] = len(set(waited))
                result["waiting"].append(cell)
                print(*(f"{key} {value}" for key, value in cell.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
