"""The report of a run: what was done, what came of it, and whether anything is wrong; as text and as JSON."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.chaos.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SHOWN_MAX: Final = 10


@dataclass
class Report:
    """Sections in the order in which they are shown, and the verdict."""

    seed: int
    verdict: Verdict = field(default_factory=Verdict)
    facts: dict[str, Any] = field(default_factory=dict)
    schedule: list[str] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)  #: what was to be injected, and was not

    @property
    def is_good(self) -> bool:
        """Whether the run proves what it is for."""
        return self.verdict.is_good and not self.not_done

    def to_text(self) -> str:
        """For people."""
        lines = ["", "schedule", *(f"  {line}" for line in self.schedule)]
        for name, value in self.facts.items():
            if isinstance(value, dict):
                lines += ["", name, *(f"  {count:>8}  {key}" for key, count in value.items())]
            else:
                lines += ["", f"{name}: {value}"]
        lines.append("")
        for kind, texts in self.verdict.found.items():
            lines += [f"{kind.value:14} {len(texts)}", *_some(texts)]
        if self.verdict.left_at_broker:
            count = len(self.verdict.left_at_broker)
            lines += [f"left at the broker by failed jobs, since nothing cleans up yet: {count}"]
        if self.not_done:
            lines += ["to be injected, and was not", *_some(self.not_done)]
        judgement = "nothing lost, stuck, doubled or contradicting" if self.is_good else "NOT GOOD"
        return "\n".join([*lines, "", f"{judgement} (seed {self.seed})"])

    def publish(self, json_file: Path | None) -> int:
        """Print it, write it where wanted, and return the exit code."""
        say(self.to_text())
        if json_file is not None:
            self.write_json(json_file)
        return 0 if self.is_good else 1

    def write_json(self, file: Path) -> None:
        """For machines: all of it, nothing cut off."""
        whole = {
            "seed": self.seed,
            "is_good": self.is_good,
            **{kind.value: texts for kind, texts in self.verdict.found.items()},
            "left at the broker": self.verdict.left_at_broker,
            "not injected": self.not_done,
            **self.facts,
            "schedule": self.schedule,
        }
        file.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Tell the person at the terminal, at once."""
    print(text, flush=True)  # noqa: T201 - it is a program


def _some(texts: Sequence[str]) -> list[str]:
    more = [f"  … and {len(texts) - SHOWN_MAX} more"] if len(texts) > SHOWN_MAX else []
    return [f"  {text}" for text in texts[:SHOWN_MAX]] + more


def recovery_times(faults: Iterable[float], steps: Sequence[float]) -> list[float]:
    """Seconds from each fault to the first step that was recorded after it; a fault with none after it has none."""
    places = ((fault, bisect_right(steps, fault)) for fault in faults)
    return [steps[place] - fault for fault, place in places if place < len(steps)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0


def by_count(counts: Mapping[Any, int]) -> dict[str, int]:
    """Texts with their counts, the greatest first."""
    return {str(key): count for key, count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))}
