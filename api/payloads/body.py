"""JSON bodies, read by Cloud Foundry's rules: no JSON content type means no body, an unknown field is refused.

JSON is taken strictly (RFC 8259, RFC 7493): UTF-8 without a byte order mark, no name twice in one object, no NaN. What
two readers could understand differently is better refused.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from api.payloads.query import quoted
from shared.errors import BadRequestError, MessageParseError, UnprocessableEntityError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from shared.records import Json

Payload = TypeVar("Payload", bound=BaseModel)

BODY_BYTES_MAX: Final = 64 * 1024


def check_size(request: web.Request) -> None:
    """Raise BadRequestError when the request says that its body is over the limit, whether or not it will be read."""
    if (request.content_length or 0) > BODY_BYTES_MAX:
        raise _too_large()


async def receive(request: web.Request, *, timeout_s: float) -> None:
    """Take in the body, which the request keeps. It must have arrived within `timeout_s` seconds.

    Raises BadRequestError when it is too large, late, cut off, or not framed as its headers say.
    """
    try:
        if request.body_exists:
            async with asyncio.timeout(timeout_s):
                await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        raise BadRequestError("the body did not arrive in time", status=408) from None
    except (web.RequestPayloadError, ConnectionError):
        raise BadRequestError("the body is cut off, or not framed as its headers say") from None


async def read_body(request: web.Request, payload: type[Payload]) -> Payload:
    """The body of a request that was received, as `payload`.

    Raises MessageParseError when it is no JSON object, UnprocessableEntityError for unknown fields and wrong values.
    """
    body = _json_object(request.content_type, await request.read())
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


def _too_large() -> BadRequestError:
    return BadRequestError(f"the body is too large: it may have {BODY_BYTES_MAX} bytes", status=413)


def _json_object(content_type: str, raw: bytes) -> Json:
    if not raw or not content_type.endswith("json"):
        return {}
    try:
        body = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise MessageParseError from None
    if not isinstance(body, dict):
        raise MessageParseError
    return body


def _object(pairs: list[tuple[str, Any]]) -> Json:  # Any: whatever JSON holds
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name stands twice")
    return names


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
