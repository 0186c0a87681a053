"""Whether many open jobs are polled in time: `python -m tests.bench.polling --open 100000 --interval 60 --minutes 10`.

Its own PostgreSQL, durable, its own queue, worker processes as users start them, and a broker in another process that
answers "in progress" after a while. Every five seconds it looks from outside how late the latest job is, and what the
processes use. At the end it says what a step cost PostgreSQL, and whether the lag grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

import psutil
import psycopg
from aiohttp import web
from psycopg.rows import dict_row

from deploy.local.postgres import PostgresServer
from deploy.local.processes import ChildProcess, free_port
from deploy.local.valkey import ValkeyServer
from shared.environment import PREFIX
from shared.security.secrets import generate_key
from shared.settings import Settings
from shared.store.migrate import migrate
from tests.bulk import seed_directory, seed_finished, seed_open

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SAMPLE_S: Final = 5.0
#: Until the workers are up; then the first jobs are due.
START_S: Final = 4.0
LAG_MAX_S: Final = 2.0
TABLES: Final = ("jobs", "job_steps", "broker_states")

_OLDEST: Final = """
    select coalesce(extract(epoch from now() - min(due_at)), 0)::float8 as age_s
    from jobs
    where completed_at is null and due_at <= now() and (lease_until is null or lease_until <= now())
"""
_STEPS: Final = "select coalesce(sum(polls), 0)::bigint as n from jobs where completed_at is null"
_TABLES: Final = """
    select relname as name, n_dead_tup as dead, n_tup_upd as updated, n_tup_hot_upd as hot, autovacuum_count as vacuums,
           pg_table_size(relid) as table_bytes, pg_indexes_size(relid) as index_bytes
    from pg_stat_user_tables
    where relname = any(%s)
"""
_WAL: Final = """
    select (pg_current_wal_insert_lsn() - '0/0')::bigint as bytes, (select wal_fpi from pg_stat_wal) as images
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one time; rates since the sample before."""

    at_s: float
    steps_per_s: float
    oldest_s: float  #: how long the latest job has been due, with nobody on it
    cores: dict[str, float]
    rss_mib: dict[str, float]


def serve(port: int, delay_s: float) -> None:
    """A broker that is at work on everything and finishes nothing."""

    async def poll(_request: web.Request) -> web.Response:
        await asyncio.sleep(delay_s)
        return web.json_response({"state": "in progress", "description": "copying"})

    app = web.Application()
    app.add_routes([web.get("/v2/service_instances/{instance}/backups/{id}/last_operation", poll)])
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


class Usage:
    """What processes have used since it was asked last, those that they started included."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in roots.items()}
        self._seen: dict[int, float] = {}
        self._asked_at = time.monotonic()
        self.ask()

    def ask(self) -> tuple[dict[str, float], dict[str, float]]:
        """Cores and resident MiB by name."""
        now = time.monotonic()
        elapsed, self._asked_at = now - self._asked_at, now
        cores: dict[str, float] = {}
        memory: dict[str, float] = {}
        for name, root in self._roots.items():
            used = rss = 0.0
            for process in (root, *root.children(recursive=True)):
                try:
                    times, resident = process.cpu_times(), process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                total = times.user + times.system
                used += total - self._seen.get(process.pid, total)
                self._seen[process.pid] = total
                rss = max(rss, resident / 2**20) if name == "postgres" else rss + resident / 2**20
            cores[name], memory[name] = round(used / max(elapsed, 1e-3), 2), round(rss)
        return cores, memory


