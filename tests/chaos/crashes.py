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
NTH_MAX: Final = 4
VARIABLE: Final = "CHAOS_CRASH"
FILE_VARIABLE: Final = "CHAOS_CRASH_FILE"


@dataclass(frozen=True)
class Crash:
    """What a worker shall do to itself the `nth` time that it comes to `point` with a job in `state`."""

    act: str
    point: str
    state: str
    nth: int

    def to_text(self) -> str:
        """For an environment variable."""
        return json.dumps(asdict(self))

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


class CrashPlan:
    """Hands crashes to workers, one each, until every place was hit `rounds` times."""

    def __init__(self, rng: random.Random, rounds: int, file: Path) -> None:
        self.file = file
        self._waiting: deque[Crash] = deque()
        for _ in range(rounds):
            self._waiting.extend(Crash(*place, rng.randint(1, NTH_MAX)) for place in rng.sample(PLACES, len(PLACES)))
        self._given: dict[int, Crash] = {}

    @property
    def text(self) -> list[str]:
        """The plan, for the report."""
        return [str(crash) for crash in self._waiting]

    def next(self) -> Crash | None:
        """What the next worker shall do."""
        return self._waiting.popleft() if self._waiting else None

    def given(self, pid: int, crash: Crash | None) -> None:
        """Remember that the worker `pid` was told to die in this way."""
        if crash is not None:
            self._given[pid] = crash

    def died(self, pid: int) -> None:
        """A worker is gone. If something else was quicker, its crash is left for another one."""
        crash = self._given.pop(pid, None)
        if crash is not None and pid not in {hit.pid for hit in self.hits()}:
            self._waiting.appendleft(crash)

    def frozen_since(self) -> dict[int, float]:
        """Workers that froze themselves, by process id, with the time in Unix seconds; awake ones too."""
        return {hit.pid: hit.at for hit in self.hits() if hit.act == FREEZES}

    def hits(self) -> list[Hit]:
        """What workers did to themselves so far."""
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        return [Hit(**json.loads(line)) for line in text.splitlines()]

    def counts(self) -> dict[str, int]:
        """How often each place was hit; all of them are in it."""
        hits = Counter((hit.act, hit.point, hit.state) for hit in self.hits())
        return {f"{act} {point} ({state})": hits[act, point, state] for act, point, state in PLACES}
