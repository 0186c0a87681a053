"""What presenters of all nouns share: times and links in Cloud Foundry's forms."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from datetime import datetime

#: UTC, without fractions of a second.
Timestamp = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$",
        json_schema_extra={"format": "date-time"},
        examples=["2026-11-24T12:00:00Z"],
    ),
]


class LinkJson(TypedDict):
    """Where something is."""

    href: Annotated[str, Field(json_schema_extra={"format": "uri"})]


def present_timestamp(moment: datetime) -> str:
    """`moment` as Cloud Foundry writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
