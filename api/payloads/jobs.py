"""The query of `GET /v3/jobs`, our own addition, with Cloud Foundry's names for filters, orders and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Self
from uuid import UUID

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from api.payloads.pages import CreatedQuery, OptionalMoment, OrderByTime, Period, Values
from api.payloads.query import quoted
from shared.errors import BadQueryParameterError
from shared.lists import JobFilter
from shared.states import PUBLIC_STATES, Operation, PublicState

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How many jobs of a list can be seen. Finished jobs are many, and counting them all would take ever longer.
COUNT_MAX: Final = 10_000


def _check_among(noun: str, valid: Iterable[str]) -> BeforeValidator:
    known = [str(value) for value in valid]

    def check(value: object) -> object:
        values = value.split(",") if isinstance(value, str) else [value]
        if not set(values) <= set(known):
            raise ValueError(f"{noun} must be among {quoted(known)}")
        return tuple(dict.fromkeys(values))

    return BeforeValidator(check)


def _list_of(valid: Iterable[str]) -> WithJsonSchema:
    items = {"type": "string", "enum": [str(value) for value in valid]}
    return WithJsonSchema({"type": "array", "items": items, "minItems": 1})


Texts = Annotated[Values, Field(default_factory=tuple, json_schema_extra={"minItems": 1})]


class JobsQuery(CreatedQuery):
    """Which jobs to list. Lists of values are separated by commas; several filters must all fit."""

    guids: Texts = Field(description="Only these jobs.")
    states: Annotated[
        tuple[PublicState, ...],
        _check_among("States", PublicState),
        _list_of(PublicState),
        Field(default_factory=tuple),
    ] = Field(description="Only jobs in these states.")
    operations: Annotated[
        tuple[Operation, ...], _check_among("Operations", Operation), _list_of(Operation), Field(default_factory=tuple)
    ] = Field(description="Only jobs that do this.")
    service_instance_guids: Texts = Field(description="Only jobs of these service instances.")
    updated_after: OptionalMoment = Field(None, alias="updated_ats[gt]", description="Only jobs changed later.")
    updated_from: OptionalMoment = Field(None, alias="updated_ats[gte]", description="Only jobs changed then or later.")
    updated_before: OptionalMoment = Field(None, alias="updated_ats[lt]", description="Only jobs changed earlier.")
    updated_until: OptionalMoment = Field(
        None, alias="updated_ats[lte]", description="Only jobs changed then or earlier."
    )
    order_by: OrderByTime = "-created_at"

    @model_validator(mode="after")
    def _is_within_reach(self) -> Self:
        if self.offset >= COUNT_MAX:
            raise ValueError(
                f"Page must be within the first {COUNT_MAX} jobs; narrow the list with created_ats[lt] or "
                "created_ats[gt] to reach others"
            )
        return self

    def check_order(self, total: int) -> None:
        """Raise BadQueryParameterError when that many jobs would have to be sorted: no index has this order."""
        if total >= COUNT_MAX and self.order_by in {"updated_at", "-updated_at"}:
            raise BadQueryParameterError(
                f"Order by updated_at is for fewer than {COUNT_MAX} jobs; narrow the list with created_ats[lt] or "
                "created_ats[gt]"
            )

    def to_filter(self, *, reader: str | None) -> JobFilter:
        """What the store looks for. `reader`: only what this user can read."""
        updated = Period.of(
            after=self.updated_after, since=self.updated_from, before=self.updated_before, until=self.updated_until
        )
        return JobFilter(
            guids=tuple(_uuids(self.guids)) if self.guids else None,
            states=tuple(state for state, shown in PUBLIC_STATES.items() if shown in self.states) or None,
            operations=self.operations or None,
            service_instance_guids=self.service_instance_guids or None,
            created_since=self.created.since,
            created_before=self.created.before,
            updated_since=updated.since,
            updated_before=updated.before,
            reader=reader,
            order=self.order_by,
            offset=self.offset,
            limit=min(self.per_page, COUNT_MAX - self.offset),
        )


def _uuids(guids: Iterable[str]) -> Iterable[UUID]:
    """Those that a job can have at all."""
    for guid in guids:
        try:
            yield UUID(guid)
        except ValueError:
            continue
