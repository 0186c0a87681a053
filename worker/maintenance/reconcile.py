"""What our table of backups and a broker's own list say about each other: rows and a list in, findings out.

Asking brokers and mending what was found are left to `reconciliation.py`; nothing here knows of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.states import TERMINAL_STATES, JobState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from shared.records import KnownBackup
    from worker.broker.backup_list import BackupList, ListedBackup

#: States in which a broker's backup can no longer be restored.
_LOST: Final = frozenset({"failed", "deleting"})


class Kind(StrEnum):
    """What is not as it should be."""

    GONE = "gone at the broker"  # we offer it for restore, and the broker no longer has it
    LEFT = "left at the broker"  # nobody wants it any more, and the broker still has it
    BACK = "back at the broker"  # the broker did not have it once, has it now, and nobody asked for its removal
    FOREIGN = "not ours"  # made by the broker itself or by somebody else, which is nothing wrong


class Fix(StrEnum):
    """What mends a finding."""

    MARK_DELETED = "mark it as deleted"
    MARK_SUCCEEDED = "offer it again"
    BEGIN_CLEAN_UP = "begin a clean-up"


class Finding(NamedTuple):
    """One difference. `fix` is None where nothing is to be done, or nothing can be, for which `note` has the reason."""

    kind: Kind
    backup_id: str
    theirs: str | None = None  #: the broker's state of it
    trigger: str | None = None
    backup: KnownBackup | None = None  #: ours, unless it is foreign
    fix: Fix | None = None
    note: str = ""
    is_in_hand: bool = False  #: a clean-up is at work on it

    @property
    def is_wrong(self) -> bool:
        """Whether something remains to be done about it."""
        return self.kind is not Kind.FOREIGN and not self.is_in_hand


def compare(ours: Sequence[KnownBackup], theirs: BackupList, settled: Collection[KnownBackup]) -> list[Finding]:
    """The findings of one instance, ours first, then the broker's own.

    `ours` was read after the broker was asked for `theirs`. Those of them that are not in `settled`, which was read
    before, were changing meanwhile; nothing is said about them.
    """
    listed = {backup.id: backup for backup in theirs.backups}
    known = {str(backup.guid) for backup in ours}
    found = [
        _judge(backup, listed.get(str(backup.guid)), is_complete=theirs.is_complete)
        for backup in ours
        if backup in settled
    ]
    return [*filter(None, found), *_foreign(theirs, known)]


def _foreign(theirs: BackupList, known: Collection[str]) -> Iterator[Finding]:
    for backup in theirs.backups:
        if backup.id not in known and backup.state is not None:
            yield Finding(Kind.FOREIGN, backup.id, backup.state, backup.trigger)


def _judge(ours: KnownBackup, theirs: ListedBackup | None, *, is_complete: bool) -> Finding | None:
    guid = str(ours.guid)
    if theirs is None:
        is_gone = ours.state == "succeeded" and is_complete
        return Finding(Kind.GONE, guid, backup=ours, fix=Fix.MARK_DELETED) if is_gone else None
    if theirs.state is None:
        return None  # it is there, and that is all that we understand
    if ours.state == "succeeded":
        if theirs.state not in _LOST:
            return None
        return Finding(Kind.GONE, guid, theirs.state, theirs.trigger, ours, Fix.MARK_DELETED)
    if ours.state not in {"failed", "deleted"}:
        return None
    return _left(ours, theirs)


def _left(ours: KnownBackup, theirs: ListedBackup) -> Finding | None:
    left = Finding(Kind.LEFT, str(ours.guid), theirs.state, theirs.trigger, ours)
    if ours.job_guid is None or ours.job_state is None:
        return left._replace(note="its job was deleted after its time")
    if ours.job_state not in TERMINAL_STATES:
        note = f"clean-up {ours.job_guid} is at work"
        return left._replace(note=note, is_in_hand=True) if ours.job_is_clean_up else None
    was_marked = ours.state == "deleted" and not ours.was_deleted_on_request
    if was_marked and ours.job_state is JobState.SUCCEEDED and not ours.job_is_clean_up:
        # Marked by an earlier reconciliation, and never asked to be removed: data that may be good is not deleted.
        return _back(left)
    if not ours.can_remove:
        return left._replace(note="its broker cannot remove it, or said that the id is not ours")
    return left._replace(fix=Fix.BEGIN_CLEAN_UP)


def _back(left: Finding) -> Finding | None:
    if left.theirs == "succeeded":
        return left._replace(kind=Kind.BACK, fix=Fix.MARK_SUCCEEDED)
    return None  # as lost as it was when it was marked
