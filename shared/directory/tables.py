"""The directory in our own tables, filled by `safekeep apply`. Reads only; applying is in `apply.py`."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import TYPE_CHECKING, Final, NamedTuple

from shared.coalescer import Coalescer
from shared.directory.roles import Access, access_of, closure_of
from shared.records import Instance
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.rows import DictRow

    from shared.security.callers import Caller
    from shared.store.database import Database

_SQL = load("directory")

CACHE_ENTRIES_MAX: Final = 10_000


class _Question(NamedTuple):
    """What the tables are asked: an instance, and the user whose roles count."""

    guid: str
    user_guid: str


class TablesDirectory:
    """Instances and roles from our tables.

    What was found is used again for `staleness_s` seconds; what was not found is always asked for again, so that a new
    instance or role works at once. Questions that meet share a round trip.
    """

    def __init__(self, database: Database, *, staleness_s: float) -> None:
        self._database = database
        self._staleness_s = staleness_s
        self._questions: Coalescer[_Question, DictRow | None] = Coalescer(self._ask)
        self._found: dict[tuple[str, Caller], tuple[float, Instance]] = {}

    async def find_instance(self, guid: str, caller: Caller) -> Instance | None:
        """The instance as `caller` may see it, or None when it does not exist or may not be read."""
        key = (guid, caller)
        found = self._found.get(key)
        now = time.monotonic()
        if found and now - found[0] < self._staleness_s:
            return found[1]
        row = await self._questions.submit(_Question(guid, caller.user_guid))
        instance = None if row is None else _to_instance(row, caller)
        if instance is not None and self._staleness_s > 0:
            # It is as old as the question, not as the answer.
            self._found.pop(key, None)
            self._found[key] = (now, instance)
            self._forget(now - self._staleness_s)
        return instance

    def _forget(self, before: float) -> None:
        """Drop what is too old to be used, which stands first; and some that is not, when there is too much."""
        while self._found:
            key, (asked_at, _) = next(iter(self._found.items()))
            if asked_at > before and len(self._found) <= CACHE_ENTRIES_MAX:
                return
            del self._found[key]

    async def _ask(self, questions: Sequence[_Question]) -> list[DictRow | None]:
        rows = await self._database.fetch(
            _SQL["find_instances"],
            {
                "guids": [question.guid for question in questions],
                "user_guids": [question.user_guid for question in questions],
            },
        )
        answers = {_Question(row["guid"], row["user_guid"]): row for row in rows}
        return [answers.get(question) for question in questions]


def _to_instance(row: DictRow, caller: Caller) -> Instance | None:
    own = row["own_roles"]
    access = access_of(caller, own=own, shared=row["shared_roles"])
    if access is Access.NONE:
        return None
    return Instance(
        **{name: row[name] for name in _FACTS},
        backup_features=frozenset(row["backup_features"] or ()),
        may_read_backups=access >= Access.READ,
        may_write=access is Access.WRITE,
        closed_by=closure_of(
            caller, own=own, organization_status=row["organization_status"], space_status=row["space_status"]
        ),
    )


#: What an instance is, whoever asks.
_FACTS: Final = tuple(
    field.name
    for field in fields(Instance)
    if field.name not in {"backup_features", "may_read_backups", "may_write", "closed_by"}
)
