"""A worker that kills or freezes itself inside a step, where it was told to; otherwise a worker like every other."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING

from deploy.cli.worker import run_worker_process
from shared.settings import load_settings
from tests.chaos.crashes import DIES, FILE_VARIABLE, VARIABLE, Hit, from_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.records import Claim
    from tests.chaos.crashes import Crash
    from worker.hooks import Hook, Point


def crashing_hook(crashes: Sequence[Crash], file: str) -> Hook:
    """A hook that does `crashes` to the process, one after the other, each after it has left a line in `file`."""
    waiting = deque(crashes)
    comings = 0

    def hook(point: Point, claim: Claim) -> None:
        nonlocal comings
        if not waiting or (point.value, claim.state.value) != (waiting[0].point, waiting[0].state):
            return
        comings += 1
        if comings < waiting[0].nth:
            return
        comings = 0
        act = waiting.popleft().act
        hit = Hit(act, point.value, claim.state.value, os.getpid(), time.time(), str(claim.job_guid))
        with open(file, "ab", buffering=0) as output:  # noqa: PTH123 - one write, so that no line is ever in two pieces
            output.write(json.dumps(asdict(hit)).encode() + b"\n")
        # To this thread: a signal to the process may reach another one first, and this one would go on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if act == DIES else signal.SIGSTOP)

    return hook


def main() -> int:
    """Work until stopped, or until the place has come to die."""
    hook = crashing_hook(from_text(os.environ[VARIABLE]), os.environ[FILE_VARIABLE])
    return run_worker_process(load_settings(), hook)


if __name__ == "__main__":
    sys.exit(main())
