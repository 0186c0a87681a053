"""What the queries of all lists share: pages, lists of values, moments; by Cloud Foundry's conventions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from api.payloads.query import Between, Query

#: Years of four digits, and no leap seconds: what both our calendar and the database know.
_MOMENT: Final = r"^[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$"
# The database takes no NUL in a text, and nothing of ours has control characters.
_VALUE: Final = r"^[^\x00-\x1f\x7f,]+$"
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
    if not all(len(part) <= VALUE_LENGTH_MAX and re.fullmatch(_VALUE, part) for part in parts):
        raise ValueError("lists must be of printable values of 1 to 255 characters, separated by commas")
    return tuple(parts)


#: Any of these values; separated by commas.
Values = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=VALUE_LENGTH_MAX, pattern=_VALUE)], ...],
    Field(min_length=1),
    BeforeValidator(_split),
]


def _read_moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        if re.fullmatch(_MOMENT, value, re.ASCII):
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        pass  # of the right form, and no day or hour that there is
    raise ValueError("times must be as 2026-11-24T12:00:00Z")


#: A moment, in the form that answers have.
Moment = Annotated[datetime, BeforeValidator(_read_moment), Field(json_schema_extra={"pattern": _MOMENT})]


def in_words(problem: str) -> WrapValidator:
    """For a value of a few: `problem` is what is said about any other."""

    def check(value: Any, accept: ValidatorFunctionWrapHandler) -> Any:  # Any: whatever the annotated type takes
        try:
            return accept(value)
        except ValidationError:
            raise ValueError(problem) from None

    return WrapValidator(check)


Times = Literal["created_at", "-created_at", "updated_at", "-updated_at"]
_ORDER: Final = Field(description="What to order by; after a minus, the other way round.")
#: The order of what has no name.
OrderByTime = Annotated[Times, in_words("Order by can only be: 'created_at', 'updated_at'"), _ORDER]
Order = Annotated[
    Times | Literal["name", "-name"], in_words("Order by can only be: 'created_at', 'updated_at', 'name'"), _ORDER
]
