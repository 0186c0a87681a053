"""Where inside a step a worker shall die: every point of a step, in every state of an open job, by enumeration."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from shared.states import JobState
from worker.hooks import Point

if TYPE_CHECKING:
    import random
    from pathlib import Path

STATES: Final = (JobState.START, JobState.POLL)
DIES: Final = "dies"
FREEZES: Final = "freezes"
#: What happens, where, in which state. A worker that freezes with an answer in its hand writes late when it wakes; one
#: that freezes before a start sends it late.
Place = tuple[str, str, str]
PLACES: Final[tuple[Place, ...]] = (
    *((DIES, point.value, state.value) for state in STATES for point in Point),
    *((FREEZES, Point.BEFORE_RECORD.value, state.value) for state in STATES),
    (FREEZES, Point.BEFORE_CALL.value, JobState.START.value),
)
NTH_MAX: Final = 3
VARIABLE: Final = "CHAOS_CRASH"
FILE_VARIABLE: Final = "CHAOS_CRASH_FILE"


@dataclass(frozen=True)
class Crash:
    """What a worker shall do to itself the `nth` time that it comes to `point` with a job in `state`."""

    act: str
    point: str
    state: str
    nth: int

    def __str__(self) -> str:
        return f"worker {self.act} {self.point} ({self.state}), time {self.nth}"


@dataclass(frozen=True)
class Hit:
    """A worker's last words before it did it."""

    act: str
    point: str
    state: str
    pid: int
    at: float  #: Unix seconds
    job: str


def to_text(crashes: tuple[Crash, ...]) -> str:
    """What a worker shall do to itself, one after the other, for an environment variable."""
    return json.dumps([asdict(crash) for crash in crashes])


def from_text(text: str) -> tuple[Crash, ...]:
    """The other way round."""
    return tuple(Crash(**crash) for crash in json.loads(text))


class CrashPlan:
    """Hands crashes to workers until every place was hit `rounds` times: to each some to live through, and a death."""

    def __init__(self, rng: random.Random, rounds: int, file: Path) -> None:
        self.file = file
        self._waiting: deque[Crash] = deque()
        for _ in range(rounds):
            self._waiting.extend(Crash(*place, rng.randint(1, NTH_MAX)) for place in rng.sample(PLACES, len(PLACES)))
        self._given: dict[int, tuple[Crash, ...]] = {}

    @property
    def text(self) -> list[str]:
        """The plan, for the report."""
        return [str(crash) for crash in self._waiting]

    def next(self) -> tuple[Crash, ...]:
        """What the next worker shall do to itself; nothing once the plan is used up."""
        crashes: list[Crash] = []
        while self._waiting and DIES not in {crash.act for crash in crashes}:
            crashes.append(self._waiting.popleft())
        return tuple(crashes)

    def given(self, pid: int, crashes: tuple[Crash, ...]) -> None:
        """Remember what the worker `pid` was told."""
        self._given[pid] = crashes

    def died(self, pid: int) -> None:
        """A worker is gone. What it had not come to, because something else was quicker, is left for another one."""
        done = sum(hit.pid == pid for hit in self.hits())
        self._waiting.extendleft(reversed(self._given.pop(pid, ())[done:]))

    def frozen(self) -> set[tuple[int, float]]:
        """Process ids of workers that froze themselves, each with the time in Unix seconds; awake ones too."""
        return {(hit.pid, hit.at) for hit in self.hits() if hit.act == FREEZES}

    def hits(self) -> list[Hit]:
        """What workers did to themselves so far."""
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        return [Hit(**json.loads(line)) for line in text.splitlines()]

    def counts(self) -> dict[str, int]:
        """How often each place was hit; all of them are in it."""
        hits = Counter((hit.act, hit.point, hit.state) for hit in self.hits())
        return {f"{act} {point} ({state})": hits[act, point, state] for act, point, state in PLACES}
