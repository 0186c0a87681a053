"""What presenters of all nouns share: times and links in Cloud Foundry's forms."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

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


class MetadataJson(TypedDict):
    """Labels and annotations, of which Safekeep keeps none."""

    labels: dict[str, str]
    annotations: dict[str, str]


class ReferenceJson(TypedDict):
    """Something else, by its guid."""

    guid: str


class ToOneJson(TypedDict):
    """A relationship to one other thing."""

    data: ReferenceJson


class ToOneOrNoneJson(TypedDict):
    """A relationship to one other thing, or to none."""

    data: ReferenceJson | None


def present_metadata() -> MetadataJson:
    """As everything has it that nobody labelled."""
    return {"labels": {}, "annotations": {}}


def present_to_one(guid: str) -> ToOneJson:
    """The relationship to what has that guid."""
    return {"data": {"guid": guid}}


def present_to_one_or_none(guid: str | None) -> ToOneOrNoneJson:
    """The same, where there may be none."""
    return {"data": None if guid is None else {"guid": guid}}


def link(external_url: str, noun: str, guid: str, rest: str = "") -> LinkJson:
    """Where something of a collection is, or with `rest` a part of it. Guids may have any characters."""
    return {"href": f"{external_url}/v3/{noun}/{quote(guid, safe='')}{rest}"}
