"""`safekeep clean-ups`: what is still to be removed at brokers after failed jobs, and trying that again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from deploy.cli.output import plural, show_json, show_rows, span
from shared.states import CLEAN_UP_OF, JobState, Operation
from shared.store.database import Database
from shared.store.jobs import Jobs
from shared.store.migrate import check_schema

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from deploy.cli.output import Layout
    from shared.records import CleanUp, Json
    from shared.settings import Settings

_LAYOUT: Final[Layout] = (
    ("CLEAN-UP, OF WHAT", ("guid", "resource", "instance")),
    ("STATE", ("state",)),
    ("BROKER", ("broker",)),
    ("TRIES", ("attempts",)),
    ("LAST WORDS", ("last_words",)),
)
_NOUNS: Final = {CLEAN_UP_OF[Operation.CREATE_BACKUP]: "backup", CLEAN_UP_OF[Operation.RESTORE]: "restore"}


class Retry(NamedTuple):
    """What came of beginning a clean-up anew: the new one's guid, or the reason why there is none."""

    guid: UUID
    new_guid: UUID | None
    reason: str


async def show_clean_ups(settings: Settings, *, as_json: bool) -> int:
    """Print all clean-ups that are at work or were given up; the exit code. Raises StoreError, SchemaError."""
    async with Database(settings, size=1, name="safekeep-clean-ups") as database:
        await check_schema(database)
        clean_ups = await Jobs(database, settings).list_clean_ups()
    if as_json:
        show_json([_as_json(clean_up) for clean_up in clean_ups])
        return 0
    show_rows(_LAYOUT, [_as_row(clean_up) for clean_up in clean_ups])
    return 0


async def retry_clean_ups(
    settings: Settings, guids: Collection[UUID], *, with_all: bool = False, as_json: bool = False
) -> int:
    """Begin the given clean-ups anew, or all that were given up, and print what came of it; the exit code.

    It is 1 when one of them could not be begun. Raises StoreError, SchemaError.
    """
    async with Database(settings, size=1, name="safekeep-clean-ups") as database:
        await check_schema(database)
        jobs = Jobs(database, settings)
        given_up = [each.guid for each in await jobs.list_clean_ups() if each.completed_at] if with_all else []
        retries = [await _retry(jobs, guid) for guid in dict.fromkeys([*guids, *given_up])]
    if as_json:
        show_json(
            [{"guid": str(r.guid), "new_guid": r.new_guid and str(r.new_guid), "reason": r.reason} for r in retries]
        )
    else:
        for retry in retries:
            print(
                f"begun anew: {retry.guid} as {retry.new_guid}"
                if retry.new_guid
                else f"not begun: {retry.guid}: {retry.reason}"
            )
        print(f"{plural(sum(bool(retry.new_guid) for retry in retries), 'clean-up')} begun anew")
    return int(any(retry.new_guid is None for retry in retries))


async def _retry(jobs: Jobs, guid: UUID) -> Retry:
    new_guid = await jobs.retry_clean_up(guid)
    return Retry(guid, new_guid, "" if new_guid else await jobs.explain_refused_retry(guid))


def _as_row(clean_up: CleanUp) -> dict[str, str]:
    return {
        "guid": str(clean_up.guid),
        "resource": f"{_NOUNS[clean_up.operation]} {clean_up.resource_guid}",
        "instance": f"instance {clean_up.service_instance_guid}",
        "state": _in_words(clean_up),
        "broker": clean_up.broker_name,
        "attempts": str(clean_up.attempts),
        "last_words": _last_words(clean_up),
    }


def _in_words(clean_up: CleanUp) -> str:
    if clean_up.completed_at is not None:
        return f"given up {span((clean_up.read_at - clean_up.completed_at).total_seconds())} ago"
    pause_s = (clean_up.due_at - clean_up.read_at).total_seconds() if clean_up.due_at else 0.0
    when = f"in {span(pause_s)}" if pause_s > 0 else "now"
    if clean_up.state is JobState.POLL:
        return f"at work, the broker removes it; next look {when}"
    return f"at work, next try {when}"


def _last_words(clean_up: CleanUp) -> str:
    if clean_up.errors:
        return str(clean_up.errors[0]["detail"])
    return clean_up.last_detail or clean_up.broker_description or ""


def _as_json(clean_up: CleanUp) -> Json:
    return {
        "guid": str(clean_up.guid),
        "state": "at work" if clean_up.completed_at is None else "given up",
        "resource": {"type": _NOUNS[clean_up.operation], "guid": str(clean_up.resource_guid)},
        "service_instance_guid": clean_up.service_instance_guid,
        "broker": clean_up.broker_name,
        "job_guid": str(clean_up.parent_guid),
        "attempts": clean_up.attempts,
        "last_words": _last_words(clean_up),
        "created_at": clean_up.created_at.isoformat(),
        "next_try_at": clean_up.due_at and clean_up.due_at.isoformat(),
        "deadline_at": clean_up.deadline_at.isoformat(),
        "given_up_at": clean_up.completed_at and clean_up.completed_at.isoformat(),
    }
