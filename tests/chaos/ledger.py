"""The faulty broker's memory: an append-only file with one JSON line for each thing that happened, and how to read it.

A line is in the file before the broker acts on it or answers, so the file outlives a kill of the broker, and it, not
Safekeep, says how many backups there are. The broker reads it when it starts; the verdict reads it at the end.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NEVER_S = 1e12  # when a backup ends that never does


@dataclass
class Begun:
    """A backup that was really begun. Times are Unix seconds."""

    id: str
    instance: str
    job: str  #: the job that the platform said it is for
    attributes: str  #: of the request that began it; the same id with others is a conflict
    begun_at: float
    ends_at: float
    outcome: str  #: "succeeded" or "failed", once it has ended
    is_stubborn: bool = False  #: its PUT is never answered with success, though it was begun
    gone_at: float | None = None  #: when a DELETE is, or was, through with it

    def state(self, now: float) -> str:
        """What the broker says of it; "gone" after a DELETE."""
        if self.gone_at is not None:
            return "deleting" if now < self.gone_at else "gone"
        return self.outcome if now >= self.ends_at else "in progress"

    def is_live(self, now: float) -> bool:
        """Whether it takes up room that somebody pays for."""
        return self.state(now) in {"in progress", "succeeded"}


@dataclass
class Memory:
    """What a ledger adds up to."""

    backups: dict[str, Begun] = field(default_factory=dict)
    tombstones: set[str] = field(default_factory=set)
    begins: Counter[str] = field(default_factory=Counter)  #: by id; more than 1 is what must never be
    puts: Counter[str] = field(default_factory=Counter)  #: by id
    conflicts: set[str] = field(default_factory=set)  #: ids that came with two different requests
    faults: Counter[str] = field(default_factory=Counter)  #: by kind
    ids_of_job: dict[str, set[str]] = field(default_factory=dict)  #: of begun ones

    def take(self, line: dict[str, Any]) -> None:
        """Let one line of the ledger happen."""
        match line["event"]:
            case "put":
                self.puts[line["id"]] += 1
            case "begin":
                begun = Begun(**line["backup"])
                self.begins[begun.id] += 1
                self.backups[begun.id] = begun
                self.ids_of_job.setdefault(begun.job, set()).add(begun.id)
            case "delete":
                self.tombstones.add(line["id"])
                if line["id"] in self.backups:
                    self.backups[line["id"]].gone_at = line["gone_at"]
            case "conflict":
                self.conflicts.add(line["id"])
            case "fault":
                self.faults[line["kind"]] += 1


def read_ledger(file: Path) -> Memory:
    """The memory that `file` adds up to; a line cut off by a kill was never acted on, and is left out."""
    memory = Memory()
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            memory.take(json.loads(line))
    return memory


class Ledger:
    """Writes to the file, and keeps what it adds up to at hand. One process at a time; close it at the end."""

    def __init__(self, file: Path) -> None:
        self.memory = read_ledger(file)
        text = file.read_bytes() if file.exists() else b""
        self._file = file.open("ab", buffering=0)
        self._file.truncate(text.rfind(b"\n") + 1)

    def write(self, event: str, **facts: Any) -> None:
        """Let `event` happen, in the file first."""
        line = {"at": round(time.time(), 4), "event": event, **facts}
        self._file.write(json.dumps(line).encode() + b"\n")
        self.memory.take(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
