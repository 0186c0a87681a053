"""Backups as Broadcom publishes them: an id and Unix seconds, without Cloud Foundry's pagination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.records import Backup


class ListedBackupJson(TypedDict):
    """A backup in the list."""

    id: str
    created_at: Annotated[int, Field(description="Unix seconds of the moment at which it was accepted.")]


class ServiceInstanceBackupListJson(TypedDict):
    """The backups of an instance that can be restored, newest first."""

    backups: list[ListedBackupJson]


def present_backups(backups: Iterable[Backup]) -> ServiceInstanceBackupListJson:
    """The list's JSON, in the order given."""
    return {
        "backups": [{"id": str(backup.guid), "created_at": int(backup.created_at.timestamp())} for backup in backups]
    }
