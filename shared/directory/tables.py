"""The directory in our own tables, filled by `safekeep apply`. Reads only; applying is in `apply.py`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from shared.directory.roles import Access, access_of, closure_of
from shared.records import Instance
from shared.store.sql import load

if TYPE_CHECKING:
    from psycopg.rows import DictRow

    from shared.security.callers import Caller
    from shared.store.database import Database

_SQL = load("directory")

CACHE_ENTRIES_MAX: Final = 10_000


class TablesDirectory:
    """Instances and roles from our tables.

    What was found is used again for `staleness_s` seconds, so that a POST costs one round trip and not two; what was
    not found is always asked for again, so that a new instance or role works at once.
    """

    def __init__(self, database: Database, *, staleness_s: float) -> None:
        self._database = database
        self._staleness_s = staleness_s
        self._found: dict[tuple[str, str], tuple[float, DictRow]] = {}

    async def find_instance(self, guid: str, caller: Caller) -> Instance | None:
        """The instance as `caller` may see it, or None when it does not exist or may not be read."""
        row = await self._row(guid, caller.user_guid)
        if row is None:
            return None
        facts = dict(row)
        own, shared = facts.pop("own_roles"), facts.pop("shared_roles")
        statuses = {name: facts.pop(name) for name in ("organization_status", "space_status")}
        access = access_of(caller, own=own, shared=shared)
        if access is Access.NONE:
            return None
        features = frozenset(facts.pop("backup_features") or ())
        return Instance(
            **facts,
            backup_features=features,
            may_read_backups=access >= Access.READ,
            may_write=access is Access.WRITE,
            closed_by=closure_of(caller, own=own, **statuses),
        )

    async def _row(self, guid: str, user_guid: str) -> DictRow | None:
        key = (guid, user_guid)
        now = time.monotonic()
        found = self._found.get(key)
        if found and now - found[0] < self._staleness_s:
            return found[1]
        rows = await self._database.fetch(_SQL["find_instance"], {"guid": guid, "user_guid": user_guid})
        if not rows:
            return None
        if len(self._found) >= CACHE_ENTRIES_MAX:
            self._found.clear()
        self._found[key] = (now, rows[0])
        return rows[0]
