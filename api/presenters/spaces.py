"""Spaces as Cloud Foundry shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import TypedDict

from api.presenters.common import (
    LinkJson,
    MetadataJson,
    Timestamp,
    ToOneJson,
    ToOneOrNoneJson,
    link,
    present_metadata,
    present_timestamp,
    present_to_one,
    present_to_one_or_none,
)
from api.presenters.pages import PaginationJson

if TYPE_CHECKING:
    from shared.directory.resources import Space


class SpaceRelationshipsJson(TypedDict):
    """There are no quotas."""

    organization: ToOneJson
    quota: ToOneOrNoneJson


class SpaceLinksJson(TypedDict):
    """What belongs to a space."""

    self: LinkJson
    organization: LinkJson


class SpaceJson(TypedDict):
    """A space of an organization."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    name: str
    relationships: SpaceRelationshipsJson
    metadata: MetadataJson
    links: SpaceLinksJson


class SpaceListJson(TypedDict):
    """A page of spaces."""

    pagination: PaginationJson
    resources: list[SpaceJson]


def present_space(space: Space, external_url: str) -> SpaceJson:
    """The space's JSON."""
    return {
        "guid": space.guid,
        "created_at": present_timestamp(space.created_at),
        "updated_at": present_timestamp(space.updated_at),
        "name": space.name,
        "relationships": {
            "organization": present_to_one(space.organization_guid),
            "quota": present_to_one_or_none(None),
        },
        "metadata": present_metadata(),
        "links": {
            "self": link(external_url, "spaces", space.guid),
            "organization": link(external_url, "organizations", space.organization_guid),
        },
    }
