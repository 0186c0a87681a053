"""Backups as Broadcom publishes them: an id and Unix seconds, without Cloud Foundry's pagination."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.records import Backup, Json


def present_backups(backups: Iterable[Backup]) -> Json:
    """The list's JSON, in the order given."""
    return {
        "backups": [{"id": str(backup.guid), "created_at": int(backup.created_at.timestamp())} for backup in backups]
    }
