"""The OpenAPI 3.1 document, made from the same operations, payloads and presenters that answer requests."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from api.middlewares.request_id import REQUEST_ID_HEADER
from api.presenters.errors import ErrorsJson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from api.endpoint import Answer, Endpoint
    from shared.cf_errors import CfError
    from shared.records import Json

_SCHEMAS: Final = "#/components/schemas/"
_PATH_PARAMETER: Final = re.compile(r"{(\w+)}")
#: On every answer, whatever it says.
_REQUEST_ID: Final = REQUEST_ID_HEADER

#: What can be a guid at all. Those of service instances may be others than UUIDs.
_GUID: Final = {"type": "string", "minLength": 1, "maxLength": 255}

_DESCRIPTION: Final = """\
Backups of service instances, by the conventions of Cloud Foundry's v3 API. Creating and listing backups, restoring and
reading jobs are as Broadcom publishes them; what else follows Cloud Foundry, and what is our own choice, is told in
`docs/known-differences.md`.

An operation that takes time answers 202 with the URL of its job in `Location`. Follow that until `state` is `COMPLETE`
or `FAILED`.
"""


def build_document(endpoints: Iterable[Endpoint], *, external_url: str, version: str) -> Json:
    """The document for `endpoints`, reached at `external_url`."""
    operations = list(endpoints)
    schemas = _Schemas(operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Safekeep",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": external_url}],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "headers": {
                _REQUEST_ID: {
                    "description": "What the caller sent in this header, cleaned, and an id of ours.",
                    "required": True,
                    "schema": {"type": "string", "minLength": 36},
                }
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of UAA. Reading needs the scope `cloud_controller.read`, writing "
                    "`cloud_controller.write`; administrators' scopes do as well.",
                }
            },
        },
    }


class _Schemas:
    """The schemas of all bodies, by the names of their types."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        types: dict[int, tuple[Any, Any]] = {}  # by identity: a type need not be hashable
        for endpoint in endpoints:
            bodies = [answer.body for answer in endpoint.answers.values() if answer.body is not None]
            types |= {id(body): (body, "serialization") for body in (ErrorsJson, *bodies)}
            if endpoint.body is not None:
                types[id(endpoint.body)] = (endpoint.body, "validation")
        found, rest = TypeAdapter.json_schemas(
            [(key, mode, TypeAdapter(kind)) for key, (kind, mode) in types.items()], ref_template=_SCHEMAS + "{model}"
        )
        self._of_type: dict[int, Json] = {key: _renamed(schema) for (key, _), schema in found.items()}
        self.definitions: Json = _renamed(rest.get("$defs", {}))

    def of(self, kind: Any) -> Json:
        """The schema of a type; mostly a reference."""
        return self._of_type[id(kind)]


def _renamed(schema: Any) -> Any:
    """Without the ending of our types' names, and without the titles that pydantic makes of them."""
    if isinstance(schema, list):
        return [_renamed(each) for each in schema]
    if isinstance(schema, dict):
        return {
            key.removesuffix("Json"): value.removesuffix("Json") if key == "$ref" else _renamed(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    return schema


def _operation(endpoint: Endpoint, schemas: _Schemas) -> Json:
    operation: Json = {
        "operationId": endpoint.operation_id,
        "summary": endpoint.name,
        "description": endpoint.text,
        "tags": [endpoint.noun.replace("_", " ")],
        "parameters": list(_parameters(endpoint)),
        "responses": _responses(endpoint, schemas),
        "security": [] if endpoint.is_public else [{"bearer": []}],
    }
    if endpoint.body is not None:
        content = {"application/json": {"schema": schemas.of(endpoint.body)}}
        operation["requestBody"] = {"required": False, "content": content}
    return operation


def _parameters(endpoint: Endpoint) -> Iterator[Json]:
    for name in _PATH_PARAMETER.findall(endpoint.path):
        yield {"name": name, "in": "path", "required": True, "schema": _GUID}
    if endpoint.query is not None:
        for name, schema in endpoint.query.model_json_schema(by_alias=True).get("properties", {}).items():
            fields = _without_null({key: value for key, value in schema.items() if key not in {"title", "description"}})
            yield {
                "name": name,
                "in": "query",
                "required": False,
                "description": schema.get("description", ""),
                "schema": fields,
            } | ({"style": "form", "explode": False} if fields.get("type") == "array" else {})
    for header in endpoint.headers:
        fields = {"type": "string"} | ({"pattern": header.pattern} if header.pattern else {})
        yield {"name": header.name, "in": "header", "required": False, "description": header.text, "schema": fields}


def _without_null(schema: Json) -> Json:
    """The schema of a parameter that may be left out, which is not to say that it may be null."""
    found = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    kinds: list[Json] = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        return found | kinds[0]
    return found | ({"anyOf": kinds} if kinds else {})


def _responses(endpoint: Endpoint, schemas: _Schemas) -> Json:
    responses = {str(status): _answer(answer, schemas) for status, answer in endpoint.answers.items()}
    by_status: dict[int, list[CfError]] = {}
    for error in endpoint.all_errors():
        for status in error.statuses:
            by_status.setdefault(status, []).append(error)
    for status, errors in sorted(by_status.items()):
        if str(status) not in responses:
            responses[str(status)] = _error_answer(status, errors, schemas)
    return responses


def _answer(answer: Answer, schemas: _Schemas) -> Json:
    headers = {
        name: {"description": text, "schema": {"type": "string"}} for name, text in (answer.headers or {}).items()
    }
    response: Json = {"description": answer.text, "headers": _with_request_id(headers)}
    if answer.body is not None:
        response["content"] = {answer.media_type: {"schema": schemas.of(answer.body)}}
    elif answer.media_type != "application/json":
        response["content"] = {answer.media_type: {}}
    return response


def _error_answer(status: int, errors: Iterable[CfError], schemas: _Schemas) -> Json:
    rows = sorted(errors, key=lambda error: error.code)
    lines = "\n".join(f"- {row.code} `{row.title}`: {row.text.format('…')}" for row in rows)
    return {
        "description": f"{HTTPStatus(status).phrase}\n\n{lines}",
        "headers": _with_request_id({}),
        "content": {"application/json": {"schema": schemas.of(ErrorsJson)}},
    }


def _with_request_id(headers: Json) -> Json:
    return headers | {_REQUEST_ID: {"$ref": f"#/components/headers/{_REQUEST_ID}"}}
