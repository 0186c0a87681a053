"""A worker that kills itself inside a step, at the place that it was told; otherwise a worker like every other."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from deploy.cli.worker import run_worker_process
from shared.settings import load_settings
from tests.chaos.crashes import FILE_VARIABLE, VARIABLE
from worker.hooks import pass_by

if TYPE_CHECKING:
    from shared.records import Claim
    from worker.hooks import Hook, Point


def dying_hook(told: str, file: str) -> Hook:
    """A hook that ends the process with SIGKILL as `told` says, after it has left a line in `file`."""
    crash = json.loads(told)
    left = int(crash["nth"])

    def hook(point: Point, claim: Claim) -> None:
        nonlocal left
        if (point.value, claim.state.value) != (crash["point"], crash["state"]):
            return
        left -= 1
        if left > 0:
            return
        facts = {"pid": os.getpid(), "job": str(claim.job_guid), "fence": claim.fence, "at": time.time()}
        line = json.dumps({"point": point.value, "state": claim.state.value, **facts})
        with open(file, "ab", buffering=0) as output:  # noqa: PTH123 - one write, so that no line is ever in two pieces
            output.write(line.encode() + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)

    return hook


def main() -> int:
    """Work until stopped, or until the place has come."""
    told = os.environ.get(VARIABLE)
    hook = dying_hook(told, os.environ[FILE_VARIABLE]) if told else pass_by
    return run_worker_process(load_settings(), hook)


if __name__ == "__main__":
    sys.exit(main())
