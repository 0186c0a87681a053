"""A run against a stack of our own: everything is started, tortured, judged and ended here."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from deploy.local.signals import Stopped, stops_raise
from tests.chaos.clients import Clients
from tests.chaos.crashes import CrashPlan
from tests.chaos.faults import Injector, plan_faults
from tests.chaos.ledger import read_ledger
from tests.chaos.report import Report, by_count, percentile, recovery_times
from tests.chaos.stack import ChaosStack
from tests.chaos.verdict import count_ends, count_open, judge_clients, judge_stack, read_step_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

JOBS_PER_S: Final = 4.0
SPREAD_MIN_S: Final = 16.0
JOBS_PER_INSTANCE: Final = 4
JOBS_PER_CRASH_ROUND: Final = 150
OPEN_LOOK_PAUSE_S: Final = 0.5
SIGNAL_EXIT_BASE: Final = 128


def run_local(
    *, jobs: int, workers: int, seed: int, limit_s: float, broker_rate: float, json_file: Path | None, keep: bool
) -> int:
    """Run it, print the report, and return the exit code: 0 only when nothing is wrong."""
    home = Path(tempfile.mkdtemp(prefix="safekeep-chaos-"))
    try:
        with stops_raise():
            report = _run(home, jobs=jobs, workers=workers, seed=seed, limit_s=limit_s, broker_rate=broker_rate)
    except Stopped as stopped:
        print(f"stopped by {stopped}; everything that was started has been stopped", flush=True)
        return SIGNAL_EXIT_BASE + stopped.number
    finally:
        if keep:
            print(f"logs and data are kept in {home}", flush=True)
        else:
            shutil.rmtree(home, ignore_errors=True)
    print(report.to_text(), flush=True)
    if json_file is not None:
        report.write_json(json_file)
    return 0 if report.is_good else 1


def _run(home: Path, *, jobs: int, workers: int, seed: int, limit_s: float, broker_rate: float) -> Report:
    started = time.monotonic()
    report = Report(seed)
    rounds = max(1, jobs // JOBS_PER_CRASH_ROUND)
    crashes = CrashPlan(random.Random(f"crashes {seed}"), rounds, home / "crashes.jsonl")
    spread_s = max(SPREAD_MIN_S, jobs / JOBS_PER_S)
    plan = plan_faults(seed, spread_s)
    report.schedule = [*map(str, plan), *(f"worker dies at {text}" for text in crashes.text)]
    instances = [f"chaos-{number}" for number in range(1, max(1, jobs // JOBS_PER_INSTANCE) + 1)]
    stack = ChaosStack(
        home, workers=workers, instances=instances, seed=seed, broker_rate=broker_rate, crashes=crashes
    )
    with stack:
        print(f"seed {seed}: the stack is up after {time.monotonic() - started:.1f} s", flush=True)
        clients = Clients(
            stack.api_url, stack.token, instances, count=jobs, spread_s=spread_s, limit_s=limit_s, seed=seed
        )
        injector = Injector(stack, clients, plan, seed)
        injector.run(_is_over(stack.network.submit(clients.run()), stack, limit_s))
        print(f"{len(clients.jobs)} jobs followed, {time.monotonic() - started:.0f} s; judging", flush=True)
        stack.network.submit(clients.look_again()).result()
        memory = read_ledger(stack.ledger)
        judge_clients(report.verdict, clients.jobs)
        judge_stack(report.verdict, clients.jobs, clients.unknown_posts, stack.database_url, memory)
        steps = read_step_times(stack.database_url)
    recoveries = recovery_times([*injector.times, *crashes.times()], steps)
    hits = crashes.hits()
    report.not_hit = [f"{point} / {state}" for (point, state), count in hits.items() if not count]
    report.facts = {
        "jobs by end": by_count(count_ends(clients.jobs)),
        "faults from outside": by_count({kind.value: count for kind, count in injector.injected.items()}),
        "faults of the broker": by_count(memory.faults),
        "crashes inside a step (point / state)": {f"{point} / {state}": n for (point, state), n in hits.items()},
        "answers to clients": by_count(clients.answers),
        "POSTs without an answer": clients.unknown_posts,
        "starts adopted": sum(count > 1 and guid in memory.backups for guid, count in memory.puts.items()),
        "late writes fenced off": _count_lines(home, "late step, fenced off"),
        "worker processes in all": stack.worker_starts,
        "recovery p50, s": round(percentile(recoveries, 0.5), 2),
        "recovery p99, s": round(percentile(recoveries, 0.99), 2),
        "total time, s": round(time.monotonic() - started, 1),
    }
    return report


def _is_over(clients: Future[None], stack: ChaosStack, limit_s: float) -> Callable[[], bool]:
    """Whether all clients are through, and every job has ended that they know nothing of, such as clean-ups."""
    look_at, give_up_at = 0.0, float("inf")

    def is_over() -> bool:
        nonlocal look_at, give_up_at
        if not clients.done():
            return False
        clients.result()
        now = time.monotonic()
        give_up_at = min(give_up_at, now + limit_s)
        if now < look_at:
            return False
        look_at = now + OPEN_LOOK_PAUSE_S
        try:
            return count_open(stack.database_url) == 0 or now > give_up_at
        except psycopg.OperationalError:
            return now > give_up_at  # it crashed on our order, and will be back

    return is_over


def _count_lines(home: Path, event: str) -> int:
    """How many lines of the workers' logs tell of `event`; a line cut off by a kill tells of nothing."""
    count = 0
    for log in home.glob("worker-*.log"):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if event in line:
                try:
                    count += json.loads(line)["event"] == event
                except (ValueError, KeyError):
                    continue
    return count
