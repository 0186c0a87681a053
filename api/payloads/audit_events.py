"""The query of `GET /v3/audit_events`, with Cloud Foundry's filters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from api.payloads.pages import Moment, PageQuery, Values, in_words
from shared.records import AuditEventFilter


class AuditEventsQuery(PageQuery):
    """Which audit events to list."""

    types: Values | None = Field(None, description="Types of events.")
    target_guids: Values | None = Field(None, description="Guids of service instances.")
    space_guids: Values | None = Field(None, description="Guids of spaces.")
    organization_guids: Values | None = Field(None, description="Guids of organizations.")
    created_after: Moment | None = Field(None, alias="created_ats[gt]", description="After this moment.")
    created_since: Moment | None = Field(None, alias="created_ats[gte]", description="At this moment or after it.")
    created_before: Moment | None = Field(None, alias="created_ats[lt]", description="Before this moment.")
    created_until: Moment | None = Field(None, alias="created_ats[lte]", description="At this moment or before it.")
    order_by: Annotated[
        Literal["created_at", "-created_at"],
        in_words("Order by can only be: 'created_at'"),
        Field(description="Oldest first; after a minus, newest first."),
    ] = "created_at"

    def to_filter(self) -> AuditEventFilter:
        """What to ask the store for."""
        return AuditEventFilter(
            types=_listed(self.types),
            target_guids=_listed(self.target_guids),
            space_guids=_listed(self.space_guids),
            organization_guids=_listed(self.organization_guids),
            after=self.created_after,
            since=self.created_since,
            before=self.created_before,
            until=self.created_until,
            is_newest_first=self.order_by == "-created_at",
            limit=self.per_page,
            offset=self.offset,
        )


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)
