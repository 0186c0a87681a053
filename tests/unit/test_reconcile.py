"""What is said of a backup that we know of, and of one at the broker: a table, row by row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.records import KnownBackup
from shared.states import JobState
from worker.broker.backup_list import BackupList, ListedBackup
from worker.maintenance.reconcile import Finding, Fix, Kind, compare

GUID = UUID(int=1)
JOB = UUID(int=2)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

OPEN, DONE, FAILED, CANCELLED = JobState.START, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
CLEAN_UP: dict[str, Any] = {"job_is_clean_up": True}
NO_JOB: dict[str, Any] = {"job_guid": None, "job_state": None, "can_remove": False}


def known(state: str, job_state: JobState = DONE, **more: Any) -> KnownBackup:
    values: dict[str, Any] = {
        "guid": GUID,
        "service_instance_guid": "i-1",
        "state": state,
        "completed_at": None if state == "in progress" else NOON,
        "job_guid": JOB,
        "job_state": job_state,
        "job_is_clean_up": False,
        "was_deleted_on_request": False,
        "can_remove": True,
    }
    return KnownBackup(**values | more)


def theirs(*listed: ListedBackup, is_complete: bool = True) -> BackupList:
    return BackupList(listed, is_complete)


NOT_LISTED = "not listed"
MALFORMED = None

GONE = (Kind.GONE, Fix.MARK_DELETED, True)
LEFT = (Kind.LEFT, Fix.BEGIN_CLEAN_UP, True)
LEFT_FOR_GOOD = (Kind.LEFT, None, True)
IN_HAND = (Kind.LEFT, None, False)
BACK = (Kind.BACK, Fix.MARK_SUCCEEDED, True)


@pytest.mark.parametrize(
    ("ours", "state", "expected"),
    [
        (known("succeeded"), "succeeded", None),
        (known("succeeded"), "in progress", None),
        (known("succeeded"), "available", None),
        (known("succeeded"), MALFORMED, None),
        (known("succeeded"), NOT_LISTED, GONE),
        (known("succeeded"), "failed", GONE),
        (known("succeeded"), "deleting", GONE),
        (known("succeeded", **NO_JOB), NOT_LISTED, GONE),
        (known("failed", FAILED), NOT_LISTED, None),
        (known("failed", FAILED), "succeeded", LEFT),
        (known("failed", FAILED), "failed", LEFT),
        (known("failed", FAILED), "in progress", LEFT),
        (known("failed", FAILED), "deleting", LEFT),
        (known("failed", FAILED), "whatever", LEFT),
        (known("failed", FAILED), MALFORMED, None),
        (known("failed", CANCELLED), "succeeded", LEFT),
        (known("failed", FAILED, can_remove=False), "succeeded", LEFT_FOR_GOOD),
        (known("failed", OPEN, **CLEAN_UP), "succeeded", IN_HAND),
        (known("failed", JobState.POLL, **CLEAN_UP), "deleting", IN_HAND),
        (known("failed", FAILED, **CLEAN_UP), "succeeded", LEFT),
        (known("failed", DONE, **CLEAN_UP), "succeeded", LEFT),
        (known("failed", OPEN), "in progress", None),
        (known("failed", **NO_JOB), "succeeded", LEFT_FOR_GOOD),
        (known("deleted"), NOT_LISTED, None),
        (known("deleted"), "succeeded", BACK),
        (known("deleted"), "failed", None),
        (known("deleted"), "deleting", None),
        (known("deleted", DONE, **CLEAN_UP), "succeeded", LEFT),
        (known("deleted", FAILED, **CLEAN_UP), "succeeded", LEFT),
        (known("deleted", OPEN, **CLEAN_UP), "succeeded", IN_HAND),
        (known("deleted", **NO_JOB), "succeeded", LEFT_FOR_GOOD),
        (known("deleted", was_deleted_on_request=True), "succeeded", LEFT),
        (known("deleting"), "succeeded", None),
        (known("deleting"), NOT_LISTED, None),
        (known("in progress", OPEN), "in progress", None),
        (known("in progress", OPEN), "succeeded", None),
        (known("in progress", OPEN), "failed", None),
        (known("in progress", OPEN), NOT_LISTED, None),
    ],
)
def test_it_says_what_is_not_as_it_should_be(
    ours: KnownBackup, state: str | None, expected: tuple[Kind, Fix | None, bool] | None
) -> None:
    listed = () if state == NOT_LISTED else (ListedBackup(str(GUID), state, "on_demand"),)
    found = compare([ours], theirs(*listed), {ours})
    if expected is None:
        assert found == []
        return
    (finding,) = found
    assert (finding.kind, finding.fix, finding.is_wrong) == expected
    assert (finding.backup_id, finding.backup) == (str(GUID), ours)
    assert finding.theirs == (None if state == NOT_LISTED else state)
    assert bool(finding.note) == (finding.fix is None)


@pytest.mark.parametrize("state", ["succeeded", "failed", "deleted"])
@pytest.mark.parametrize("listed", [(), (ListedBackup(str(GUID), "failed"),), (ListedBackup(str(GUID), "succeeded"),)])
def test_it_says_nothing_of_what_changed_while_the_broker_was_asked(
    state: str, listed: tuple[ListedBackup, ...]
) -> None:
    before = known("in progress", OPEN)
    assert compare([known(state, FAILED)], theirs(*listed), {before}) == []
    assert compare([known(state, FAILED)], theirs(*listed), set()) == []


def test_it_takes_nothing_for_gone_that_may_be_beyond_the_end_of_the_list() -> None:
    ours = known("succeeded")
    assert compare([ours], theirs(is_complete=False), {ours}) == []
    listed = ListedBackup(str(GUID), "failed")
    assert len(compare([ours], theirs(listed, is_complete=False), {ours})) == 1


def test_it_reports_what_is_not_ours_and_has_nothing_to_do_about_it() -> None:
    ours = known("succeeded")
    listed = (
        ListedBackup("nightly", "succeeded", "scheduled"),
        ListedBackup(str(GUID), "succeeded"),
        ListedBackup("odd", None),
    )
    assert compare([ours], theirs(*listed), {ours}) == [
        Finding(Kind.FOREIGN, "nightly", "succeeded", "scheduled"),
    ]
    assert not Finding(Kind.FOREIGN, "nightly").is_wrong
