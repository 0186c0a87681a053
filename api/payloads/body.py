"""JSON bodies, read by Cloud Foundry's rules: no JSON content type means no body, an unknown field is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from api.payloads.query import quoted
from shared.errors import MessageParseError, UnprocessableEntityError

if TYPE_CHECKING:
    from aiohttp import web
    from pydantic_core import ErrorDetails

    from shared.records import Json

Payload = TypeVar("Payload", bound=BaseModel)


async def read_body(request: web.Request, payload: type[Payload]) -> Payload:
    """The request's body as `payload`.

    Raises MessageParseError when it is no JSON object, UnprocessableEntityError for unknown fields and wrong values.
    """
    body = await _json_object(request)
    unknown = sorted(set(body) - set(payload.model_fields))
    if unknown:
        raise UnprocessableEntityError(f"Unknown field(s): {quoted(unknown)}")
    try:
        return payload.model_validate(body, strict=True)
    except ValidationError as error:
        raise UnprocessableEntityError("; ".join(map(_words, error.errors(include_url=False)))) from None


def _words(problem: ErrorDetails) -> str:
    """One problem as a sentence that begins with the field's name."""
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{problem['loc'][0]}: {reason}" if problem["loc"] else reason


async def _json_object(request: web.Request) -> Json:
    raw = await request.read()
    if not raw or not request.content_type.endswith("json"):
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise MessageParseError from None
    if not isinstance(body, dict):
        raise MessageParseError
    return body
