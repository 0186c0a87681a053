"""Service offerings as Cloud Foundry shows them, and whether they have backups."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from api.presenters.published import (
    BackupSupportJson,
    flag_of,
    object_of,
    present_backup_support,
    text_of,
    texts_of,
)
from shared.directory.catalog import why_no_backups
from shared.records import Json

if TYPE_CHECKING:
    from shared.directory.resources import ServiceOffering


class ServiceOfferingFeaturesJson(TypedDict):
    """What the service broker can do besides."""

    plan_updateable: bool
    bindable: bool
    instances_retrievable: bool
    bindings_retrievable: bool
    allow_context_updates: bool


class ServiceOfferingCatalogJson(TypedDict):
    """What the service broker says of it."""

    id: str
    metadata: Json
    features: ServiceOfferingFeaturesJson
    backup: BackupSupportJson


class ServiceOfferingRelationshipsJson(TypedDict):
    """Whose it is."""

    service_broker: ToOneJson


class ServiceOfferingLinksJson(TypedDict):
    """What belongs to a service offering."""

    self: LinkJson
    service_plans: LinkJson
    service_broker: LinkJson


class ServiceOfferingJson(TypedDict):
    """A service offering. It has backups when one of its plans does; what each plan has is told by the plan."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    name: str
    description: str
    available: bool
    tags: list[str]
    requires: list[str]
    shareable: bool
    documentation_url: str | None
    broker_catalog: ServiceOfferingCatalogJson
    relationships: ServiceOfferingRelationshipsJson
    metadata: MetadataJson
    links: ServiceOfferingLinksJson


class ServiceOfferingListJson(TypedDict):
    """A page of service offerings."""

    pagination: PaginationJson
    resources: list[ServiceOfferingJson]


def present_service_offering(offering: ServiceOffering, external_url: str) -> ServiceOfferingJson:
    """The offering's JSON."""
    published = offering.broker_catalog
    metadata = object_of(published, "metadata")
    reason = why_no_backups(published) or "None of its plans supports backups."
    return {
        "guid": offering.guid,
        "created_at": present_timestamp(offering.created_at),
        "updated_at": present_timestamp(offering.updated_at),
        "name": offering.name,
        "description": text_of(published, "description"),
        "available": True,
        "tags": texts_of(published, "tags"),
        "requires": texts_of(published, "requires"),
        "shareable": flag_of(metadata, "shareable", default=False),
        "documentation_url": text_of(metadata, "documentationUrl") or None,
        "broker_catalog": {
            "id": offering.catalog_id,
            "metadata": metadata,
            "features": {
                "plan_updateable": flag_of(published, "plan_updateable", default=False),
                "bindable": flag_of(published, "bindable", default=False),
                "instances_retrievable": flag_of(published, "instances_retrievable", default=False),
                "bindings_retrievable": flag_of(published, "bindings_retrievable", default=False),
                "allow_context_updates": flag_of(published, "allow_context_updates", default=False),
            },
            "backup": present_backup_support(offering.backup_features, reason),
        },
        "relationships": {"service_broker": present_to_one(offering.broker_guid)},
        "metadata": present_metadata(),
        "links": {
            "self": link(external_url, "service_offerings", offering.guid),
            "service_plans": {"href": f"{external_url}/v3/service_plans?service_offering_guids={offering.guid}"},
            "service_broker": link(external_url, "service_brokers", offering.broker_guid),
        },
    }
