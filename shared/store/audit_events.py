"""Audit events in PostgreSQL: reading and pruning. A trigger of the schema writes them with the steps of jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from shared.lists import AuditEvent, Page
from shared.store.sql import load

if TYPE_CHECKING:
    from uuid import UUID

    from shared.lists import AuditEventFilter
    from shared.security.tokens import Caller
    from shared.store.database import Database

_SQL = load("audit_events")

#: So many events beyond the page are counted: to count them all would take ever longer.
COUNT_AHEAD: Final = 10_000


class AuditEvents:
    """The repository of audit events. Callers see those of spaces where they may see who did what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, wanted: AuditEventFilter, caller: Caller) -> Page[AuditEvent]:
        """A page of those events that the caller may see, and how many there are, counted up to `COUNT_AHEAD` more."""
        parameters = asdict(wanted) | _who(caller)
        total = await self._database.fetch(
            _SQL["count"], parameters | {"count_max": wanted.offset + wanted.limit + COUNT_AHEAD}
        )
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
