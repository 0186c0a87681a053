"""Service instances as Cloud Foundry shows them, and what a caller may do to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from api.presenters.common import (
    LinkJson,
    MetadataJson,
    Timestamp,
    ToOneJson,
    link,
    present_metadata,
    present_timestamp,
    present_to_one,
)
from api.presenters.pages import PaginationJson

if TYPE_CHECKING:
    from shared.directory.resources import ServiceInstance
    from shared.records import Instance


class LastOperationJson(TypedDict):
    """The last operation on the instance itself, which backups are not."""

    type: str
    state: str
    description: str
    created_at: Timestamp
    updated_at: Timestamp


class BrokerProvidedMetadataJson(TypedDict):
    """Nothing: Safekeep keeps none."""

    labels: dict[str, str]
    attributes: dict[str, str]


class MaintenanceInfoJson(TypedDict):
    """Nothing: Safekeep does not know of maintenance."""


class ManagedRelationshipsJson(TypedDict):
    """Where it lives, and of which plan it is."""

    space: ToOneJson
    service_plan: ToOneJson


class ManagedLinksJson(TypedDict):
    """What belongs to an instance that a service broker manages."""

    self: LinkJson
    space: LinkJson
    service_plan: LinkJson
    backups: Annotated[LinkJson, Field(description="Safekeep's own addition.")]


class ManagedServiceInstanceJson(TypedDict):
    """A service instance that a service broker manages."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    name: str
    type: Literal["managed"]
    tags: list[str]
    last_operation: LastOperationJson
    maintenance_info: MaintenanceInfoJson
    upgrade_available: bool
    dashboard_url: None
    broker_provided_metadata: BrokerProvidedMetadataJson
    relationships: ManagedRelationshipsJson
    metadata: MetadataJson
    links: ManagedLinksJson


class UserProvidedRelationshipsJson(TypedDict):
    """Where it lives."""

    space: ToOneJson


class UserProvidedLinksJson(TypedDict):
    """What belongs to an instance that no service broker manages."""

    self: LinkJson
    space: LinkJson


class UserProvidedServiceInstanceJson(TypedDict):
    """A service instance that no service broker manages, and that has no backups."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    name: str
    type: Literal["user-provided"]
    tags: list[str]
    last_operation: LastOperationJson
    syslog_drain_url: None
    route_service_url: None
    relationships: UserProvidedRelationshipsJson
    metadata: MetadataJson
    links: UserProvidedLinksJson


ServiceInstanceJson = ManagedServiceInstanceJson | UserProvidedServiceInstanceJson


class ServiceInstanceListJson(TypedDict):
    """A page of service instances."""

    pagination: PaginationJson
    resources: list[ServiceInstanceJson]


class PermissionsJson(TypedDict):
    """What the caller may do: `read` the instance, and `manage` it, which backing up and restoring is."""

    manage: bool
    read: bool


def present_service_instance(instance: ServiceInstance, external_url: str) -> ServiceInstanceJson:
    """The instance's JSON. What Safekeep does not know of it is empty."""
    this, space = (
        link(external_url, "service_instances", instance.guid),
        link(external_url, "spaces", instance.space_guid),
    )
    if instance.plan_guid is None:
        return {
            "guid": instance.guid,
            "created_at": present_timestamp(instance.created_at),
            "updated_at": present_timestamp(instance.updated_at),
            "name": instance.name,
            "type": "user-provided",
            "tags": [],
            "last_operation": _last_operation(instance),
            "syslog_drain_url": None,
            "route_service_url": None,
            "relationships": {"space": present_to_one(instance.space_guid)},
            "metadata": present_metadata(),
            "links": {"self": this, "space": space},
        }
    return {
        "guid": instance.guid,
        "created_at": present_timestamp(instance.created_at),
        "updated_at": present_timestamp(instance.updated_at),
        "name": instance.name,
        "type": "managed",
        "tags": [],
        "last_operation": _last_operation(instance),
        "maintenance_info": {},
        "upgrade_available": False,
        "dashboard_url": None,
        "broker_provided_metadata": {"labels": {}, "attributes": {}},
        "relationships": {
            "space": present_to_one(instance.space_guid),
            "service_plan": present_to_one(instance.plan_guid),
        },
        "metadata": present_metadata(),
        "links": {
            "self": this,
            "space": space,
            "service_plan": link(external_url, "service_plans", instance.plan_guid),
            "backups": link(external_url, "service_instances", instance.guid, "/backups"),
        },
    }


def _last_operation(instance: ServiceInstance) -> LastOperationJson:
    """Its times are the instance's: the directory does not keep others."""
    is_first = instance.last_operation_type == "create"
    return {
        "type": instance.last_operation_type,
        "state": instance.last_operation_state,
        "description": "",
        "created_at": present_timestamp(instance.created_at if is_first else instance.updated_at),
        "updated_at": present_timestamp(instance.updated_at),
    }


def present_permissions(instance: Instance) -> PermissionsJson:
    """What whoever was shown the instance may do."""
    return {"manage": instance.may_write and instance.closed_by is None, "read": True}
