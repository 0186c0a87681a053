"""CPU and memory of groups of processes, over any part of the time that was watched. Reads Linux' /proc.

A group is the tree below its root processes. The time of processes that have ended is in what their parents reaped.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

BENCH: Final = "bench"
INTERVAL_S: Final = 0.2
#: Asking for proportional memory makes the kernel walk over all pages, so it is done less often.
PSS_EVERY: Final = 5
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 2**20


class _Process(NamedTuple):
    own_s: float
    reaped_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    busy_s: float  #: of the whole computer
    processes: dict[str, dict[int, _Process]]
    pss_bytes: dict[str, int]

    def total_s(self, group: str) -> float:
        # What we reaped ourselves belongs to the groups that it was in.
        return sum(
            process.own_s + (process.reaped_s if group != BENCH else 0.0) for process in self.processes[group].values()
        )

    def rss(self, group: str) -> list[int]:
        return [process.rss_bytes for process in self.processes[group].values()]


@dataclass(frozen=True, slots=True)
class Usage:
    """What the groups used between two moments."""

    cpu_s: dict[str, float]
    cores: dict[str, float]
    busiest: dict[str, float]  #: cores of the busiest process of each group
    others_cores: float  #: of the whole computer, what no group used
    idle_cores: float  #: of the whole computer, what nobody used
    rss_mib: dict[str, float] = field(default_factory=dict)
    pss_mib: dict[str, float] = field(default_factory=dict)
    largest_mib: dict[str, float] = field(default_factory=dict)


class Sampler:
    """Watches groups, each with the ids of its root processes, in a thread of its own. Use it with `with`.

    This process is one more group, BENCH, without what it has started.
    """

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = {**groups, BENCH: [os.getpid()]}
        self._samples: list[_Sample] = []
        self._seen: dict[int, _Process] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._samples.append(self._take(has_pss=True))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        with suppress(OSError):
            self._samples.append(self._take(has_pss=False))

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(INTERVAL_S):
            number += 1
            self._samples.append(self._take(has_pss=number % PSS_EVERY == 0))

    def _take(self, *, has_pss: bool) -> _Sample:
        processes: dict[str, dict[int, _Process]] = {}
        pss: dict[str, int] = {}
        for group, roots in self._groups.items():
            pids = [pid for root in roots for pid in _tree(root)] if group != BENCH else roots
            found = {pid: _read(pid) for pid in pids}
            processes[group] = {pid: process for pid, process in found.items() if process is not None}
            # One that has ended is counted by its parent; a root's parent is not in the group.
            ended = {pid: self._seen[pid] for pid in roots if found[pid] is None and pid in self._seen}
            processes[group] |= {pid: process._replace(rss_bytes=0) for pid, process in ended.items()}
            self._seen |= {pid: processes[group][pid] for pid in roots if pid in processes[group]}
            if has_pss:
                pss[group] = sum(_pss_bytes(pid) for pid in pids)
        return _Sample(time.time(), _busy_s(), processes, pss)

    def usage(self, begin_s: float, end_s: float) -> Usage:
        """What was used between two moments of the computer's clock, interpolated between samples."""
        seconds = max(end_s - begin_s, 1e-9)
        first, last = self._around(begin_s), self._around(end_s)
        cpu_s = {group: self._at(end_s, group) - self._at(begin_s, group) for group in self._groups}
        span_s = max(last.at_s - first.at_s, 1e-9)
        busiest = {
            group: max(
                (
                    (process.own_s - (first.processes[group][pid].own_s if pid in first.processes[group] else 0.0))
                    / span_s
                    for pid, process in last.processes[group].items()
                ),
                default=0.0,
            )
            for group in self._groups
        }
        known_s = sum(last.total_s(group) - first.total_s(group) for group in self._groups)
        within = [sample for sample in self._samples if sample.at_s <= end_s] or self._samples[:1]
        return Usage(
            cpu_s=cpu_s,
            cores={group: used_s / seconds for group, used_s in cpu_s.items()},
            busiest=busiest,
            others_cores=max(0.0, (last.busy_s - first.busy_s - known_s) / span_s),
            idle_cores=max(0.0, (os.cpu_count() or 1) - (last.busy_s - first.busy_s) / span_s),
            rss_mib={group: max(sum(each.rss(group)) for each in within) / _MIB for group in self._groups},
            pss_mib={
                group: max((each.pss_bytes[group] for each in within if each.pss_bytes), default=0) / _MIB
                for group in self._groups
            },
            largest_mib={
                group: max(max(each.rss(group), default=0) for each in within) / _MIB for group in self._groups
            },
        )

    def _index(self, moment_s: float) -> int:
        index = bisect_left(self._samples, moment_s, key=lambda sample: sample.at_s)
        return min(max(index, 1), len(self._samples) - 1)

    def _around(self, moment_s: float) -> _Sample:
        """The sample that was taken closest to a moment."""
        index = self._index(moment_s)
        return min(self._samples[index - 1 : index + 1], key=lambda sample: abs(sample.at_s - moment_s))

    def _at(self, moment_s: float, group: str) -> float:
        """The CPU time that the group had used at a moment."""
        index = self._index(moment_s)
        before, after = self._samples[index - 1 : index + 1]
        share = min(1.0, max(0.0, (moment_s - before.at_s) / (after.at_s - before.at_s)))
        return before.total_s(group) + share * (after.total_s(group) - before.total_s(group))


def _tree(root: int) -> Iterator[int]:
    yield root
    with suppress(OSError):
        for thread in Path(f"/proc/{root}/task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text(encoding="ascii").split():
                    yield from _tree(int(child))


def _read(pid: int) -> _Process | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name may hold anything, brackets too; what follows the last of them are numbers.
    words = line.rpartition(")")[2].split()
    user, system, reaped_user, reaped_system = (int(word) * _TICK_S for word in words[11:15])
    return _Process(user + system, reaped_user + reaped_system, int(words[21]) * _PAGE_BYTES)


def _pss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _busy_s() -> float:
    user, nice, system, _, _, *others = map(int, Path("/proc/stat").read_text(encoding="ascii").split()[1:9])
    return (user + nice + system + sum(others)) * _TICK_S
