"""Service brokers as Cloud Foundry shows them: where they are, and never what signs on to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from api.presenters.common import LinkJson, MetadataJson, Timestamp, link, present_metadata, present_timestamp
from api.presenters.pages import PaginationJson

if TYPE_CHECKING:
    from shared.directory.resources import ServiceBroker


class ServiceBrokerRelationshipsJson(TypedDict):
    """None: brokers here belong to no space."""


class ServiceBrokerLinksJson(TypedDict):
    """What belongs to a service broker."""

    self: LinkJson
    service_offerings: LinkJson


class ServiceBrokerJson(TypedDict):
    """A service broker."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    name: str
    url: str
    relationships: ServiceBrokerRelationshipsJson
    metadata: MetadataJson
    links: ServiceBrokerLinksJson


class ServiceBrokerListJson(TypedDict):
    """A page of service brokers."""

    pagination: PaginationJson
    resources: list[ServiceBrokerJson]


def present_service_broker(broker: ServiceBroker, external_url: str) -> ServiceBrokerJson:
    """The broker's JSON."""
    return {
        "guid": broker.guid,
        "created_at": present_timestamp(broker.created_at),
        "updated_at": present_timestamp(broker.updated_at),
        "name": broker.name,
        "url": broker.url,
        "relationships": {},
        "metadata": present_metadata(),
        "links": {
            "self": link(external_url, "service_brokers", broker.guid),
            "service_offerings": {"href": f"{external_url}/v3/service_offerings?service_broker_guids={broker.guid}"},
        },
    }
