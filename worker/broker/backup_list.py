"""The wire type of `GET …/backups?limit=N`: what a broker says that it has, as far as that can be understood."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from shared.records import Json

ID_LENGTH_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class ListedBackup:
    """One entry. `state` is None when the entry cannot be understood but for its id; `trigger` may be any text."""

    id: str
    state: str | None
    trigger: str | None = None


@dataclass(frozen=True, slots=True)
class BackupList:
    """A broker's list. `is_complete`: what is not in it is not at the broker; `malformed` counts unusable entries."""

    backups: tuple[ListedBackup, ...]
    is_complete: bool
    malformed: int = 0


def read_backup_list(body: Json | None, limit: int) -> BackupList | None:
    """The list in `body`, the answer to a call with `limit`; None when there is none in it.

    An entry without a readable id could be any backup, so the list is then not complete.
    """
    entries = None if body is None else body.get("backups")
    if not isinstance(entries, list):
        return None
    found = [backup for entry in entries if (backup := _read(entry))]
    seen = Counter(backup.id for backup in found)
    once = {
        backup.id: backup if seen[backup.id] == 1 else ListedBackup(backup.id, None)  # which of them counts is unknown
        for backup in found
    }
    understood = sum(backup.state is not None for backup in once.values())
    return BackupList(
        tuple(once.values()),
        is_complete=len(found) == len(entries) < limit,
        malformed=len(entries) - understood,
    )


def _read(entry: Any) -> ListedBackup | None:  # Any: whatever the broker put into its list
    if not isinstance(entry, dict):
        return None
    match entry.get("id"):
        case str(guid) if guid and len(guid) <= ID_LENGTH_MAX and guid.isprintable():
            return ListedBackup(guid, _text(entry.get("state")), _text(entry.get("trigger")))
        case _:
            return None


def _text(value: Any) -> str | None:  # Any: as above
    return value if isinstance(value, str) and value and len(value) <= ID_LENGTH_MAX else None