def measure(arguments: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Everything that was found out."""
    port = free_port()
    broker = multiprocessing.get_context("spawn").Process(
        target=serve, args=(port, arguments.broker_ms / 1000), daemon=True
    )
    with ExitStack() as stack:
        broker.start()
        stack.callback(broker.join)
        stack.callback(broker.terminate)
        postgres = stack.enter_context(PostgresServer(home / "postgres"))
        queue = stack.enter_context(ValkeyServer(home / "valkey"))
        migrate(postgres.url())
        settings = {
            "database_url": postgres.url(),
            "queue_url": queue.url(),
            "secret_keys": generate_key(),
            "poll_interval_s": str(arguments.interval),
            "poll_interval_max_s": str(arguments.interval),
            "broker_calls_in_flight": "1000",
        }
        connection = stack.enter_context(psycopg.connect(postgres.url(), autocommit=True, row_factory=dict_row))
        for name, value in (pair.split("=", 1) for pair in arguments.postgres):
            connection.execute(f"alter system set {name} = '{value}'".encode())
        connection.execute("select pg_reload_conf()")
        _seed(connection, Settings.model_validate(settings), arguments, f"http://127.0.0.1:{port}")
        roots = {"postgres": postgres.pid, "queue": queue.pid, "broker": broker.pid or 0}
        environment = os.environ | {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
        environment |= dict(pair.split("=", 1) for pair in arguments.set)
        for number in range(1, arguments.workers + 1):
            worker = ChildProcess(
                f"worker {number}",
                [sys.executable, "-m", "deploy.cli.main", "worker"],
                log=home / f"worker-{number}.log",
                environment=environment,
            )
            worker.start()
            stack.callback(worker.stop)
            roots[worker.name] = worker.pid
        time.sleep(START_S)
        before = _totals(connection)
        samples = list(_watch(connection, Usage(roots), arguments.minutes * 60))
        return {"samples": [asdict(sample) for sample in samples], "cost": _cost(before, _totals(connection))}


def _seed(
    connection: psycopg.Connection[Any], settings: Settings, arguments: argparse.Namespace, broker_url: str
) -> None:
    seed_directory(
        connection, settings, instances=1000 + arguments.open, brokers=arguments.brokers, broker_url=broker_url
    )
    if arguments.finished:
        seed_finished(connection, arguments.finished, steps=1)
    seed_open(connection, arguments.open, due=0, spread_s=arguments.interval, brokers=arguments.brokers)
    connection.execute("vacuum analyze")
    connection.execute("checkpoint")
    connection.execute(
        "update jobs set due_at = due_at + shift, next_hint_at = due_at + shift"
        " from (select now() - min(due_at) + make_interval(secs => %s) as shift from jobs where completed_at is null) s"
        " where completed_at is null",
        (START_S,),
    )
    connection.execute("vacuum jobs")


def _watch(connection: psycopg.Connection[Any], usage: Usage, duration_s: float) -> Iterator[Sample]:
    began = before_s = time.monotonic()
    steps = _value(connection, _STEPS)
    print("   time  steps/s  oldest due   cores", flush=True)
    while before_s - began < duration_s:
        time.sleep(SAMPLE_S)
        now_s, now_steps = time.monotonic(), _value(connection, _STEPS)
        oldest_s = _value(connection, _OLDEST)
        cores, memory = usage.ask()
        sample = Sample(round(now_s - began, 1), (now_steps - steps) / (now_s - before_s), oldest_s, cores, memory)
        shown = "  ".join(f"{name} {used:.2f}" for name, used in cores.items())
        print(f"{sample.at_s:6.0f} s {sample.steps_per_s:8.0f} {oldest_s:9.2f} s   {shown}", flush=True)
        steps, before_s = now_steps, now_s
        yield sample


def _value(connection: psycopg.Connection[Any], statement: str) -> float:
    row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    (value,) = row.values()
    return float(value)


def _totals(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    tables = {row.pop("name"): row for row in connection.execute(_TABLES, (list(TABLES),)).fetchall()}
    (wal,) = connection.execute(_WAL).fetchall()
    return {"steps": _value(connection, _STEPS), "wal": wal, "tables": tables}


def _cost(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    steps = after["steps"] - before["steps"]
    cost: dict[str, Any] = {
        "steps": steps,
        "wal_bytes_per_step": (after["wal"]["bytes"] - before["wal"]["bytes"]) / steps,
        "page_images_per_step": (after["wal"]["images"] - before["wal"]["images"]) / steps,
        "tables": {},
    }
    for name, end in after["tables"].items():
        start = before["tables"][name]
        updated = end["updated"] - start["updated"]
        cost["tables"][name] = {
            "updates_per_step": updated / steps,
            "hot_ratio": (end["hot"] - start["hot"]) / updated if updated else None,
            "dead": end["dead"],
            "vacuums": end["vacuums"] - start["vacuums"],
            "table_mib": [round(each["table_bytes"] / 2**20, 1) for each in (start, end)],
            "index_mib": [round(each["index_bytes"] / 2**20, 1) for each in (start, end)],
        }
    return cost


def report(result: dict[str, Any], interval_s: float) -> bool:
    """Print what came of it; whether the jobs were polled in time."""
    # The first round ends when every job was polled once.
    samples = [each for each in result["samples"] if each["at_s"] > interval_s / 2] or result["samples"]
    ages = [each["oldest_s"] for each in samples]
    half = len(ages) // 2
    first, second = median(ages[:half] or ages), median(ages[half:])
    p99 = quantiles(ages, n=100)[98] if len(ages) > 1 else ages[0]
    cost = result["cost"]
    print(f"\n{cost['steps']:.0f} steps, {median(each['steps_per_s'] for each in samples):.0f} a second")
    for name in samples[0]["cores"]:
        cores = median(each["cores"][name] for each in samples)
        memory = max(each["rss_mib"][name] for each in samples)
        per_step_ms = cores / median(each["steps_per_s"] for each in samples) * 1000
        print(f"  {name:10} {cores:5.2f} cores  {per_step_ms:6.3f} ms of CPU a step  {memory:5.0f} MiB at most")
    print(f"  WAL {cost['wal_bytes_per_step']:.0f} bytes and {cost['page_images_per_step']:.2f} page images a step")
    for name, table in cost["tables"].items():
        hot = "-" if table["hot_ratio"] is None else f"{table['hot_ratio']:.0%}"
        print(
            f"  {name:13} {table['updates_per_step']:5.2f} updates a step, {hot:>4} HOT, {table['dead']:>7} dead rows, "
            f"{table['vacuums']} vacuums, table {table['table_mib'][0]} → {table['table_mib'][1]} MiB, "
            f"indexes {table['index_mib'][0]} → {table['index_mib'][1]} MiB"
        )
    is_growing = second > max(2 * first, first + 0.5)
    is_in_time = p99 < LAG_MAX_S and not is_growing
    print(
        f"oldest due: p99 {p99:.2f} s (at most {LAG_MAX_S:.0f}), median {first:.2f} s, then {second:.2f} s: "
        f"{'in time' if is_in_time else 'LATE'}{', and the lag GROWS' if is_growing else ''}"
    )
    return is_in_time


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when the jobs were not polled in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open", type=int, default=100_000, help="jobs that are polled")
    parser.add_argument("--finished", type=int, default=0, help="jobs that have ended, in the same tables")
    parser.add_argument("--interval", type=float, default=60, help="seconds between two polls of a job")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--brokers", type=int, default=10, help="over which the jobs are spread")
    parser.add_argument("--broker-ms", type=float, default=20, help="how long the broker thinks")
    parser.add_argument("--set", action="append", default=[], metavar="SAFEKEEP_X=Y", help="a worker's setting")
    parser.add_argument("--postgres", action="append", default=[], metavar="X=Y", help="a setting of PostgreSQL")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="safekeep-bench-") as home:
        result = measure(chosen, Path(home))
    if chosen.json:
        chosen.json.write_text(json.dumps(result), encoding="utf-8")
    return 0 if report(result, chosen.interval) else 1


if __name__ == "__main__":
    sys.exit(main())
