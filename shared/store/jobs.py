"""Jobs in PostgreSQL: accepting, hinting, claiming, recording. Decides nothing; the statements and their rules do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from psycopg.types.json import Jsonb

from shared.records import (
    Acceptance,
    BrokerAddress,
    Claim,
    CleanUp,
    Deletion,
    KnownRequest,
    Refusal,
    RestorePoint,
    Waiting,
)
from shared.states import CLEAN_UP_OF, JobState, Operation, next_state
from shared.store.idempotency_keys import LIFETIME_S
from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from psycopg.rows import DictRow

    from shared.records import JobRequest, Json, Step
    from shared.settings import Settings
    from shared.store.database import Database

_SQL = load("jobs")

#: How long the dispatcher leaves a new job to the hint that the API sends by itself right after the commit.
HINT_GRACE_S = 2.0
#: Of polls, as the schema has it; they go before everything else.
POLL_PRIORITY = 0
#: A poll that is due so soon is taken by the process that recorded the step before it: handing it to another would cost
#: more than the wait. Only if that process has not come to it within the grace does the dispatcher hint it.
SOON_S = 1.5
#: From so many due jobs on, a broker's users take turns; below it, all are hinted within a second anyway. Turns cost a
#: look at each user, most of whom have nothing due.
TURNS = 500
#: Users of such a broker that one look takes in, and jobs of each of them and of each priority.
USERS = 500
SHARE = 100


class DueJob(NamedTuple):
    """A due job that the dispatcher may hint now."""

    guid: UUID
    state: JobState
    broker_guid: UUID


class Claims(NamedTuple):
    """What came of an attempt to claim jobs; those that are in neither list are not due, taken, or ended."""

    claims: list[Claim]
    refusals: list[Refusal]


class Seizure(NamedTuple):
    """A job that was taken away from its worker, whose call may be under way for another `busy_s` seconds."""

    claim: Claim
    busy_s: float


class Jobs:
    """The repository of jobs."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def accept(self, requests: Sequence[JobRequest]) -> list[Acceptance]:
        """Store `requests` in one statement and one round trip; for each, in order, what became of it.

        One that is not stored, not known by its key, and whose backup is not gone, met another open operation on its
        instance; nothing was stored for it.
        """
        parameters = {
            "requests": Jsonb([_request_row(request) for request in requests]),
            "hint_grace_s": HINT_GRACE_S,
            "key_lifetime_s": LIFETIME_S,
        }
        if any(request.key for request in requests):
            rows = await self._database.fetch_locked(_SQL["lock_keys"], _SQL["accept"], parameters)
        else:
            rows = await self._database.fetch(_SQL["accept"], parameters)
        found = {row["guid"]: row for row in rows}
        # Of requests with the same key that meet in a batch, the first counts.
        firsts = {
            (request.user_guid, request.key.key): KnownRequest(request.guid, request.key.fingerprint)
            for request in requests
            if request.key and found[request.guid]["is_stored"]
        }
        return [_acceptance(request, found[request.guid], firsts) for request in requests]

    async def accept_deletion(self, request: JobRequest) -> Deletion:
        """Store the job that deletes the backup `request.resource_guid` of its instance; what became of it."""
        rows = await self._database.fetch_locked(
            _SQL["lock_backup"], _SQL["accept_deletion"], _request_row(request) | {"hint_grace_s": HINT_GRACE_S}
        )
        return Deletion(**rows[0]) if rows else Deletion(job_guid=None, state=None)

    async def hint_due(
        self, *, crowded: Mapping[UUID, Collection[str]] | None = None, limit: int | None = None
    ) -> list[DueJob]:
        """Due jobs to be hinted now, at most `limit`; each is then left alone for its interval.

        Brokers take turns, and of those with many due jobs, users. `crowded` names brokers of which enough jobs are
        under way already, with those of their users who have their share of them.
        """
        limit = self._settings.dispatch_batch if limit is None else limit
        served = crowded or {}
        found = await self._database.fetch(
            _SQL["find_due"], {"left_alone": list(served), "share": min(TURNS, limit), "limit": limit}
        )
        full = {row["broker_guid"] for row in found if row["of_broker"] >= min(TURNS, limit)}
        if full or served:
            pairs = [(broker, user) for broker, users in served.items() for user in users]
            found = [row for row in found if row["broker_guid"] not in full]
            found += await self._database.fetch(
                _SQL["find_due_by_user"],
                {
                    "brokers": [*full, *served],
                    "served_brokers": [broker for broker, _ in pairs],
                    "served_users": [user for _, user in pairs],
                    "start": str(uuid4()),
                    "users": USERS,
                    "share": SHARE,
                    "limit": limit,
                },
            )
        if not found:
            return []
        rows = await self._database.fetch_locked(
            _SQL["lock_hints"],
            _SQL["hint"],
            {
                "guids": [row["guid"] for row in found[:limit]],
                "interval_s": self._settings.hint_interval_s,
                "interval_max_s": self._settings.hint_interval_max_s,
            },
        )
        hinted = {row["guid"]: DueJob(row["guid"], JobState(row["state"]), row["broker_guid"]) for row in rows}
        return [hinted[row["guid"]] for row in found if row["guid"] in hinted]

    async def take_back_hints(self, guids: Collection[UUID]) -> None:
        """Let jobs be hinted again at once, after nobody could follow their hints."""
        await self._database.fetch(_SQL["take_back_hints"], {"guids": list(guids)})

    async def look(self, guids: Collection[UUID]) -> list[Waiting]:
        """Those of the jobs that are due and that nobody is on."""
        rows = await self._database.fetch(_SQL["look"], {"guids": list(guids)})
        return [Waiting(**row) for row in rows]

    async def claim(self, guids: Collection[UUID], *, owner: str, lease_s: float) -> Claims:
        """Claim the jobs for `lease_s` seconds, in the order given, as far as the limits of their brokers allow."""
        rows = await self._database.fetch_locked(
            _SQL["lock_brokers"],
            _SQL["claim"],
            {
                # A guid that was handed in twice gets one claim: the same step must not run twice.
                "guids": list(dict.fromkeys(guids)),
                "owner": owner,
                "lease_s": lease_s,
                "calls_in_flight": self._settings.broker_calls_in_flight,
                "calls_per_minute": self._settings.broker_calls_per_minute,
            },
        )
        claims, refusals = [], []
        for row in rows:
            pause_s = row.pop("pause_s")
            priority = row.pop("priority")
            if row["fence"] is None:
                waiting = Waiting(row["guid"], row["broker_guid"], row["user_guid"], priority)
                refusals.append(Refusal(waiting, pause_s))
            else:
                claims.append(_claim(row))
        return Claims(claims, refusals)

    async def seize(self, guid: UUID, *, owner: str) -> Seizure | None:
        """Take an open job away from whoever is on it; None when it has ended, or can no longer be undone."""
        rows = await self._database.fetch(
            _SQL["seize"], {"guid": guid, "owner": owner, "lease_s": self._settings.lease_s}
        )
        if not rows:
            return None
        busy_s = rows[0].pop("pause_s")
        return Seizure(_claim(rows[0]), busy_s or 0.0)

    async def record(self, steps: Sequence[Step]) -> list[bool]:
        """Record what `steps` found out, in one statement; for each, in order, whether its fence still fitted."""
        rows = await self._database.fetch(
            _SQL["record"],
            {
                "steps": Jsonb([_step_row(step) for step in steps]),
                "clean_up_of": Jsonb(CLEAN_UP_OF),
                "clean_up_deadline_s": self._settings.clean_up_deadline_s,
                "breaker_failures": self._settings.breaker_failures,
                "breaker_pause_s": self._settings.breaker_pause_s,
                "breaker_pause_max_s": self._settings.breaker_pause_max_s,
            },
        )
        recorded = {row["guid"] for row in rows}
        return [step.claim.job_guid in recorded for step in steps]

    async def list_clean_ups(self) -> list[CleanUp]:
        """Clean-ups that are at work, and those that were given up and not tried again, oldest first."""
        rows = await self._database.fetch(_SQL["list_clean_ups"])
        return [
            CleanUp(**row | {"operation": Operation(row["operation"]), "state": JobState(row["state"])}) for row in rows
        ]

    async def retry_clean_up(self, guid: UUID) -> UUID | None:
        """Begin a clean-up anew that was given up: the new job's guid, or None when there is nothing to try again."""
        rows = await self._database.fetch(
            _SQL["retry_clean_up"], {"guid": guid, "clean_up_deadline_s": self._settings.clean_up_deadline_s}
        )
        return rows[0]["guid"] if rows else None

    async def begin_clean_up(self, guid: UUID) -> UUID | None:
        """Begin to remove a backup that nobody wants, after the newest job on it: the new job's guid, or None.

        None: the job is open or no longer the newest, the backup is wanted, or the broker cannot remove it.
        """
        operation = str(CLEAN_UP_OF[Operation.CREATE_BACKUP])
        rows = await self._database.fetch(
            _SQL["begin_clean_up"],
            {
                "guid": guid,
                "operation": operation,
                "operations": [str(Operation.CREATE_BACKUP), operation],
                "clean_up_deadline_s": self._settings.clean_up_deadline_s,
            },
        )
        return rows[0]["guid"] if rows else None

    async def explain_refused_retry(self, guid: UUID) -> str:
        """In words, why `retry_clean_up` gave nothing for that guid."""
        rows = await self._database.fetch(_SQL["explain_refused_retry"], {"guid": guid})
        match rows:
            case []:
                reason = "there is no such job; it may have been deleted after its time"
            case [{"is_clean_up": False}]:
                reason = "that job is no clean-up"
            case [{"state": "succeeded"}]:
                reason = "it has succeeded"
            case [{"retried_as": new_guid}] if new_guid:
                reason = f"it was begun anew already, as {new_guid}"
            case [{"at_work": other}] if other == guid:
                reason = "it is at work"
            case [{"at_work": other}] if other:
                reason = f"another clean-up is at work on the same thing, {other}"
            case _:
                reason = "it has changed meanwhile"
        return reason

    async def prune(self, *, retention_s: float, limit: int) -> int:
        """Delete at most `limit` jobs that ended more than `retention_s` seconds ago; how many went."""
        rows = await self._database.fetch(_SQL["prune"], {"retention_s": retention_s, "limit": limit})
        count: int = rows[0]["n"]
        return count

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give claims back whose steps will not be recorded; the jobs are due again at once."""
        rows = [{"job_guid": str(claim.job_guid), "fence": claim.fence} for claim in claims]
        await self._database.fetch(_SQL["release"], {"claims": Jsonb(rows)})


def soon_s(step: Step) -> float | None:
    """Seconds until the poll after `step`, when that is left to the process that took it; None when it is not."""
    is_poll = next_state(step.claim.state, step.event) is JobState.POLL
    return step.due_in_s if is_poll and step.due_in_s is not None and step.due_in_s <= SOON_S else None


def _acceptance(request: JobRequest, row: DictRow, firsts: Mapping[tuple[str, str], KnownRequest]) -> Acceptance:
    known = KnownRequest(row["job_guid"], row["fingerprint"]) if row["job_guid"] else None
    if request.key and not known and not row["is_stored"]:
        known = firsts.get((request.user_guid, request.key.key))
    return Acceptance(is_stored=row["is_stored"], known=known, is_backup_gone=row["is_backup_gone"])


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
        "can_undo": request.can_undo,
        "user_name": request.user_name,
        "service_instance_name": request.service_instance_name,
        "space_guid": request.space_guid,
        "organization_guid": request.organization_guid,
        "key": request.key and request.key.key,
        "fingerprint": request.key and request.key.fingerprint,
        "backup_guid": request.backup_guid and str(request.backup_guid),
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
    pause_s = soon_s(step)
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
        "hint_in_s": step.due_in_s if pause_s is None else pause_s + HINT_GRACE_S,
        "is_wait": step.is_wait,
        "had_no_effect": step.had_no_effect,
        "was_answered": step.was_answered,
        "clean_up_in_s": step.clean_up_in_s,
        "broker_operation": step.broker_operation,
        "broker_description": step.broker_description,
        "errors": [error._asdict() for error in step.errors],
        "warnings": [{"detail": text} for text in step.warnings],
        "size_bytes": step.facts.get("size_bytes"),
        "expires_at_s": step.facts.get("expires_at"),
        "actor_guid": step.actor and step.actor.guid,
        "actor_name": step.actor and step.actor.name,
    }
