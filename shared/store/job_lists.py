"""Jobs as their pollers see them, many at once: pages of lists, and which of those that are watched have changed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from shared.errors import StoreError
from shared.lists import JobVersion
from shared.records import Job
from shared.states import JobState, Operation
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import LiteralString
    from uuid import UUID

    from psycopg.rows import DictRow

    from shared.lists import JobFilter
    from shared.store.database import Database

_SQL = load("job_lists")
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

    async def find_each(self, guids: Sequence[UUID]) -> list[Job | None]:
        """For each of `guids`, in order, the job or None. One that stands there twice is read once."""
        rows = {row["guid"]: row for row in await self._fetch_of(guids, one="read_one", many="read")}
        jobs = {guid: to_job(row) for guid, row in rows.items()}
        return [jobs.get(guid) for guid in guids]

    async def find_each_version(self, guids: Sequence[UUID]) -> list[JobVersion | None]:
        """For each of `guids`, in order, the job's version or None. One that stands there twice is read once."""
        rows = await self._fetch_of(guids, one="version_of_one", many="versions")
        versions = {row["guid"]: JobVersion(**row) for row in rows}
        return [versions.get(guid) for guid in guids]

    async def recorded_since(self, age_s: float) -> list[UUID]:
        """The jobs of which workers recorded a step in the last `age_s` seconds, in no order."""
        rows = await self._database.fetch(_SQL["recorded_since"], {"age_s": age_s})
        return [row["job_guid"] for row in rows]

    async def _fetch_of(self, guids: Sequence[UUID], *, one: str, many: str) -> list[DictRow]:
        distinct = list(dict.fromkeys(guids))
        if len(distinct) == 1:
            return await self._database.fetch(_SQL[one], {"guid": distinct[0]})
        return await self._database.fetch(_SQL[many], {"guids": distinct})


def to_job(row: DictRow) -> Job:
    """The job of a row of `public_jobs`. Columns of a newer schema are passed over.

    Raises StoreError for a row that a newer version has written, so that it harms no other of its batch.
    """
    try:
        operation, state = Operation(row["operation"]), JobState(row["state"])
    except ValueError as error:
        raise StoreError(f"job {row['guid']}: {error}") from error
    return Job(
        guid=row["guid"],
        operation=operation,
        state=state,
        service_instance_guid=row["service_instance_guid"],
        instance_exists=row["instance_exists"],
        broker_guid=row["broker_guid"],
        broker_name=row["broker_name"],
        can_undo=row["can_undo"],
        version=row["version"],
        errors=tuple(row["errors"]),
        warnings=tuple(row["warnings"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        due_in_s=row["due_in_s"],
        broker_description=row["broker_description"],
        broker_retry_at=row["broker_retry_at"],
        clean_up_guid=row["clean_up_guid"],
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
