"""What a cell of the benchmark found out in one round, and what its rounds say together."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.bench.usage import Usage

#: From so much of a core on, a part was what held the others up.
SATURATED_CORES: Final = 0.85
#: With less than this left of all cores, they were what held everything up.
IDLE_CORES: Final = 0.1
#: So much work of others on the same computer makes a round worth less.
DISTURBED_CORES: Final = 0.2


class Times(NamedTuple):
    """How long requests took, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, times_ms: Iterable[float]) -> Times:
        """Those of so many requests, at least one."""
        ordered = sorted(times_ms)
        p50_ms, p95_ms, p99_ms = (ordered[int(share * len(ordered))] for share in (0.5, 0.95, 0.99))
        return cls(p50_ms, p95_ms, p99_ms, ordered[-1])


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

    @classmethod
    def of(
        cls, usage: Usage, *, count: int, seconds: float, part: str | None = None, times: Times | None = None
    ) -> Measurement:
        """What a round says: of a `part` also what it used itself, and of requests how long they took."""
        return cls(
            count=count,
            seconds=seconds,
            p50_ms=times and times.p50_ms,
            p95_ms=times and times.p95_ms,
            p99_ms=times and times.p99_ms,
            max_ms=times and times.max_ms,
            cpu_ms=None if part is None else usage.cpu_s[part] * 1000 / max(count, 1),
            rss_mib=None if part is None else usage.rss_mib[part],
            pss_mib=None if part is None else usage.pss_mib[part],
            largest_mib=None if part is None else usage.largest_mib[part],
            cores=usage.cores,
            busiest=usage.busiest,
            others_cores=usage.others_cores,
            idle_cores=usage.idle_cores,
        )

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
