"""What lists are asked for, and what they give: filters, pages, and the records that only lists have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from shared.records import Json
    from shared.states import JobState, Operation

JobOrder = Literal["created_at", "-created_at", "updated_at", "-updated_at"]  # "-": newest first
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some of the things that a caller may see."""

    resources: tuple[Item, ...]
    total: int  #: how many there are in all


class JobVersion(NamedTuple):
    """That of a job from which one can tell whether its pollers would see something new, and when to look again."""

    guid: UUID
    version: int
    instance_exists: bool
    broker_retry_at: datetime | None
    clean_up_guid: UUID | None
    due_in_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs to list, in which order, and which part of them. None: any. `since` is included, `before` is not."""

    guids: tuple[UUID, ...] | None = None
    states: tuple[JobState, ...] | None = None
    operations: tuple[Operation, ...] | None = None
    service_instance_guids: tuple[str, ...] | None = None
    created_since: datetime | None = None
    created_before: datetime | None = None
    updated_since: datetime | None = None
    updated_before: datetime | None = None
    reader: str | None = None  #: only jobs of instances that this user can read
    order: JobOrder = "-created_at"
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Who did what to which service instance."""

    guid: UUID
    type: str
    actor_guid: str
    actor_name: str
    target_guid: str
    target_type: str
    target_name: str
    space_guid: str | None
    organization_guid: str | None
    data: Json
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEventFilter:
    """Which audit events are wanted; None is any. `since` is included, `before` is not."""

    types: list[str] | None = None
    target_guids: list[str] | None = None
    space_guids: list[str] | None = None
    organization_guids: list[str] | None = None
    since: datetime | None = None
    before: datetime | None = None
    is_newest_first: bool
    limit: int
    offset: int
