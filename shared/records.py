"""The records that travel between the store, the API and the workers. Frozen; made by the store, read by everyone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from shared.states import Event, JobState, Operation

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
    may_write: bool  #: whether the caller may start operations on it


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
    restore: RestorePoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its pollers see it."""

    guid: UUID
    operation: Operation
    state: JobState
    service_instance_guid: str
    instance_exists: bool
    version: int
    errors: tuple[Json, ...]
    warnings: tuple[Json, ...]
    created_at: datetime
    updated_at: datetime
    due_in_s: float | None  #: seconds until the next step; None when the job has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that can be listed and restored."""

    guid: UUID
    service_instance_guid: str
    created_at: datetime
    size_bytes: int | None


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
    """The right to take one step of a job, until the lease ends or somebody else claims it with a higher fence."""

    job_guid: UUID
    fence: int
    operation: Operation
    state: JobState
    is_expired: bool  #: the deadline has passed
    service_instance_guid: str
    resource_guid: UUID
    user_guid: str
    request_id: str
    traceparent: str | None
    request_body: str  #: of the start call, to be sent as it stands
    broker: BrokerAddress
    broker_operation: str | None
    attempts: int  #: start calls so far, this one included
    polls: int  #: polls so far
    waits: int  #: times in all that the broker asked us to wait with the start
    waited_s: float  #: since the broker first said, in a row, that it is busy

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
    facts: Json = field(default_factory=dict)  #: of the finished backup: size_bytes, expires_at


@dataclass(frozen=True, slots=True)
class Hint:
    """A call to look at due jobs of one broker, in the queue of their kind. May be lost, late or repeated."""

    queue: str
    job_guids: tuple[str, ...]
