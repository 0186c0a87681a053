"""A run against an installation that runs elsewhere: the same clients and checks, by its public API alone.

Faults are the operator's own shell commands. It refuses unless the installation says of itself that it may be broken.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from deploy.local.signals import Stopped, stops_raise
from tests.chaos.clients import Clients
from tests.chaos.report import Report, by_count, say
from tests.chaos.verdict import Verdict, Wrong, count_ends, judge_clients

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TOKEN_VARIABLE: Final = "SAFEKEEP_CHAOS_TOKEN"
INFO_TIMEOUT_S: Final = 10
COMMAND_TIMEOUT_S: Final = 300
SIGNAL_EXIT_BASE: Final = 128


class RefusedError(Exception):
    """The run does not begin, and why."""


@dataclass(frozen=True)
class StagingRun:
    """What a run is made of. `faults` are shell commands, each run once, at a time that the seed draws."""

    seed: int
    jobs: int
    target: str
    instances: Sequence[str]
    faults: Sequence[str]
    limit_s: float
    spread_s: float


def run_staging(run: StagingRun, *, json_file: Path | None) -> int:
    """Run it, print the report, and return the exit code: 2 when the target must not be touched."""
    try:
        with stops_raise():
            report = asyncio.run(_run(run))
    except RefusedError as error:
        print(f"safekeep: {error}", file=sys.stderr)  # noqa: T201 - it is a program
        return 2
    except Stopped as stopped:
        say(f"stopped by {stopped}; jobs that were accepted go on at {run.target}")
        return SIGNAL_EXIT_BASE + stopped.number
    return report.publish(json_file)


async def _run(run: StagingRun) -> Report:
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise RefusedError(f"{TOKEN_VARIABLE} is not set: a token of a user who may back up the instances")
    if not run.instances:
        raise RefusedError("name at least one service instance with --instance")
    await _check_mark(run.target)
    clients = Clients(
        run.target,
        token,
        run.instances,
        count=run.jobs,
        spread_s=run.spread_s,
        limit_s=run.limit_s,
        seed=run.seed,
    )
    try:
        before = await clients.list_backups()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RefusedError(f"the backups of the instances cannot be listed: {error}") from error
    started = time.monotonic()
    rng = random.Random(f"faults {run.seed}")
    schedule = sorted((rng.uniform(0, run.spread_s), command) for command in run.faults)
    report = Report(run.seed, schedule=[f"{at_s:6.1f} s  {command}" for at_s, command in schedule])
    say(f"seed {run.seed}: {run.jobs} backups of {len(run.instances)} instances at {run.target}")
    async with asyncio.TaskGroup() as group:
        following = group.create_task(clients.run())
        commands = [group.create_task(_inject(at_s, command)) for at_s, command in schedule]
    following.result()
    await clients.look_again()
    judge_clients(report.verdict, clients.jobs)
    judge_lists(report.verdict, clients, before, await clients.list_backups())
    report.not_done = [text for task in commands if (text := task.result())]
    report.facts = {
        "jobs by end": by_count(count_ends(clients.jobs)),
        "answers to clients": by_count(clients.answers),
        "POSTs without an answer": clients.unknown_posts,
        "total time, s": round(time.monotonic() - started, 1),
    }
    return report


async def _check_mark(target: str) -> None:
    """Raises RefusedError unless the installation is there and marked as one that may be broken."""
    url = f"{target.rstrip('/')}/v3/info"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=INFO_TIMEOUT_S)) as session,
            session.get(url) as response,
        ):
            info = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise RefusedError(f"{url} cannot be read, so it is left alone: {error!r}") from error
    custom = info.get("custom") if isinstance(info, dict) else None
    if not isinstance(custom, dict) or custom.get("chaos_allowed") is not True:
        raise RefusedError(
            f"{target} is not marked as an installation that may be broken, so it is left alone: its /v3/info does not "
            "say custom.chaos_allowed. If it is a test installation, start its API with SAFEKEEP_ALLOW_CHAOS=true"
        )


async def _inject(at_s: float, command: str) -> str:
    """Run a fault's command when its time has come; what went wrong with it, or nothing."""
    await asyncio.sleep(at_s)
    say(f"{at_s:6.1f} s  $ {command}")
    process = await asyncio.create_subprocess_shell(command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True)
    try:
        code = await asyncio.wait_for(process.wait(), COMMAND_TIMEOUT_S)
    except TimeoutError:
        return f"{command}: had not ended after {COMMAND_TIMEOUT_S} s"
    finally:
        if process.returncode is None:
            # Its session is its own, so this ends what it started as well.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return f"{command}: ended with code {code}" if code else ""


def judge_lists(
    verdict: Verdict, clients: Clients, before: Mapping[str, set[str]], after: Mapping[str, set[str]]
) -> None:
    """Every COMPLETE job is a new backup in the list, and nothing else is; lost answers of POSTs leave some room."""
    unexplained = 0
    for instance, ids in after.items():
        new = len(ids - before[instance])
        complete = sum(job.instance == instance and job.state == "COMPLETE" for job in clients.jobs)
        if new < complete:
            verdict.add(Wrong.CONTRADICTING, f"{instance} has {new} new backups of {complete} jobs that are COMPLETE")
        unexplained += max(0, new - complete)
    if unexplained > clients.unknown_posts:
        text = f"{unexplained} new backups are of no job, and {clients.unknown_posts} POSTs had no answer"
        verdict.add(Wrong.DOUBLED, text)
