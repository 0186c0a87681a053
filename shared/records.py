"""The records that travel between the store, the API and the workers. Frozen; made by the store, read by everyone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from shared.states import JobState

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from shared.cf_errors import CfError
    from shared.directory.roles import Closure
    from shared.states import Event, Operation

REMAINS: Final = "The service broker cannot remove what this operation may have left there."

Json = dict[str, Any]  # JSON from outside, whose shape is checked where it is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A service instance as one caller sees it, with all that accepting an operation on it needs."""

    guid: str
    name: str
    type: str  #: "managed" or "user-provided"
    last_operation_type: str
    last_operation_state: str
    space_guid: str
    space_name: str
    organization_guid: str
    organization_name: str
    offering_name: str | None
    plan_name: str | None
    offering_catalog_id: str | None  #: the broker's `service_id`
    plan_catalog_id: str | None  #: the broker's `plan_id`
    offering_guid: UUID | None
    broker_guid: UUID | None
    backup_features: frozenset[str]
    maximum_polling_duration_s: int | None
    may_read_backups: bool  #: False where the caller sees it only because it is shared
    may_write: bool  #: whether the caller's roles let them start operations on it
    closed_by: Closure | None  #: what keeps the caller from writing all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePoint:
    """What to restore: at least one of the first three. `source_service_instance_guid`: another instance's backup."""

    backup_id: str | None = None
    target_timestamp: datetime | None = None
    restore_point: str | None = None
    source_service_instance_guid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """An operation that passed every check, about to be stored. Both guids are fixed here and never change."""

    guid: UUID
    resource_guid: UUID  #: the backup's or restore's, also its id at the broker
    operation: Operation
    service_instance_guid: str
    broker_guid: UUID
    user_guid: str
    request_id: str
    traceparent: str | None
    request_body: str  #: JSON, the body of the start call; sent as it stands on every try
    deadline_s: float
    can_undo: bool  #: whether the broker can remove, or stop, what this operation makes
    # As they are now, for audit events.
    user_name: str
    service_instance_name: str
    space_guid: str
    organization_guid: str
    restore: RestorePoint | None = None
    backup_guid: UUID | None = None  #: the backup that is restored; it must be there, and is not deleted meanwhile
    key: IdempotencyKey | None = None


class IdempotencyKey(NamedTuple):
    """What makes a request repeatable: a key of its user's choice, and what it was used for."""

    key: str
    fingerprint: str  #: equal for equal requests, and for no others


class Acceptance(NamedTuple):
    """What became of a request: stored, known by its key, or refused since a backup is gone or the instance busy."""

    is_stored: bool
    known: KnownRequest | None = None  #: the earlier request with the same key
    is_backup_gone: bool = False


class KnownRequest(NamedTuple):
    """A request that was accepted with a key."""

    job_guid: UUID
    fingerprint: str


