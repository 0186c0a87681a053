"""Organizations as Cloud Foundry shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from api.presenters.common import (
    LinkJson,
    MetadataJson,
    Timestamp,
    ToOneOrNoneJson,
    link,
    present_metadata,
    present_timestamp,
    present_to_one_or_none,
)
from api.presenters.pages import PaginationJson

if TYPE_CHECKING:
    from shared.directory.resources import Organization


class OrganizationRelationshipsJson(TypedDict):
    """There are no quotas."""

    quota: ToOneOrNoneJson


class OrganizationLinksJson(TypedDict):
    """What belongs to an organization."""

    self: LinkJson


class OrganizationJson(TypedDict):
    """An organization. In one that is suspended, only admins back up and restore."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    name: str
    suspended: bool
    relationships: OrganizationRelationshipsJson
    metadata: MetadataJson
    links: OrganizationLinksJson


class OrganizationListJson(TypedDict):
    """A page of organizations."""

    pagination: PaginationJson
    resources: list[OrganizationJson]


def present_organization(organization: Organization, external_url: str) -> OrganizationJson:
    """The organization's JSON."""
    return {
        "guid": organization.guid,
        "created_at": present_timestamp(organization.created_at),
        "updated_at": present_timestamp(organization.updated_at),
        "name": organization.name,
        "suspended": organization.status == "suspended",
        "relationships": {"quota": present_to_one_or_none(None)},
        "metadata": present_metadata(),
        "links": {"self": link(external_url, "organizations", organization.guid)},
    }
