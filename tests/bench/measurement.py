"""What a cell of the benchmark found out in one round, and what its rounds say together."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

#: From so much of a core on, a part was what held the others up.
SATURATED_CORES: Final = 0.85
#: With less than this left of all cores, they were what held everything up.
IDLE_CORES: Final = 0.1
#: So much work of others on the same computer makes a round worth less.
DISTURBED_CORES: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One round of a cell. What a kind of cell does not measure is None."""

    count: int  #: requests, or jobs, in the measured time
    seconds: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None
    cpu_ms: float | None = None  #: CPU time of what is measured, for each request or job
    rss_mib: float | None = None  #: its peak, summed over its processes
    pss_mib: float | None = None  #: the same, with shared pages counted once
    largest_mib: float | None = None  #: the peak RSS of its largest process
    cores: dict[str, float] = field(default_factory=dict)  #: by part of the system
    busiest: dict[str, float] = field(default_factory=dict)  #: of each part, its busiest process
    others_cores: float = 0.0  #: used on this computer by what is not part of it
    idle_cores: float | None = None  #: used by nobody

    @property
    def rate(self) -> float:
        """Requests or jobs a second."""
        return self.count / self.seconds if self.seconds else 0.0

    @property
    def saturated(self) -> list[str]:
        """Parts of which one process was at its limit, which is one core; and the computer itself, if it was."""
        parts = [part for part, cores in self.busiest.items() if cores >= SATURATED_CORES]
        is_full = self.idle_cores is not None and self.idle_cores < IDLE_CORES
        return [*parts, "all cores"] if is_full else parts


class Spread(NamedTuple):
    """The middle of several rounds, with the least and the most."""

    middle: float
    least: float
    most: float


def spread(rounds: Sequence[Measurement], name: str) -> Spread | None:
    """The spread of one number over the rounds; None when it was not measured."""
    values = [value for each in rounds if (value := getattr(each, name)) is not None]
    return Spread(median(values), min(values), max(values)) if values else None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
