"""The query of `GET /v3/audit_events`, with Cloud Foundry's filters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from api.payloads.pages import CreatedQuery, Values, one_of
from shared.lists import AuditEventFilter

Order = Literal["created_at", "-created_at"]


class AuditEventsQuery(CreatedQuery):
    """Which audit events to list."""

    types: Values | None = Field(None, description="Types of events.")
    target_guids: Values | None = Field(None, description="Guids of service instances.")
    space_guids: Values | None = Field(None, description="Guids of spaces.")
    organization_guids: Values | None = Field(None, description="Guids of organizations.")
    order_by: Annotated[
        Order, BeforeValidator(one_of("Order by", Order)), Field(description="Oldest first, or newest.")
    ] = "created_at"

    def to_filter(self) -> AuditEventFilter:
        """What to ask the store for."""
        return AuditEventFilter(
            types=_listed(self.types),
            target_guids=_listed(self.target_guids),
            space_guids=_listed(self.space_guids),
            organization_guids=_listed(self.organization_guids),
            since=self.created.since,
            before=self.created.before,
            is_newest_first=self.order_by == "-created_at",
            limit=self.per_page,
            offset=self.offset,
        )


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)
