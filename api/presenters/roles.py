"""Roles as Cloud Foundry shows them: a user, and a space or an organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired

from typing_extensions import TypedDict

from api.presenters.common import (
    LinkJson,
    Timestamp,
    ToOneJson,
    ToOneOrNoneJson,
    link,
    present_timestamp,
    present_to_one,
    present_to_one_or_none,
)
from api.presenters.pages import PaginationJson

if TYPE_CHECKING:
    from shared.directory.resources import Role


class RoleRelationshipsJson(TypedDict):
    """Who, and where; one of the two places is none."""

    user: ToOneJson
    space: ToOneOrNoneJson
    organization: ToOneOrNoneJson


class RoleLinksJson(TypedDict):
    """What belongs to a role."""

    self: LinkJson
    space: NotRequired[LinkJson]
    organization: NotRequired[LinkJson]


class RoleJson(TypedDict):
    """What a user is in a space or in an organization."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    type: str
    relationships: RoleRelationshipsJson
    links: RoleLinksJson


class RoleListJson(TypedDict):
    """A page of roles."""

    pagination: PaginationJson
    resources: list[RoleJson]


def present_role(role: Role, external_url: str) -> RoleJson:
    """The role's JSON."""
    links: RoleLinksJson = {"self": link(external_url, "roles", role.guid)}
    if role.space_guid is not None:
        links["space"] = link(external_url, "spaces", role.space_guid)
    if role.organization_guid is not None:
        links["organization"] = link(external_url, "organizations", role.organization_guid)
    return {
        "guid": role.guid,
        "created_at": present_timestamp(role.created_at),
        "updated_at": present_timestamp(role.updated_at),
        "type": role.type,
        "relationships": {
            "user": present_to_one(role.user_guid),
            "space": present_to_one_or_none(role.space_guid),
            "organization": present_to_one_or_none(role.organization_guid),
        },
        "links": links,
    }
