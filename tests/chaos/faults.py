"""What is done to the stack from outside, and when: a schedule from a seed. Doing it is the injector's part."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.chaos.stack import LEASE_S

#: Between the beginnings of two faults, when there is time for all kinds.
GAP_S: Final = 1.3


class Kind(StrEnum):
    """A fault. The values are what the report says."""

    KILL_WORKER = "SIGKILL of a worker"
    FREEZE_WORKER = "SIGSTOP of a worker for longer than a lease"
    KILL_API = "SIGKILL of the API"
    KILL_BROKER = "SIGKILL of the broker"
    FLUSH_QUEUE = "FLUSHALL of the queue"
    KILL_QUEUE = "SIGKILL of the queue"
    FREEZE_QUEUE = "SIGSTOP of the queue"
    JUNK_QUEUE = "junk in the queue"
    CRASH_POSTGRES = "crash of PostgreSQL"
    CUT_POSTGRES = "connections to PostgreSQL cut"
    CUT_QUEUE = "connections to the queue cut"
    CUT_BROKER = "connections to the broker cut"
    REFUSE_POSTGRES = "PostgreSQL not to be reached"
    REFUSE_BROKER = "broker not to be reached"
    DELAY_POSTGRES = "PostgreSQL slow"
    DELAY_QUEUE = "queue slow"
    DELAY_BROKER = "broker slow"
    REPEAT_HINTS = "hints repeated"
    LATE_HINTS = "hints delayed"
    BAD_HINTS = "expired and senseless hints"


#: How long each lasts, in seconds, from and to; those that are not here are over at once.
LASTS_S: Final = {
    Kind.FREEZE_WORKER: (LEASE_S + 0.5, LEASE_S + 1.5),
    Kind.KILL_API: (0.0, 0.5),
    Kind.KILL_BROKER: (0.2, 1.0),
    Kind.KILL_QUEUE: (0.5, 2.0),
    Kind.FREEZE_QUEUE: (1.0, 3.0),
    Kind.CRASH_POSTGRES: (0.2, 1.0),
    Kind.REFUSE_POSTGRES: (0.5, 2.0),
    Kind.REFUSE_BROKER: (0.5, 2.0),
    Kind.DELAY_POSTGRES: (1.0, 2.0),
    Kind.DELAY_QUEUE: (1.0, 3.0),
    Kind.DELAY_BROKER: (1.0, 3.0),
    Kind.LATE_HINTS: (1.0, 3.0),
}


@dataclass(frozen=True)
class Fault:
    """One fault: `at_s` seconds after the clients began. `place` chooses among several workers."""

    at_s: float
    kind: Kind
    lasts_s: float
    place: int
    strength: float  #: from 0 to 1

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s  {self.kind.value}{lasts}"


def plan_faults(seed: int, duration_s: float) -> list[Fault]:
    """A schedule: every kind once before any comes again, evenly over `duration_s` seconds, with some jitter."""
    rng = random.Random(f"faults {seed}")
    rounds = max(1, round(duration_s / GAP_S / len(Kind)))
    kinds = [kind for _ in range(rounds) for kind in rng.sample(list(Kind), len(Kind))]
    gap_s = duration_s / len(kinds)
    return [
        Fault(
            at_s=(number + rng.random()) * gap_s,
            kind=kind,
            lasts_s=rng.uniform(*LASTS_S[kind]) if kind in LASTS_S else 0.0,
            place=rng.randrange(1000),
            strength=rng.random(),
        )
        for number, kind in enumerate(kinds)
    ]
