"""Backups in PostgreSQL, as far as reading goes; they begin and end in the statements of their jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.records import Backup
from shared.store.sql import load

if TYPE_CHECKING:
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
