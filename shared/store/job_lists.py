"""Jobs as their pollers see them, many at once: pages of lists, and which of those that are watched have changed."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Final

from shared.lists import JobVersion
from shared.records import Job
from shared.states import JobState, Operation
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import LiteralString
    from uuid import UUID

    from psycopg.rows import DictRow

    from shared.lists import JobFilter
    from shared.store.database import Database

_SQL = load("job_lists")
_FIELDS: Final = tuple(field.name for field in fields(Job))
#: The conditions of a filter's fields.
_CONDITIONS: Final = {
    "guids": "of_guids",
    "service_instance_guids": "of_instances",
    "created_since": "created_since",
    "created_before": "created_before",
    "updated_since": "updated_since",
    "updated_before": "updated_before",
}


class JobLists:
    """Reads many jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, wanted: JobFilter, *, count_max: int) -> int:
        """How many jobs the list has in all, counted up to `count_max`."""
        statement = _SQL[f"count{_of(wanted)}"].format(conditions=_conditions(wanted))
        count: int = (await self._database.fetch(statement, _parameters(wanted) | {"count_max": count_max}))[0]["n"]
        return count

    async def list_page(self, wanted: JobFilter) -> list[Job]:
        """The part of the list that is asked for."""
        column = wanted.order.removeprefix("-")
        order = _SQL[f"order_{column}" if column == wanted.order else f"order_{column}_descending"]
        statement = _SQL[f"page{_of(wanted)}"].format(conditions=_conditions(wanted), order=order)
        return [to_job(row) for row in await self._database.fetch(statement, _parameters(wanted))]

    async def read(self, guids: Collection[UUID]) -> list[Job]:
        """Those of the jobs that exist, in no order."""
        return [to_job(row) for row in await self._database.fetch(_SQL["read"], {"guids": list(guids)})]

    async def read_versions(self, guids: Collection[UUID]) -> list[JobVersion]:
        """The versions of those of the jobs that exist, in no order."""
        rows = await self._database.fetch(_SQL["versions"], {"guids": list(guids)})
        return [JobVersion(**row) for row in rows]


def to_job(row: DictRow) -> Job:
    """The job of a row of `public_jobs`. Columns of a newer schema are passed over."""
    return Job(
        **{name: row[name] for name in _FIELDS}
        | {
            "operation": Operation(row["operation"]),
            "state": JobState(row["state"]),
            "errors": tuple(row["errors"]),
            "warnings": tuple(row["warnings"]),
        }
    )


def _parameters(wanted: JobFilter) -> dict[str, object]:
    """The filter's values as the driver wants them. It sends those alone that the statement has."""
    values = asdict(wanted)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _of(wanted: JobFilter) -> LiteralString:
    """The ending of the statement's name."""
    return "" if wanted.reader is None else "_of_reader"


def _conditions(wanted: JobFilter) -> LiteralString:
    """What a job in the list fulfils, put together from the statements of the file."""
    found = [_SQL[name] for field, name in _CONDITIONS.items() if getattr(wanted, field) is not None]
    if wanted.states is not None:
        found.append(_any_of(f"in_{state}" for state in wanted.states))
    if wanted.operations is not None:
        found.append(_any_of(f"doing_{operation.name.lower()}" for operation in wanted.operations))
    return "\nand ".join(found) or _SQL["everything"]


def _any_of(names: Iterable[str]) -> LiteralString:
    return "(" + "\nor ".join(_SQL[name] for name in names) + ")"
