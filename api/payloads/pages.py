"""What the queries of all lists share: pages, lists of values, moments; by Cloud Foundry's conventions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

from pydantic import BeforeValidator, Field

from api.payloads.query import Between, Query, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
VALUE_LENGTH_MAX: Final = 255


class PageQuery(Query):
    """Which page of a list. Subclasses add filters and the orders that they know."""

    page: Annotated[int, Between("Page", 1, 1_000_000_000), Field(description="Page to show.")] = 1
    per_page: Annotated[int, Between("Per page", 1, 5000), Field(description="Resources on a page.")] = 50

    @property
    def offset(self) -> int:
        """How many resources come before the page."""
        return (self.page - 1) * self.per_page


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = value.split(",")
    # The database takes no NUL in a text, and nothing of ours has control characters.
    if not all(part and len(part) <= VALUE_LENGTH_MAX and part.isprintable() for part in parts):
        raise ValueError("lists must be of printable values of 1 to 255 characters, separated by commas")
    return tuple(parts)


#: Any of these values; separated by commas.
Values = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=VALUE_LENGTH_MAX, pattern=r"^[^\x00-\x1f,]*$")], ...],
    BeforeValidator(_split),
]


def _read_moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        if _MOMENT.fullmatch(value):
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass  # of the right form, and no day or hour that there is
    raise ValueError("times must be as 2026-11-24T12:00:00Z")


#: A moment, in the form that answers have.
Moment = Annotated[datetime, BeforeValidator(_read_moment)]


def one_of(noun: str, choices: Any) -> Callable[[object], object]:  # Any: a Literal type
    """For a word of those; refuses others, naming the parameter as `noun` and all that it can be."""
    valid = get_args(choices)

    def read(value: object) -> object:
        if value not in valid:
            raise ValueError(f"{noun} can only be: {quoted(valid)}")
        return value

    return read
