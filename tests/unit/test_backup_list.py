"""A broker's list of its backups, from well-formed to nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from worker.broker.backup_list import BackupList, ListedBackup, read_backup_list

A, B = {"id": "a", "state": "succeeded"}, {"id": "b", "state": "failed", "trigger": "scheduled", "size_bytes": -1}
READ_A, READ_B = ListedBackup("a", "succeeded"), ListedBackup("b", "failed", "scheduled")


@pytest.mark.parametrize(
    ("entries", "backups", "is_complete", "malformed"),
    [
        ([], (), True, 0),
        ([A, B], (READ_A, READ_B), True, 0),
        ([{**A, "trigger": 7}], (READ_A,), True, 0),
        ([A, B, {**A, "id": "c"}], (READ_A, READ_B, ListedBackup("c", "succeeded")), False, 0),
        # It is there, whatever its state is.
        ([A, {"id": "b"}], (READ_A, ListedBackup("b", None)), True, 1),
        ([{"id": "b", "state": None}], (ListedBackup("b", None),), True, 1),
        ([{"id": "b", "state": ""}], (ListedBackup("b", None),), True, 1),
        ([{"id": "b", "state": "x" * 256}], (ListedBackup("b", None),), True, 1),
        # Which of the two counts is anybody's guess.
        ([A, {"id": "a", "state": "failed"}], (ListedBackup("a", None),), True, 2),
        # What has no readable id may be any backup.
        ([A, {}], (READ_A,), False, 1),
        ([A, {"id": 7, "state": "succeeded"}], (READ_A,), False, 1),
        ([A, {"id": "", "state": "succeeded"}], (READ_A,), False, 1),
        ([A, {"id": "x" * 256, "state": "succeeded"}], (READ_A,), False, 1),
        ([A, {"id": "x\x1b[2J", "state": "succeeded"}], (READ_A,), False, 1),
        ([A, {"id": "\ud800", "state": "succeeded"}], (READ_A,), False, 1),
        ([None, [], "a"], (), False, 3),
    ],
    ids=str,
)
def test_it_reads_what_can_be_understood_and_counts_the_rest(
    entries: list[Any], backups: tuple[ListedBackup, ...], *, is_complete: bool, malformed: int
) -> None:
    assert read_backup_list({"backups": entries, "more": 1}, 3) == BackupList(backups, is_complete, malformed)


def test_it_takes_an_id_of_255_characters() -> None:
    found = read_backup_list({"backups": [{"id": "x" * 255, "state": "succeeded"}]}, 3)
    assert found
    assert (len(found.backups), found.is_complete) == (1, True)


@pytest.mark.parametrize("body", [None, {}, {"backups": None}, {"backups": {}}, {"backups": "a"}], ids=str)
def test_it_finds_no_list_where_there_is_none(body: Any) -> None:
    assert read_backup_list(body, 3) is None
