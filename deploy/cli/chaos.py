"""`safekeep chaos`: the way to the program that breaks a stack on purpose, which lives with the tests.

An installed Safekeep does not have them; this module says so, and fills in what was not given.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from shared.errors import SafekeepError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SPREAD_S_PER_JOB: Final = 0.25
SPREAD_MIN_S: Final = 16.0
LIMIT_LOCAL_S: Final = 90.0
LIMIT_TARGET_S: Final = 1800.0


class NotInstalledError(SafekeepError):
    """The program is not there."""


def run_chaos(
    *,
    jobs: int,
    workers: int,
    seed: int | None,
    limit_s: float | None,
    spread_s: float | None,
    json_file: Path | None,
    keeps: bool,
    target: str | None,
    instances: Sequence[str],
    faults: Sequence[str],
) -> int:
    """Run it against a stack of its own, or against `target`; the exit code. Raises NotInstalledError."""
    try:
        from tests.chaos.local import LocalRun, run_local  # noqa: PLC0415 - see above
        from tests.chaos.staging import StagingRun, run_staging  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "tests":
            raise
        raise NotInstalledError(
            "chaos is part of Safekeep's tests, which an installed package does not have: "
            "run `./run chaos` or `make chaos` in a checkout of the source"
        ) from None
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    spread_s = max(SPREAD_MIN_S, jobs * SPREAD_S_PER_JOB) if spread_s is None else spread_s
    if target is None:
        local = LocalRun(seed=seed, jobs=jobs, workers=workers, limit_s=limit_s or LIMIT_LOCAL_S, spread_s=spread_s)
        return run_local(local, json_file=json_file, keeps=keeps)
    staging = StagingRun(
        seed=seed,
        jobs=jobs,
        target=target,
        instances=instances,
        faults=faults,
        limit_s=limit_s or LIMIT_TARGET_S,
        spread_s=spread_s,
    )
    return run_staging(staging, json_file=json_file)
