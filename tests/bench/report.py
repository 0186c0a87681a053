"""What a run says: one table for people, the targets beside what was reached, and JSON that later runs are held to."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.measurement import DISTURBED_CORES, Measurement, spread
from tests.bench.targets import judge
from tests.bench.usage import BENCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.cells import Cell

PACKAGES: Final = ("aiohttp", "celery", "psycopg", "redis", "procrastinate", "dramatiq", "taskiq")
#: Narrower than this, lines would wrap; a file or a pipe has no width of its own.
WIDTH: Final = 195
SMALL_CORES: Final = 0.02


@dataclass
class Report:
    """The rounds of every cell, and why some have none."""

    environment: dict[str, Any]
    rounds: dict[str, list[Measurement]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All of it; `from_json` takes it back."""
        cells = sorted({*self.rounds, *self.problems})
        return {
            "environment": self.environment,
            "cells": {
                cell: {
                    "rounds": [
                        asdict(each) | {"rate": each.rate, "saturated": each.saturated}
                        for each in self.rounds.get(cell, ())
                    ],
                    "problems": self.problems.get(cell, []),
                }
                for cell in cells
            },
            "targets": [
                {"what": each.what, "target": each.wanted, "value": each.value, "judgement": each.judgement}
                for each in judge(self.rounds)
            ],
        }


def from_json(file: Path) -> Report:
    """An earlier run's report."""
    document = json.loads(file.read_text(encoding="utf-8"))
    known = set(Measurement.__dataclass_fields__)
    rounds = {
        cell: [
            Measurement(**{name: value for name, value in each.items() if name in known}) for each in found["rounds"]
        ]
        for cell, found in document["cells"].items()
    }
    return Report(document["environment"], {cell: each for cell, each in rounds.items() if each})


def describe_environment(
    *, postgres_version: str, queue_version: str, directory: Path, is_quick: bool
) -> dict[str, Any]:
    """Where and with what a run was made."""
    return {
        "is_quick": is_quick,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else ""),
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "system": platform.platform(),
        "file_system": _file_system(directory),
        "python": platform.python_version(),
        "postgresql": postgres_version,
        "queue": queue_version,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def print_report(report: Report, cells: Sequence[Cell]) -> None:
    """The table, the targets, and what the numbers were got on."""
    console = Console(width=WIDTH)
    console.print(_cells_table(report, cells))
    console.print(_targets_table(report))
    if any(cell.name.startswith("work") and cell.name in report.rounds for cell in cells):
        console.print(
            "Safekeep and its limit make three calls a job, one to learn a finished backup's size; peers make two."
        )
    facts = report.environment
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items())
    console.print(
        f"{facts['at']}, commit {facts['commit']}, {facts['cpus']} CPUs ({facts['cpu']}), data on "
        f"{facts['file_system']}\nPython {facts['python']}, PostgreSQL {facts['postgresql']}, "
        f"{facts['queue']}, {packages}",
        highlight=False,
    )
    if facts["is_quick"]:
        console.print("A quick run: that it works is all that it shows.")
    disturbed = [
        cell for cell, rounds in report.rounds.items() if any(each.others_cores > DISTURBED_CORES for each in rounds)
    ]
    if disturbed:
        console.print(f"Others used more than {DISTURBED_CORES:g} of a core meanwhile: {', '.join(disturbed)}")


def print_comparison(new: Report, old: Report, cells: Sequence[Cell]) -> None:
    """New medians as multiples of the old ones."""
    table = Table(title=f"new / old ({old.environment['commit']}, {old.environment['at']})", title_justify="left")
    columns = {"rate": "per second", "p50_ms": "p50", "p99_ms": "p99", "cpu_ms": "CPU each", "rss_mib": "RSS"}
    for name in ("cell", *columns.values()):
        table.add_column(name, justify="left" if name == "cell" else "right")
    for cell in cells:
        values = []
        for name in columns:
            now, before = (spread(each.rounds.get(cell.name, ()), name) for each in (new, old))
            values.append(f"{now.middle / before.middle:.2f}" if now and before and before.middle else "")
        if any(values):
            table.add_row(cell.name, *values)
    Console(width=WIDTH).print(table)


def _cells_table(report: Report, cells: Sequence[Cell]) -> Table:
    table = Table(
        title="medians (least-most); CPU and memory are those of the API or the workers", title_justify="left"
    )
    table.add_column("", no_wrap=True)
    for name in ("a second", "p50 / p95 / p99 / max ms", "CPU ms", "RSS / PSS / largest MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cores used")
    table.add_column("saturated")
    section = ""
    for cell in cells:
        if cell.name not in report.rounds and cell.name not in report.problems:
            continue
        if cell.section != section:
            section = cell.section
            table.add_section()
            table.add_row(f"[bold]{section}")
        rounds = report.rounds.get(cell.name, [])
        if rounds:
            saturated = ", ".join(_middle_round(rounds).saturated) or "none"
            table.add_row(cell.title, *_numbers(rounds), _cores(rounds), saturated)
        for problem in dict.fromkeys(report.problems.get(cell.name, ())):
            table.add_row(cell.title, "-", "", "", "", escape(problem.splitlines()[-1]))
    return table


def _numbers(rounds: Sequence[Measurement]) -> list[str]:
    rate, cpu_ms = spread(rounds, "rate"), spread(rounds, "cpu_ms")
    times, memory = (
        [f"{found.middle:.{places}f}" for name in names if (found := spread(rounds, name))]
        for names, places in (
            (("p50_ms", "p95_ms", "p99_ms", "max_ms"), 1),
            (("rss_mib", "pss_mib", "largest_mib"), 0),
        )
    )
    return [
        f"{rate.middle:,.0f} ({rate.least:,.0f}-{rate.most:,.0f})" if rate else "",
        " / ".join(times),
        f"{cpu_ms.middle:.3f}" if cpu_ms else "",
        " / ".join(memory),
    ]


def _cores(rounds: Sequence[Measurement]) -> str:
    middle = _middle_round(rounds)
    parts = [f"{part} {cores:.2f}" for part, cores in middle.cores.items() if cores >= SMALL_CORES and part != BENCH]
    return ", ".join(parts)


def _middle_round(rounds: Sequence[Measurement]) -> Measurement:
    return sorted(rounds, key=lambda each: each.rate)[len(rounds) // 2]


def _targets_table(report: Report) -> Table:
    table = Table(title="targets", title_justify="left")
    for name in ("what", "target", "here", ""):
        table.add_column(name, justify="right" if name in {"target", "here"} else "left")
    for verdict in judge(report.rounds):
        style = {True: "green", False: "red", None: "dim"}[verdict.is_reached]
        value = "" if verdict.value is None else f"{verdict.value:.3g}"
        table.add_row(verdict.what, verdict.wanted, value, f"[{style}]{verdict.judgement}")
    return table


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown" if words[0] == "rev-parse" else ""
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """The kind of file system that the data is on: what a commit costs depends on it."""
    kinds = {}
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if directory.is_relative_to(place):
            kinds[place] = kind
    return kinds[max(kinds, key=len)] if kinds else "unknown"
