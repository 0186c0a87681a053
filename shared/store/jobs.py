"""Jobs in PostgreSQL: accepting, hinting, claiming, recording. Decides nothing; the statements and their rules do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.records import BrokerAddress, Claim, Job, RestorePoint
from shared.states import JobState, Operation, next_state
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.rows import DictRow

    from shared.records import JobRequest, Json, Step
    from shared.settings import Settings
    from shared.store.database import Database

_SQL = load("jobs")

#: How long the dispatcher leaves a new job to the hint that the API sends by itself right after the commit.
HINT_GRACE_S = 2.0


class DueJob(NamedTuple):
    """A due job that the dispatcher may hint now."""

    guid: UUID
    state: JobState
    broker_guid: UUID


class Jobs:
    """The repository of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(self, requests: Sequence[JobRequest]) -> list[bool]:
        """Store `requests` in one statement; for each, in order, whether it was stored.

        False means that another operation is open on the instance, and that nothing was stored for this one.
        """
        rows = await self._database.fetch(
            _SQL["accept"],
            {"requests": Jsonb([_request_row(request) for request in requests]), "hint_grace_s": HINT_GRACE_S},
        )
        stored = {row["guid"] for row in rows}
        return [request.guid in stored for request in requests]

    async def find(self, guid: UUID) -> Job | None:
        """The job, or None."""
        rows = await self._database.fetch(_SQL["find"], {"guid": guid})
        if not rows:
            return None
        row = rows[0]
        return Job(
            **{
                **row,
                "operation": Operation(row["operation"]),
                "state": JobState(row["state"]),
                "errors": tuple(row["errors"]),
                "warnings": tuple(row["warnings"]),
            }
        )

    async def hint_due(self, settings: Settings) -> list[DueJob]:
        """Due jobs to be hinted now, at most `settings.dispatch_batch`; each is then left alone for its interval."""
        rows = await self._database.fetch(
            _SQL["hint_due"],
            {
                "limit": settings.dispatch_batch,
                "interval_s": settings.hint_interval_s,
                "interval_max_s": settings.hint_interval_max_s,
            },
        )
        return [DueJob(row["guid"], JobState(row["state"]), row["broker_guid"]) for row in rows]

    async def take_back_hints(self, guids: Sequence[str]) -> None:
        """Let jobs be hinted again at once, after the queue did not take their hints."""
        await self._database.fetch(_SQL["take_back_hints"], {"guids": [UUID(guid) for guid in guids]})

    async def claim(self, guids: Sequence[UUID], *, owner: str, lease_s: float) -> list[Claim | None]:
        """Claim the jobs for `lease_s` seconds; for each, in order, the claim, or None if it is not due or taken."""
        rows = await self._database.fetch(
            _SQL["claim"], {"guids": list(dict.fromkeys(guids)), "owner": owner, "lease_s": lease_s}
        )
        claims = {row["guid"]: _claim(row) for row in rows}
        # A guid that was handed in twice gets one claim: the second asker must not run the same step again.
        return [claims.pop(guid, None) for guid in guids]

    async def record(self, steps: Sequence[Step]) -> list[bool]:
        """Record what `steps` found out, in one statement; for each, in order, whether its fence still fitted."""
        rows = await self._database.fetch(_SQL["record"], {"steps": Jsonb([_step_row(step) for step in steps])})
        recorded = {row["guid"] for row in rows}
        return [step.claim.job_guid in recorded for step in steps]

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give claims back whose steps will not be recorded; the jobs are due again at once."""
        rows = [{"job_guid": str(claim.job_guid), "fence": claim.fence} for claim in claims]
        await self._database.fetch(_SQL["release"], {"claims": Jsonb(rows)})


def _request_row(request: JobRequest) -> Json:
    restore = request.restore or RestorePoint()
    return {
        "guid": str(request.guid),
        "operation": request.operation,
        "service_instance_guid": request.service_instance_guid,
        "broker_guid": str(request.broker_guid),
        "resource_guid": str(request.resource_guid),
        "user_guid": request.user_guid,
        "request_id": request.request_id,
        "traceparent": request.traceparent,
        "request_body": request.request_body,
        "deadline_s": request.deadline_s,
        "backup_id": restore.backup_id,
        "source_service_instance_guid": restore.source_service_instance_guid,
        "target_timestamp": restore.target_timestamp and restore.target_timestamp.isoformat(),
        "restore_point": restore.restore_point,
    }


def _claim(row: DictRow) -> Claim:
    broker = {name: row.pop(f"broker_{name}") for name in ("guid", "name", "url", "username", "password_sealed")}
    return Claim(
        job_guid=row.pop("guid"),
        operation=Operation(row.pop("operation")),
        state=JobState(row.pop("state")),
        broker=BrokerAddress(**broker),
        **row,
    )


def _step_row(step: Step) -> Json:
    return {
        "job_guid": str(step.claim.job_guid),
        "fence": step.claim.fence,
        "worker": step.worker,
        "call": step.call,
        "event": step.event,
        "outcome": step.outcome,
        "http_status": step.http_status,
        "duration_ms": round(step.duration_s * 1000),
        "detail": step.detail,
        "state": next_state(step.claim.state, step.event),
        "due_in_s": step.due_in_s,
        "is_wait": step.outcome == "wait" and step.call == "start",
        "broker_operation": step.broker_operation,
        "broker_description": step.broker_description,
        "errors": [error._asdict() for error in step.errors],
        "size_bytes": step.facts.get("size_bytes"),
        "expires_at_s": step.facts.get("expires_at"),
    }
