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
COMBINATIONS: Final = tuple((point.value, state.value) for state in STATES for point in Point)
NTH_MAX: Final = 4
VARIABLE: Final = "CHAOS_CRASH"
FILE_VARIABLE: Final = "CHAOS_CRASH_FILE"


@dataclass(frozen=True)
class Crash:
    """Die the `nth` time that a worker comes to `point` with a job in `state`."""

    point: str
    state: str
    nth: int

    def to_text(self) -> str:
        """For an environment variable."""
        return json.dumps(asdict(self))


class CrashPlan:
    """Hands crashes to workers, one each, until every combination was hit `rounds` times."""

    def __init__(self, rng: random.Random, rounds: int, file: Path) -> None:
        self.file = file
        self._waiting: deque[Crash] = deque()
        for _ in range(rounds):
            shuffled = rng.sample(COMBINATIONS, len(COMBINATIONS))
            self._waiting.extend(Crash(point, state, rng.randint(1, NTH_MAX)) for point, state in shuffled)
        self._given: dict[int, Crash] = {}

    @property
    def text(self) -> list[str]:
        """The plan, for the report."""
        return [f"{crash.point} / {crash.state}, time {crash.nth}" for crash in self._waiting]

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
        if crash is not None and pid not in {line["pid"] for line in self._lines()}:
            self._waiting.appendleft(crash)

    def hits(self) -> Counter[tuple[str, str]]:
        """How often each combination was hit; all of them are in it."""
        hits = Counter(dict.fromkeys(COMBINATIONS, 0))
        hits.update((line["point"], line["state"]) for line in self._lines())
        return hits

    def times(self) -> list[float]:
        """When workers died in this way, in Unix seconds."""
        return [line["at"] for line in self._lines()]

    def _lines(self) -> list[dict[str, object]]:
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]
