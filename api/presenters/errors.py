"""Errors as every client of Cloud Foundry knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from shared.errors import ApiError


class ErrorJson(TypedDict):
    """One error. Match on `code` or `title`; `detail` is for people and may change."""

    code: int
    detail: Annotated[str, Field(min_length=1)]
    title: str


class ErrorsJson(TypedDict):
    """What every error answer holds."""

    errors: Annotated[list[ErrorJson], Field(min_length=1)]


def present_error(error: ApiError) -> ErrorsJson:
    """The answer's JSON."""
    return {"errors": [{"code": error.row.code, "detail": error.detail, "title": error.row.title}]}
