"""What every answer of the API has to keep: its own document, and the rules for errors. Says what one breaks.

Schemas are taken more strictly than they are published: a key that the document does not name is a fault as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs

from api.openapi import build_document
from api.routes import ENDPOINTS
from shared.cf_errors import CfError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

DOCUMENT: Final = build_document(ENDPOINTS, external_url="https://safekeep.example", version="1.2.3")
REQUEST_ID: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,255}::)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ROWS: Final = {row.code: row for row in CfError}
STREAM: Final = "text/event-stream"

#: What no answer may tell of us: our language, our libraries, our files, our database.
_LEAK: Final = re.compile(
    r"Traceback|File \\?\"|\.py\b|object at 0x|\b(?:psycopg|aiohttp|asyncio|pydantic|yarl|builtins)\b"
    r"|\w(?:Error|Exception)\b(?<!UnknownError)(?<!CF-DatabaseError)(?<!CF-MessageParseError)"
    r"(?<!CF-ServiceBrokerConcurrencyError)|/(?:work|usr|home|tmp|var|opt)/|LINE \d+:|SQLSTATE|violates"
    r"|relation \\?\"|(?i:\bselect\b.+\bfrom\b|\binsert into\b|\bupdate\b.+\bset\b)|\b\d{1,3}(?:\.\d{1,3}){3}:\d+"
)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A request and its answer. `body` is None where it is a stream, or was not read."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None


def faults(answer: Answered) -> list[str]:
    """What the answer breaks, in words; an empty list for a good one."""
    return [f"{answer.method} {answer.path[:100]} -> {answer.status}: {fault}" for fault in _faults(answer)]


async def check_answers(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """For the sessions of aiohttp's client: fails with AssertionError when an answer breaks something."""
    response = await handler(request)
    is_stream = response.content_type == STREAM
    found = faults(
        Answered(
            method=request.method,
            path=request.url.raw_path,
            status=response.status,
            headers=response.headers,
            body=None if is_stream else await response.read(),
        )
    )
    assert not found, "\n".join(found)
    return response


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The operation of the document that a request meets. `path` is as it was sent, without query."""
    for template, item in DOCUMENT["paths"].items():
        if _pattern(template).fullmatch(path):
            found: dict[str, Any] | None = item.get("get" if method == "HEAD" else method.lower())
            if found is not None:
                return found
    return None


def error_faults(body: Any, status: int) -> Iterator[str]:
    """What is wrong with a body as that of an error."""
    if not isinstance(body, dict) or list(body) != ["errors"] or not body["errors"]:
        yield f"not an error's body: {body!r:.200}"
        return
    for error in body["errors"]:
        if set(error) != {"code", "detail", "title"} or not error["detail"]:
            yield f"not the three keys of an error: {error}"
            continue
        row = ROWS.get(error["code"])
        if row is None or error["title"] != row.title or status not in row.statuses:
            yield f"no row of the table: {error}"
        if leak := _LEAK.search(error["detail"]):
            yield f"the detail tells of {leak[0]!r}: {error['detail']}"


def _faults(answer: Answered) -> Iterator[str]:
    if not REQUEST_ID.fullmatch(answer.headers.get("X-VCAP-Request-ID", "")):
        yield "no X-VCAP-Request-ID of ours"
    if answer.headers.get("Server") != "Safekeep":
        yield f"it says what it is made of: {answer.headers.get('Server')}"
    is_error = answer.status >= 400
    content_type = answer.headers.get("Content-Type", "").partition(";")[0]
    operation = operation_of(answer.method, answer.path)
    if operation is None:
        if answer.status not in {400, 404, 408}:
            yield "no documented operation"
    else:
        documented = operation["responses"].get(str(answer.status))
        if documented is None:
            yield f"not among the documented {sorted(operation['responses'])}"
        else:
            yield from _document_faults(answer, documented, content_type)
            is_error = is_error and "Errors" in json.dumps(documented)
    if is_error and answer.method != "HEAD" and answer.body is not None:
        if content_type != "application/json":
            yield f"an error of type {content_type}"
        try:
            yield from error_faults(json.loads(answer.body), answer.status)
        except ValueError:
            yield f"no JSON: {answer.body[:200]!r}"


def _document_faults(answer: Answered, documented: dict[str, Any], content_type: str) -> Iterator[str]:
    for name, header in documented["headers"].items():
        if header.get("required") and name not in answer.headers:
            yield f"the header {name} is missing"
    media = documented.get("content")
    if media is None:
        if answer.body and answer.status in {202, 204, 304}:
            yield f"a body that is not documented: {answer.body[:200]!r}"
        return
    if content_type not in media and "*/*" not in media:
        yield f"{content_type} is not among the documented {sorted(media)}"
        return
    if content_type != "application/json" or answer.method == "HEAD" or answer.body is None:
        return
    try:
        body = json.loads(answer.body)
    except ValueError:
        yield f"no JSON: {answer.body[:200]!r}"
        return
    for error in _validator(json.dumps(media[content_type]["schema"])).iter_errors(body):
        yield f"{'/'.join(map(str, error.instance_path))}: {error.message}"


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"{\w+}", template)))


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    components = _closed(DOCUMENT["components"])
    return jsonschema_rs.Draft202012Validator(
        _closed(json.loads(schema)) | {"components": components}, validate_formats=True
    )


def _closed(schema: Any) -> Any:
    """The schema with every object closed against keys that it does not name."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed
