"""A worker that kills or freezes itself inside a step, where it was told to; otherwise a worker like every other."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from deploy.cli.worker import run_worker_process
from shared.settings import load_settings
from tests.chaos.crashes import DIES, FILE_VARIABLE, VARIABLE, Hit
from worker.hooks import pass_by

if TYPE_CHECKING:
    from shared.records import Claim
    from worker.hooks import Hook, Point


def crashing_hook(told: str, file: str) -> Hook:
    """A hook that kills or stops the process as `told` says, once, after it has left a line in `file`."""
    crash = json.loads(told)
    left = int(crash["nth"])

    def hook(point: Point, claim: Claim) -> None:
        nonlocal left
        if (point.value, claim.state.value) != (crash["point"], crash["state"]):
            return
        left -= 1
        if left != 0:
            return
        hit = Hit(crash["act"], point.value, claim.state.value, os.getpid(), time.time(), str(claim.job_guid))
        with open(file, "ab", buffering=0) as output:  # noqa: PTH123 - one write, so that no line is ever in two pieces
            output.write(json.dumps(asdict(hit)).encode() + b"\n")
        # To this thread: a signal to the process may reach another one first, and this one would go on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if crash["act"] == DIES else signal.SIGSTOP)

    return hook


def main() -> int:
    """Work until stopped, or until the place has come."""
    told = os.environ.get(VARIABLE)
    hook = crashing_hook(told, os.environ[FILE_VARIABLE]) if told else pass_by
    return run_worker_process(load_settings(), hook)


if __name__ == "__main__":
    sys.exit(main())