class Deletion(NamedTuple):
    """What became of a request to delete a backup; without a job, the backup's state says why."""

    job_guid: UUID | None  #: the job that deletes it, which may be an earlier request's
    state: str | None  #: of the backup before the request; None when there is none
    is_stored: bool = False
    is_being_restored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its pollers see it."""

    guid: UUID
    operation: Operation
    state: JobState
    service_instance_guid: str
    instance_exists: bool
    broker_guid: UUID
    broker_name: str
    can_undo: bool
    version: int
    errors: tuple[Json, ...]
    warnings: tuple[Json, ...]
    created_at: datetime
    updated_at: datetime
    due_in_s: float | None  #: seconds until the next step; None when the job has ended
    broker_description: str | None  #: the broker's latest words, while the job is open
    broker_retry_at: datetime | None  #: the broker does not answer, and is left alone until then
    clean_up_guid: UUID | None  #: the job that removes what this one may have left


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that can be listed and restored."""

    guid: UUID
    service_instance_guid: str
    created_at: datetime
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDetails(Backup):
    """All that is known of one backup, whatever its state."""

    state: Literal["in progress", "succeeded", "failed", "deleting"]
    trigger: Literal["on_demand", "scheduled"]
    completed_at: datetime | None
    expires_at: datetime | None
    job_guid: UUID | None  #: the newest job on it; None when its jobs were deleted after their time


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """Where a service broker is and how to sign on; the password as it rests, sealed."""

    guid: UUID
    name: str
    url: str
    username: str
    password_sealed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to take one step of a job, until the lease ends or somebody else claims it with a higher fence.

    `may_call` is False for a job past its deadline whose broker is at its limit: it ends without another call.
    """

    job_guid: UUID
    fence: int
    operation: Operation
    state: JobState
    is_expired: bool  #: the deadline has passed
    may_call: bool
    service_instance_guid: str
    resource_guid: UUID
    user_guid: str
    request_id: str
    traceparent: str | None
    request_body: str  #: of the start call, to be sent as it stands
    can_undo: bool  #: whether the broker can remove, or stop, what this operation makes
    broker: BrokerAddress
    broker_operation: str | None
    attempts: int  #: start calls so far, this one included
    unclear_starts: int  #: those of them that may have had an effect at the broker, as far as we know
    lost_steps: int  #: claims before this one, in a row, whose step nobody recorded
    polls: int  #: polls so far
    waits: int  #: times in all that the broker asked us to wait with the start
    waited_s: float  #: since the broker first said, in a row, that it is busy

    def may_exist(self, *, had_no_effect: bool = False) -> bool:
        """Whether the broker may know of the resource; `had_no_effect`: the start call of this claim did nothing."""
        return self.state is JobState.POLL or self.unclear_starts > int(had_no_effect)

    def warnings_of_remains(self) -> tuple[str, ...]:
        """What a reader of the job should know when something stays at the broker that it cannot remove."""
        return () if self.can_undo else (REMAINS,)

    @property
    def catalog_ids(self) -> tuple[str, str]:
        """The `service_id` and `plan_id` of the stored start call, for the calls that follow it."""
        body = json.loads(self.request_body)
        return body["service_id"], body["plan_id"]


class JobError(NamedTuple):
    """One entry of a failed job's `errors`."""

    code: int
    title: str
    detail: str

    @classmethod
    def of(cls, row: CfError, detail: str | None = None) -> JobError:
        """The error of that row, with the row's own text unless another is given."""
        return cls(row.code, row.title, row.text if detail is None else detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step found out, to be recorded if the fence of its claim still fits."""

    claim: Claim
    worker: str
    call: str  #: "start", "poll" or "none"
    event: Event
    outcome: str
    http_status: int | None = None
    duration_s: float = 0.0
    detail: str | None = None
    due_in_s: float | None = None  #: pause before the next step; None when the job ends
    broker_operation: str | None = None
    broker_description: str | None = None
    errors: tuple[JobError, ...] = ()
    warnings: tuple[str, ...] = ()  #: for the job's readers, kept after its end
    is_wait: bool = False  #: the broker was busy, which is no attempt
    had_no_effect: bool = False  #: the broker certainly did nothing on this start
    was_answered: bool | None = None  #: whether the broker is well; None when the step does not tell
    clean_up_in_s: float | None = (
        None  #: this end leaves something at the broker, to be removed after that many seconds
    )
    facts: Json = field(default_factory=dict)  #: of the finished backup: size_bytes, expires_at
    actor: Actor | None = None  #: who took it, where that is not the user who asked for the job


class Actor(NamedTuple):
    """A user who did something."""

    guid: str
    name: str


class Waiting(NamedTuple):
    """A due job in front of its claim, with what decides whose turn it is."""

    guid: UUID
    broker_guid: UUID
    user_guid: str
    priority: int  #: 0 goes first


class Refusal(NamedTuple):
    """A due job that has to wait for its broker: `pause_s` seconds, or with None until a call to it ends."""

    job: Waiting
    pause_s: float | None


class CleanUp(NamedTuple):
    """A clean-up that is at work, or that was given up and not tried again."""

    guid: UUID
    operation: Operation
    state: JobState
    resource_guid: UUID
    service_instance_guid: str
    broker_name: str
    parent_guid: UUID  #: the job after which it cleans up
    attempts: int
    created_at: datetime
    completed_at: datetime | None
    deadline_at: datetime
    due_at: datetime | None
    errors: list[Json]
    broker_description: str | None
    last_detail: str | None  #: what the latest step found out
    read_at: datetime  #: when all this was so


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUpInstance:
    """A service instance whose plan has backups, and its broker."""

    guid: str
    name: str
    broker: BrokerAddress
    calls_in_flight: int | None  #: the broker's own limit


class KnownBackup(NamedTuple):
    """A backup as our tables have it, whatever its state, with the newest job on it: its own, or a clean-up.

    Equal to itself read another time as long as nothing about it has changed.
    """

    guid: UUID
    service_instance_guid: str
    state: str  #: "in progress", "succeeded", "failed", "deleting" or "deleted"
    completed_at: datetime | None
    job_guid: UUID | None  #: None when the jobs were deleted after their time
    job_state: JobState | None
    job_is_clean_up: bool
    can_remove: bool  #: whether the broker can remove it, and has not said that it is somebody else's
    was_deleted_on_request: bool


@dataclass(frozen=True, slots=True)
class Hint:
    """A call to look at due jobs of one broker, in the queue of their kind. May be lost, late or repeated."""

    queue: str
    job_guids: tuple[str, ...]
