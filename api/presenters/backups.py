"""Backups as Broadcom publishes them: an id and Unix seconds, without Cloud Foundry's pagination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from api.presenters.common import LinkJson
from api.presenters.jobs import job_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from shared.records import Backup, BackupDetails


class ListedBackupJson(TypedDict):
    """A backup in the list."""

    id: str
    created_at: Annotated[int, Field(description="Unix seconds of the moment at which it was accepted.")]


class BackupLinksJson(TypedDict):
    """What belongs to a backup."""

    self: LinkJson
    service_instance: LinkJson
    job: NotRequired[
        Annotated[LinkJson, Field(description="The newest job on it, until that is deleted after its time.")]
    ]


class BackupJson(ListedBackupJson):
    """One backup. Times are Unix seconds, as in the list."""

    state: Literal["in progress", "succeeded", "failed", "deleting"]
    trigger: Literal["on_demand", "scheduled"]
    size_bytes: Annotated[int | None, Field(description="As the service broker tells it.")]
    completed_at: int | None
    expires_at: Annotated[int | None, Field(description="When the service broker will remove it by itself.")]
    links: BackupLinksJson


class ServiceInstanceBackupListJson(TypedDict):
    """The backups of an instance that can be restored, newest first."""

    backups: list[ListedBackupJson]


def present_backup(backup: BackupDetails, external_url: str) -> BackupJson:
    """One backup's JSON."""
    instance = f"{external_url}/v3/service_instances/{backup.service_instance_guid}"
    links: BackupLinksJson = {
        "self": {"href": f"{instance}/backups/{backup.guid}"},
        "service_instance": {"href": instance},
    }
    if backup.job_guid:
        links["job"] = {"href": job_url(external_url, backup.job_guid)}
    return {
        "id": str(backup.guid),
        "created_at": int(backup.created_at.timestamp()),
        "state": backup.state,
        "trigger": backup.trigger,
        "size_bytes": backup.size_bytes,
        "completed_at": _seconds(backup.completed_at),
        "expires_at": _seconds(backup.expires_at),
        "links": links,
    }


def present_backups(backups: Iterable[Backup]) -> ServiceInstanceBackupListJson:
    """The list's JSON, in the order given."""
    return {
        "backups": [{"id": str(backup.guid), "created_at": int(backup.created_at.timestamp())} for backup in backups]
    }


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
