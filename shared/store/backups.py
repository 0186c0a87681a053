"""Backups in PostgreSQL: reading, and what a broker's own list tells; they begin and end with their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.records import BackedUpInstance, Backup, BackupDetails, BrokerAddress, KnownBackup
from shared.states import CLEAN_UP_OF, JobState, Operation
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from shared.store.database import Database

_SQL = load("backups")


class Backups:
    """The repository of backups."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_newest(self, service_instance_guid: str, limit: int) -> list[Backup]:
        """At most `limit` backups of the instance that succeeded, newest first."""
        rows = await self._database.fetch(
            _SQL["list_newest"], {"service_instance_guid": service_instance_guid, "limit": limit}
        )
        return [Backup(**row) for row in rows]

    async def find_succeeded(self, guid: UUID, service_instance_guid: str) -> Backup | None:
        """The backup, if it is of that instance and succeeded, else None."""
        rows = await self._database.fetch(
            _SQL["find_succeeded"], {"guid": guid, "service_instance_guid": service_instance_guid}
        )
        return Backup(**rows[0]) if rows else None

    async def find(self, guid: UUID, service_instance_guid: str) -> BackupDetails | None:
        """The backup of that instance, whatever its state; None when there is none, or no longer."""
        rows = await self._database.fetch(_SQL["find"], {"guid": guid, "service_instance_guid": service_instance_guid})
        return BackupDetails(**rows[0]) if rows else None

    async def list_instances(
        self, guids: Collection[str] | None = None, broker_names: Collection[str] | None = None
    ) -> list[BackedUpInstance]:
        """Managed instances whose plans have backups, by broker; only the given ones, only of the given brokers."""
        rows = await self._database.fetch(
            _SQL["list_instances"],
            {
                "guids": None if guids is None else list(guids),
                "broker_names": None if broker_names is None else list(broker_names),
            },
        )
        names = ("guid", "name", "url", "username", "password_sealed")
        return [
            BackedUpInstance(
                guid=row["guid"],
                name=row["name"],
                broker=BrokerAddress(**{name: row[f"broker_{name}"] for name in names}),
                calls_in_flight=row["calls_in_flight"],
            )
            for row in rows
        ]

    async def list_known(self, instance_guids: Collection[str]) -> list[KnownBackup]:
        """All backups of the instances that we know of, in whatever state, oldest first."""
        others = [str(Operation.RESTORE), str(CLEAN_UP_OF[Operation.RESTORE]), str(Operation.DELETE_BACKUP)]
        rows = await self._database.fetch(
            _SQL["list_known"], {"instance_guids": list(instance_guids), "other_operations": others}
        )
        return [KnownBackup(**row | {"job_state": row["job_state"] and JobState(row["job_state"])}) for row in rows]

    async def mark_deleted(self, backup: KnownBackup) -> bool:
        """Neither list nor restore it any more; False when it is not as it was read."""
        return bool(await self._database.fetch(_SQL["mark_deleted"], backup._asdict()))

    async def mark_succeeded_again(self, backup: KnownBackup) -> bool:
        """Undo `mark_deleted`; False when it is not as it was read, or its removal was begun meanwhile."""
        return bool(await self._database.fetch(_SQL["mark_succeeded_again"], backup._asdict()))
