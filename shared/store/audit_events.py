"""Audit events in PostgreSQL: reading and pruning. A trigger of the schema writes them with the steps of jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from shared.lists import AuditEvent, Page
from shared.store.sql import load

if TYPE_CHECKING:
    from typing import LiteralString
    from uuid import UUID

    from shared.lists import AuditEventFilter
    from shared.security.callers import Caller
    from shared.store.database import Database

_SQL = load("audit_events")

#: So many events beyond the page are counted: to count them all would take ever longer.
COUNT_AHEAD: Final = 10_000
#: The conditions of a filter's fields.
_CONDITIONS: Final = {
    "types": "of_types",
    "target_guids": "of_targets",
    "space_guids": "of_spaces",
    "organization_guids": "of_organizations",
    "since": "created_since",
    "before": "created_before",
}


class AuditEvents:
    """The repository of audit events. Callers see those of spaces where they may see who did what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_page(self, wanted: AuditEventFilter, caller: Caller) -> Page[AuditEvent]:
        """A page of those events that the caller may see, and how many there are, counted up to `COUNT_AHEAD` more."""
        ending = "" if caller.sees_everything else "_of_reader"
        conditions = _conditions(wanted)
        order = _SQL["order_newest" if wanted.is_newest_first else "order_oldest"]
        count = _SQL[f"count{ending}"].format(conditions=conditions)
        if wanted.target_guids is not None:
            page = _SQL["page_of_targets"].format(conditions=f"{_seen(caller)}\nand {conditions}", order=order)
        else:
            page = _SQL[f"page{ending}"].format(conditions=conditions, order=order)
        parameters = asdict(wanted) | {"user_guid": caller.user_guid}
        count_max = wanted.offset + wanted.limit + COUNT_AHEAD
        total = await self._database.fetch(count, parameters | {"count_max": count_max})
        rows = await self._database.fetch(page, parameters)
        return Page(tuple(AuditEvent(**row) for row in rows), total[0]["n"])

    async def find(self, guid: UUID, caller: Caller) -> AuditEvent | None:
        """The event, or None when there is none that the caller may see."""
        statement = _SQL["find"].format(seen=_seen(caller))
        rows = await self._database.fetch(statement, {"guid": guid, "user_guid": caller.user_guid})
        return AuditEvent(**rows[0]) if rows else None

    async def prune(self, *, retention_s: float, limit: int) -> int:
        """Delete at most `limit` events that are older than `retention_s` seconds; how many went."""
        rows = await self._database.fetch(_SQL["prune"], {"retention_s": retention_s, "limit": limit})
        return len(rows)


def _conditions(wanted: AuditEventFilter) -> LiteralString:
    """What an event in the list fulfils, put together from the statements of the file."""
    found = [_SQL[name] for field, name in _CONDITIONS.items() if getattr(wanted, field) is not None]
    return "\nand ".join(found) or _SQL["everything"]


def _seen(caller: Caller) -> LiteralString:
    """What an event fulfils that the caller may see."""
    return _SQL["everything" if caller.sees_everything else "of_reader"]
