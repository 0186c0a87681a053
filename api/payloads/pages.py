"""What the queries of all lists share: pages, lists of values, moments; by Cloud Foundry's conventions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.payloads.query import Between, Query, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

#: Years from 0001 on, and no leap seconds: what both our calendar and the database know.
_MOMENT: Final = (
    r"^(\d{3}[1-9]|\d{2}[1-9]0|\d[1-9]00|[1-9]000)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$"
)
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


def split(value: object) -> object:
    """A list of values from its text. Raises ValueError."""
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
    BeforeValidator(split),
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


#: A moment, in the form that answers have, or none.
OptionalMoment = Annotated[
    Annotated[datetime, BeforeValidator(_read_moment)] | None,
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _MOMENT}),
]

#: Answers leave fractions of a second out, and filters mean what answers show.
_SECOND: Final = timedelta(seconds=1)
_LAST_MOMENT: Final = datetime.max.replace(tzinfo=UTC)


class Period(NamedTuple):
    """From one moment on, and until before another; None: without that end."""

    since: datetime | None
    before: datetime | None

    @classmethod
    def of(
        cls, *, after: datetime | None, since: datetime | None, before: datetime | None, until: datetime | None
    ) -> Self:
        """What four filters leave, whose moments are whole seconds."""
        starts = [moment for moment in (since, _next_second(after)) if moment is not None]
        ends = [moment for moment in (before, _next_second(until)) if moment is not None]
        return cls(max(starts, default=None), min(ends, default=None))


def _next_second(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment + _SECOND if moment <= _LAST_MOMENT - _SECOND else _LAST_MOMENT


class CreatedQuery(PageQuery):
    """Which page of a list of what was created in some period."""

    created_after: OptionalMoment = Field(None, alias="created_ats[gt]", description="Only what was created later.")
    created_from: OptionalMoment = Field(None, alias="created_ats[gte]", description="Created then or later.")
    created_before: OptionalMoment = Field(None, alias="created_ats[lt]", description="Created earlier.")
    created_until: OptionalMoment = Field(None, alias="created_ats[lte]", description="Created then or earlier.")

    @property
    def created(self) -> Period:
        """When it was created."""
        return Period.of(
            after=self.created_after, since=self.created_from, before=self.created_before, until=self.created_until
        )


def one_of(noun: str, choices: Any) -> Callable[[object], object]:  # Any: a Literal type
    """For a word of those; refuses others, naming the parameter as `noun` and all that it can be."""
    valid = get_args(choices)

    def read(value: object) -> object:
        if value not in valid:
            raise ValueError(f"{noun} can only be: {quoted(valid)}")
        return value

    return read


Times = Literal["created_at", "-created_at", "updated_at", "-updated_at"]
TimesOrName = Literal["created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"]
_ORDER: Final = Field(description="What to order by; after a minus, the other way round.")
#: The order of what has no name, and of what has one.
OrderByTime = Annotated[Times, BeforeValidator(one_of("Order by", Times)), _ORDER]
Order = Annotated[TimesOrName, BeforeValidator(one_of("Order by", TimesOrName)), _ORDER]
