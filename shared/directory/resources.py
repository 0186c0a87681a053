"""What the directory tells of its parts when it is read: a record per noun, and a page of them.

Accepting operations needs more of an instance, and less often: that is `Instance` in `shared/records.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from shared.records import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What all of them have."""

    guid: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization(Resource):
    """An organization."""

    name: str
    status: str  #: "active", "suspended" or "deleting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space(Resource):
    """A space of an organization."""

    name: str
    status: str  #: "active", "suspended" or "deleting"
    organization_guid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(Resource):
    """What a user is in a space or in an organization, of which the other is None."""

    type: str
    user_guid: str
    space_guid: str | None
    organization_guid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBroker(Resource):
    """A service broker, without what signs on to it."""

    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOffering(Resource):
    """An offering of a broker."""

    name: str
    catalog_id: str
    broker_guid: str
    broker_catalog: Json  #: as the broker published it, without its plans; what it holds was not checked
    backup_features: list[str]  #: those that any of its plans has


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan(Resource):
    """A plan of an offering."""

    name: str
    catalog_id: str
    offering_guid: str
    broker_catalog: Json  #: as the broker published it; what it holds was not checked
    offering_broker_catalog: Json
    backup_features: list[str]  #: in force; empty when it does not support backup
    maximum_polling_duration_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInstance(Resource):
    """A service instance; one that is user-provided has no plan."""

    name: str
    type: str  #: "managed" or "user-provided"
    space_guid: str
    plan_guid: str | None
    last_operation_type: str
    last_operation_state: str


AnyResource = TypeVar("AnyResource", bound=Resource)
