"""How long starting takes: `python -m tests.bench.start --rounds 5`.

Spawns each process anew, in turns, and prints medians, minima and maxima in seconds beside the targets and beside the
limits: what the libraries alone take. `./run` is measured after one that has made what it keeps.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final
from urllib.error import URLError
from urllib.request import urlopen

from deploy.local.processes import ChildProcess, free_port
from deploy.local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = [sys.executable, "-m", "deploy.cli.main"]
TIMEOUT_S: Final = 60
#: What is measured, and what it should take at most, in seconds; None for a limit beside which the others stand.
TARGETS: Final = {
    "limit: import aiohttp.web": None,
    "limit: import of Celery's worker": None,
    "import api.app": 0.6,
    "api, to the first 200": 2.0,
    "worker, to consuming": 2.0,
    "./run, to the first backup accepted": 3.0,
    "./run, to its end": None,
}


def time_import(module: str) -> float:
    """Seconds that a fresh interpreter takes to import `module`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)
    return time.perf_counter() - began


@contextmanager
def child(name: str, environment: dict[str, str], home: Path) -> Iterator[ChildProcess]:
    """A process of Safekeep, with a log of its own, that is ended."""
    log = home / f"measured-{name}.log"
    log.write_bytes(b"")
    process = ChildProcess(name, [*COMMAND, name], log=log, environment={**os.environ, **environment})
    process.start()
    try:
        yield process
    finally:
        process.stop()


def time_api(stack: Stack) -> float:
    """Seconds from the start of `safekeep api` to its first good answer."""
    port = free_port()

    def is_healthy() -> bool:
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
            return True
        return False

    began = time.perf_counter()
    with child("api", stack.environment | {"SAFEKEEP_LISTEN_PORT": str(port)}, stack.directory) as process:
        process.wait_until(is_healthy, TIMEOUT_S)
        return time.perf_counter() - began


def time_worker(stack: Stack) -> float:
    """Seconds from the start of `safekeep worker` to its word that it consumes."""
    began = time.perf_counter()
    with child("worker", stack.environment, stack.directory) as process:
        process.wait_until(lambda: b"worker is up" in process.log.read_bytes(), TIMEOUT_S)
        return time.perf_counter() - began


def time_run(home: Path) -> tuple[float, float]:
    """Seconds from the start of `./run` to its first accepted backup, and to its end. Raises if it fails."""
    began = time.perf_counter()
    accepted = 0.0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAFEKEEP_")}
    with subprocess.Popen(
        [ROOT / "run"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"SAFEKEEP_LOCAL_DIRECTORY": str(home)},
    ) as process:
        try:
            for line in process.stdout or ():
                if not accepted and "202 Accepted" in line:
                    accepted = time.perf_counter() - began
        except BaseException:
            process.send_signal(signal.SIGTERM)
            raise
    if process.returncode or not accepted:
        raise RuntimeError(f"./run ended with {process.returncode}")
    return accepted, time.perf_counter() - began


def main() -> int:
    """Measure and print; 0, since a number is not right or wrong by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is started")
    rounds = parser.parse_args().rounds
    found: dict[str, list[float]] = {name: [] for name in TARGETS}
    with tempfile.TemporaryDirectory(prefix="safekeep-bench-") as name:
        home = Path(name)
        time_run(home)
        # No processes of ours but those that are measured.
        with Stack(home / "stack", is_scratch=True, workers=0) as stack:
            measured: dict[str, Callable[[], float]] = {
                "limit: import aiohttp.web": lambda: time_import("aiohttp.web"),
                "limit: import of Celery's worker": lambda: time_import("celery.apps.worker, kombu.transport.redis"),
                "import api.app": lambda: time_import("api.app"),
                "api, to the first 200": lambda: time_api(stack),
                "worker, to consuming": lambda: time_worker(stack),
            }
            for _ in range(rounds):
                for what, measure in measured.items():
                    found[what].append(measure())
        for _ in range(rounds):
            accepted_s, ended_s = time_run(home)
            found["./run, to the first backup accepted"].append(accepted_s)
            found["./run, to its end"].append(ended_s)
    print(f"{'':38}{'median':>8}{'min':>8}{'max':>8}{'target':>8}")
    for what, times in found.items():
        target = TARGETS[what]
        figures = "".join(f"{seconds:8.2f}" for seconds in (median(times), min(times), max(times)))
        print(f"{what:38}{figures}{'' if target is None else f'{target:8.1f}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
