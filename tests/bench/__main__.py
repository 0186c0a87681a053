"""`make bench`: how quick Safekeep is, beside what is possible at all and beside what others make of the same task.

Everything runs on this computer: a PostgreSQL with durable commits, a queue, a stub broker, API and workers in
processes of their own, and the load in another. Cells take turns, and medians of the rounds are shown. `--only` takes
names, or what some begin with, such as `work-50.safekeep` or `accept`; `--list` shows them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import redis

from deploy.local.errors import LocalStackError
from deploy.local.signals import Stopped, stops_raise
from shared.errors import SafekeepError
from tests.bench.cells import all_cells, why_missing
from tests.bench.report import Report, describe_environment, from_json, print_comparison, print_report
from tests.bench.system import FULL, QUICK, System
from tests.support import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.cells import Cell

ROUNDS = 3


def measure(cells: Sequence[Cell], system: System, report: Report, rounds: int) -> None:
    """Run each cell once, then each again; one that fails is told of and does not end the run."""
    for number in range(1, rounds + 1):
        for cell in cells:
            if cell.peer is not None and (reason := why_missing(cell.peer)):
                report.problems[cell.name] = [reason]
                continue
            began = time.monotonic()
            try:
                measurement = cell.run(system)
            except (RuntimeError, OSError, SafekeepError, LocalStackError, psycopg.Error, redis.RedisError) as error:
                report.problems.setdefault(cell.name, []).append(f"failed: {error}")
                outcome = f"failed: {error}"
            else:
                report.rounds.setdefault(cell.name, []).append(measurement)
                outcome = f"{measurement.rate:,.0f} a second"
                if measurement.p50_ms is not None:
                    outcome += f", p50 {measurement.p50_ms:.1f} ms"
            duration_s = time.monotonic() - began
            print(f"round {number}  {cell.name:26} {outcome}  ({duration_s:.0f} s)", file=sys.stderr, flush=True)


def choose(cells: Sequence[Cell], only: Sequence[str], *, has_peers: bool) -> list[Cell]:
    """The cells that are wanted: by name, or else by what their names begin with. Raises SystemExit for none."""
    names = {cell.name for cell in cells}
    wanted: set[str] = set()
    for word in only:
        found = {word} & names or {name for name in names if name.startswith(word)}
        if not found:
            raise SystemExit(f"there is no cell {word}; --list shows them")
        wanted |= found
    chosen = [cell for cell in cells if not only or cell.name in wanted]
    return [cell for cell in chosen if has_peers or cell.peer is None]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="CELL", help="names of cells, or what they begin with")
    parser.add_argument("--rounds", type=int, help=f"how often each cell is run; {ROUNDS} unless told")
    parser.add_argument("--quick", action="store_true", help="small counts and one round: shows that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show new / old against an earlier result")
    parser.add_argument("--without-peers", action="store_true", help="leave out the other programs")
    parser.add_argument("--list", action="store_true", help="show the names of all cells")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a cell failed. A target that is missed is told and no failure."""
    options = parse(arguments)
    cells = choose(all_cells(), options.only, has_peers=not options.without_peers)
    if options.list:
        print("\n".join(f"{cell.name:26} {cell.section}: {cell.title}" for cell in cells))
        return 0
    old = from_json(options.compare) if options.compare else None
    with (
        tempfile.TemporaryDirectory(prefix="safekeep-bench-") as name,
        System(Path(name), QUICK if options.quick else FULL) as system,
    ):
        report = Report(_environment(system, is_quick=options.quick))
        measure(cells, system, report, options.rounds or (1 if options.quick else ROUNDS))
    print_report(report, cells)
    if old is not None:
        print_comparison(report, old, cells)
    if options.json:
        options.json.write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")
    return int(any("failed" in problem for problems in report.problems.values() for problem in problems))


def _environment(system: System, *, is_quick: bool) -> dict[str, object]:
    postgres = rows(system.postgres.url(), "show server_version")[0]["server_version"]
    with redis.Redis.from_url(system.queue.url()) as queue:
        facts = queue.info("server")
    name = "Valkey" if "valkey_version" in facts else "Redis"
    return describe_environment(
        postgres_version=postgres,
        queue_version=f"{name} {facts.get('valkey_version', facts['redis_version'])}",
        directory=system.directory,
        is_quick=is_quick,
    )


if __name__ == "__main__":
    try:
        with stops_raise():
            sys.exit(main())
    except Stopped as stopped:
        sys.exit(128 + stopped.number)
