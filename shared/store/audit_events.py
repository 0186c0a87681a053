"""Audit events in PostgreSQL: reading and pruning. A trigger of the schema writes them with the steps of jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from shared.lists import AuditEvent, Page
from shared.store.sql import load

if TYPE_CHECKING:
    from uuid import UUID

    from shared.lists import AuditEventFilter
    from shared.security.callers import Caller
    from shared.store.database import Database

_SQL = load("audit_events")


class AuditEvents:
    """The repository of audit events. Callers see those of spaces where they may see who did what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, wanted: AuditEventFilter, caller: Caller) -> Page[AuditEvent]:
        """A page of those events that the caller may see, and how many there are in all."""
        parameters = asdict(wanted) | _who(caller)
        total = await self._database.fetch(_SQL["count"], parameters)
        rows = await self._database.fetch(_SQL["list_newest" if wanted.is_newest_first else "list_oldest"], parameters)
        return Page(tuple(AuditEvent(**row) for row in rows), total[0]["n"])

    async def find(self, guid: UUID, caller: Caller) -> AuditEvent | None:
        """The event, or None when there is none that the caller may see."""
        rows = await self._database.fetch(_SQL["find"], {"guid": guid} | _who(caller))
        return AuditEvent(**rows[0]) if rows else None

    async def prune(self, *, retention_s: float, limit: int) -> int:
        """Delete at most `limit` events that are older than `retention_s` seconds; how many went."""
        rows = await self._database.fetch(_SQL["prune"], {"retention_s": retention_s, "limit": limit})
        return len(rows)


def _who(caller: Caller) -> dict[str, object]:
    return {"user_guid": caller.user_guid, "sees_everything": caller.sees_everything}
