"""What Safekeep is to reach, as ratios within one run, and how far a run is from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.bench.cells import PEERS
from tests.bench.measurement import Measurement, spread
from tests.bench.work_cells import LATENCIES_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Rounds = Mapping[str, Sequence[Measurement]]

SMALL_MIB: Final = 100
ALL_MIB: Final = 210


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target, and what a run has for it; `value` is None when cells that it needs were not measured."""

    what: str
    target: float
    is_at_most: bool
    value: float | None

    @property
    def wanted(self) -> str:
        """The target in a few characters."""
        return f"{'≤' if self.is_at_most else '≥'} {self.target:g}"

    @property
    def is_reached(self) -> bool | None:
        """Whether it is; None when it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.target if self.is_at_most else self.value >= self.target

    @property
    def judgement(self) -> str:
        """In words, with how much is missing as a share of the target."""
        if self.value is None:
            return "not measured"
        if self.is_reached:
            return "reached"
        return f"missed by {abs(self.value - self.target) / self.target:.0%}"


def judge(rounds: Rounds) -> list[Verdict]:
    """All targets."""

    def at_least(what: str, target: float, value: float | None) -> Verdict:
        return Verdict(what=what, target=target, is_at_most=False, value=value)

    def at_most(what: str, target: float, value: float | None) -> Verdict:
        return Verdict(what=what, target=target, is_at_most=True, value=value)

    verdicts = [
        at_least("accepts / naive", 10, _ratio(rounds, "rate", "accept.safekeep", "accept.naive")),
        at_least("accepts / bare handler", 0.40, _ratio(rounds, "rate", "accept.safekeep", "accept.bare")),
        at_most("accepts: p99 / bare handler's", 3, _ratio(rounds, "p99_ms", "accept.safekeep", "accept.bare")),
        at_least("job reads / bare handler", 0.45, _ratio(rounds, "rate", "read.safekeep", "read.bare")),
    ]
    for latency_ms in LATENCIES_MS:
        name, at = f"work-{latency_ms}", f"broker {latency_ms} ms"
        ours = f"{name}.safekeep"
        limit = _best(rounds, [f"{name}.no-queue", f"{name}.no-queue-each"])
        peer = _best(rounds, [f"{name}.{peer}" for peer in PEERS])
        naive = f"{name}.naive"
        verdicts += [
            at_least(f"jobs / no-queue limit, {at}", 0.80, _quotient(_middle(rounds, ours, "rate"), limit)),
            at_least(f"jobs / best peer, {at}", 1.5, _quotient(_middle(rounds, ours, "rate"), peer)),
            at_most(f"CPU per job / naive, {at}", 0.15, _ratio(rounds, "cpu_ms", ours, naive)),
        ]
    ours_everywhere = [f"work-{latency_ms}.safekeep" for latency_ms in LATENCIES_MS]
    return [
        *verdicts,
        at_most("worker memory for these, MiB in all", ALL_MIB, _most(rounds, ours_everywhere, "rss_mib")),
        at_most("worker memory for these, MiB a process", SMALL_MIB, _most(rounds, ours_everywhere, "largest_mib")),
        at_most("round trip p50 / naive", 1.1, _ratio(rounds, "p50_ms", "round-trip.safekeep", "round-trip.naive")),
    ]


def _middle(rounds: Rounds, cell: str, name: str) -> float | None:
    found = spread(rounds.get(cell, ()), name)
    return found.middle if found else None


def _ratio(rounds: Rounds, name: str, cell: str, other: str) -> float | None:
    return _quotient(_middle(rounds, cell, name), _middle(rounds, other, name))


def _quotient(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None


def _best(rounds: Rounds, cells: Iterable[str]) -> float | None:
    return max((rate for cell in cells if (rate := _middle(rounds, cell, "rate")) is not None), default=None)


def _most(rounds: Rounds, cells: Iterable[str], name: str) -> float | None:
    return max((value for cell in cells if (value := _middle(rounds, cell, name)) is not None), default=None)
