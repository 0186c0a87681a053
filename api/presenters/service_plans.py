"""Service plans as Cloud Foundry shows them, and whether they have backups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

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
from api.presenters.published import BackupSupportJson, flag_of, object_of, present_backup_support, text_of
from shared.directory.catalog import why_no_backups
from shared.records import Json

if TYPE_CHECKING:
    from shared.directory.resources import ServicePlan

#: What decides is stored when the directory is applied, and by the version of Safekeep that applies it.
_NOT_APPLIED: Final = "The announcement of backups counts only when the directory is applied again."


class ServicePlanFeaturesJson(TypedDict):
    """What the service broker can do besides."""

    plan_updateable: bool
    bindable: bool


class ServicePlanCatalogJson(TypedDict):
    """What the service broker says of it."""

    id: str
    metadata: Json
    maximum_polling_duration: Annotated[
        int | None, Field(description="Seconds after which an operation is given up, the limit for backups included.")
    ]
    features: ServicePlanFeaturesJson
    backup: BackupSupportJson


class ServicePlanRelationshipsJson(TypedDict):
    """Whose it is."""

    service_offering: ToOneJson


class ServicePlanLinksJson(TypedDict):
    """What belongs to a service plan."""

    self: LinkJson
    service_offering: LinkJson


class ServicePlanJson(TypedDict):
    """A service plan. Without instances of it, only those see it who see everything: `admin`, as Cloud Foundry says."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    name: str
    description: str
    visibility_type: Literal["admin"]
    available: bool
    free: bool
    costs: Annotated[list[Json], Field(max_length=0)]
    maintenance_info: Json
    broker_catalog: ServicePlanCatalogJson
    schemas: Json
    relationships: ServicePlanRelationshipsJson
    metadata: MetadataJson
    links: ServicePlanLinksJson


class ServicePlanListJson(TypedDict):
    """A page of service plans."""

    pagination: PaginationJson
    resources: list[ServicePlanJson]


def present_service_plan(plan: ServicePlan, external_url: str) -> ServicePlanJson:
    """The plan's JSON. What a plan leaves out is as its offering says."""
    published = plan.broker_catalog
    reason = why_no_backups(plan.offering_broker_catalog, published) or _NOT_APPLIED
    return {
        "guid": plan.guid,
        "created_at": present_timestamp(plan.created_at),
        "updated_at": present_timestamp(plan.updated_at),
        "name": plan.name,
        "description": text_of(published, "description"),
        "visibility_type": "admin",
        "available": True,
        "free": flag_of(published, "free", default=True),
        "costs": [],
        "maintenance_info": object_of(published, "maintenance_info"),
        "broker_catalog": {
            "id": plan.catalog_id,
            "metadata": object_of(published, "metadata"),
            "maximum_polling_duration": plan.maximum_polling_duration_s,
            "features": {
                "plan_updateable": _flag(plan, "plan_updateable"),
                "bindable": _flag(plan, "bindable"),
            },
            "backup": present_backup_support(plan.backup_features, reason),
        },
        "schemas": _schemas(published),
        "relationships": {"service_offering": present_to_one(plan.offering_guid)},
        "metadata": present_metadata(),
        "links": {
            "self": link(external_url, "service_plans", plan.guid),
            "service_offering": link(external_url, "service_offerings", plan.offering_guid),
        },
    }


def _flag(plan: ServicePlan, key: str) -> bool:
    return flag_of(plan.broker_catalog, key, default=flag_of(plan.offering_broker_catalog, key, default=False))


def _schemas(published: Json) -> Json:
    """The schemas of parameters, with empty ones where the broker has none, as Cloud Foundry has it."""
    schemas = object_of(published, "schemas")

    def parameters(noun: str, action: str) -> Json:
        return {"parameters": object_of(object_of(object_of(schemas, noun), action), "parameters")}

    return {
        "service_instance": {
            "create": parameters("service_instance", "create"),
            "update": parameters("service_instance", "update"),
        },
        "service_binding": {"create": parameters("service_binding", "create")},
    }
