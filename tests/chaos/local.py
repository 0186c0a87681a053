"""A run against a stack of our own: everything is started, tortured, judged and ended here."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from deploy.local.signals import Stopped, stops_raise
from tests.chaos.clients import Clients
from tests.chaos.crashes import CrashPlan
from tests.chaos.faults import Kind, plan_faults
from tests.chaos.injector import Injector
from tests.chaos.ledger import read_ledger
from tests.chaos.report import Report, by_count, percentile, recovery_times, say
from tests.chaos.stack import ChaosStack
from tests.chaos.verdict import (
    count_clean_ups,
    count_ends,
    count_open,
    judge_clients,
    judge_stack,
    read_step_times,
)

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS_PER_INSTANCE: Final = 4
JOBS_PER_CRASH_ROUND: Final = 150
OPEN_LOOK_PAUSE_S: Final = 0.5
MORE_JOBS: Final = 10
MORE_ROUNDS: Final = 10
SIGNAL_EXIT_BASE: Final = 128


@dataclass(frozen=True)
class LocalRun:
    """What a run is made of. The same seed gives the same schedule; what meets what, the moment decides."""

    seed: int
    jobs: int
    workers: int
    limit_s: float  #: for one job, from its first POST to its end
    spread_s: float  #: over which POSTs and faults are spread
    broker_rate: float = 1.0  #: how often the broker misbehaves, as a multiple


def run_local(run: LocalRun, *, json_file: Path | None, keeps: bool) -> int:
    """Run it, print the report, and return the exit code: 0 only when nothing is wrong."""
    home = Path(tempfile.mkdtemp(prefix="safekeep-chaos-"))
    try:
        with stops_raise():
            report = _run(run, home)
    except Stopped as stopped:
        say(f"stopped by {stopped}; everything that was started has been stopped")
        return SIGNAL_EXIT_BASE + stopped.number
    finally:
        if keeps:
            say(f"logs and data are kept in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return report.publish(json_file)


def _run(run: LocalRun, home: Path) -> Report:
    started = time.monotonic()
    rounds = max(1, run.jobs // JOBS_PER_CRASH_ROUND)
    crashes = CrashPlan(random.Random(f"crashes {run.seed}"), rounds, home / "crashes.jsonl")
    plan = plan_faults(run.seed, run.spread_s)
    report = Report(run.seed, schedule=[*map(str, plan), *crashes.text])
    instances = [f"chaos-{number}" for number in range(1, max(1, run.jobs // JOBS_PER_INSTANCE) + 1)]
    stack = ChaosStack(
        home,
        workers=run.workers,
        instances=instances,
        seed=run.seed,
        broker_rate=run.broker_rate,
        crashes=crashes,
    )
    with stack:
        say(f"seed {run.seed}: the stack is up after {time.monotonic() - started:.1f} s")
        clients = Clients(
            stack.api_url,
            stack.token,
            instances,
            count=run.jobs,
            spread_s=run.spread_s,
            limit_s=run.limit_s,
            seed=run.seed,
        )
        injector = Injector(stack, clients, plan, crashes, seed=run.seed)
        injector.run(_is_over(stack, clients, crashes, run.limit_s))
        say(f"everything has ended, or had its time, after {time.monotonic() - started:.0f} s; judging")
        stack.network.submit(clients.look_again()).result()
        memory = read_ledger(stack.ledger)
        judge_clients(report.verdict, clients.jobs)
        judge_stack(report.verdict, clients.jobs, clients.unknown_posts, stack.database_url, memory)
        steps = read_step_times(stack.database_url)
        clean_ups = count_clean_ups(stack.database_url)
    recoveries = recovery_times([*injector.times, *(hit.at for hit in crashes.hits())], steps)
    report.not_done = [place for place, count in crashes.counts().items() if not count]
    report.not_done += [kind.value for kind in Kind if not injector.injected[kind]]
    report.facts = {
        "jobs by end": by_count(count_ends(clients.jobs)),
        "clean-ups by end": by_count(clean_ups),
        "longest delay of a fault, s": round(injector.late_s, 1),
        "faults from outside": by_count(injector.injected),
        "faults of the broker": by_count(memory.faults),
        "crashes inside a step": crashes.counts(),
        "answers to clients": by_count(clients.answers),
        "POSTs without an answer": clients.unknown_posts,
        "starts adopted": sum(count > 1 and guid in memory.backups for guid, count in memory.puts.items()),
        "late writes fenced off": _count_lines(home, "late step, fenced off"),
        "worker processes in all": stack.worker_starts,
        "ends of workers": by_count(stack.worker_ends),
        "recovery p50, s": round(percentile(recoveries, 0.5), 2),
        "recovery p99, s": round(percentile(recoveries, 0.99), 2),
        "total time, s": round(time.monotonic() - started, 1),
    }
    return report


def _is_over(stack: ChaosStack, clients: Clients, crashes: CrashPlan, limit_s: float) -> Callable[[], bool]:
    """Starts the clients, and says whether they are through and every job has ended that they know nothing of.

    Clean-ups are such jobs, and those of a POST whose answer was lost. When places in a step are left that no worker
    came to, clients post some more.
    """
    following = stack.network.submit(clients.run())
    look_at, give_up_at, more_left = 0.0, float("inf"), MORE_ROUNDS

    def is_over() -> bool:
        nonlocal following, look_at, give_up_at, more_left
        if not following.done():
            return False
        following.result()
        if more_left and not all(crashes.counts().values()):
            more_left -= 1
            following = stack.network.submit(clients.run_more(MORE_JOBS))
            return False
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
