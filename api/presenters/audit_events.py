"""Audit events in Cloud Foundry's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from api.presenters.common import LinkJson, Timestamp, present_timestamp
from api.presenters.pages import PaginationJson

if TYPE_CHECKING:
    from shared.lists import AuditEvent


class ActorJson(TypedDict):
    """Who did it."""

    guid: str
    type: str
    name: str


class TargetJson(TypedDict):
    """What it was done to."""

    guid: str
    type: str
    name: str


class PlaceJson(TypedDict):
    """Where that is."""

    guid: str


class EventLinksJson(TypedDict):
    """Where the event is."""

    self: LinkJson


class AuditEventJson(TypedDict):
    """Somebody did something. `data` has the guids of the job and of the backup or restore, and the request."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    type: str
    actor: ActorJson
    target: TargetJson
    data: dict[str, Any]  # Any: JSON that differs from type to type
    space: PlaceJson | None
    organization: PlaceJson | None
    links: EventLinksJson


class AuditEventListJson(TypedDict):
    """A page of audit events."""

    pagination: PaginationJson
    resources: list[AuditEventJson]


def present_audit_event(event: AuditEvent, external_url: str) -> AuditEventJson:
    """The event's JSON. An event never changes, so that both its times are the same."""
    return {
        "guid": str(event.guid),
        "created_at": present_timestamp(event.created_at),
        "updated_at": present_timestamp(event.created_at),
        "type": event.type,
        "actor": {"guid": event.actor_guid, "type": "user", "name": event.actor_name},
        "target": {"guid": event.target_guid, "type": event.target_type, "name": event.target_name},
        "data": event.data,
        "space": None if event.space_guid is None else {"guid": event.space_guid},
        "organization": None if event.organization_guid is None else {"guid": event.organization_guid},
        "links": {"self": {"href": f"{external_url}/v3/audit_events/{event.guid}"}},
    }
