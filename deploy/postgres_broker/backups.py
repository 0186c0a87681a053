"""The backup extension over HTTP: backups and restores as sub-resources of an instance, made with PUT.

This file is the part that a broker author will want to read first. The obligations that it keeps are numbered in
`docs/broker-api.md`.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, jsonify, request

from deploy.postgres_broker.catalog import FEATURES, has_backups
from deploy.postgres_broker.errors import Refusal
from deploy.postgres_broker.records import BusyError, Key

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from deploy.postgres_broker.dumps import Dumps
    from deploy.postgres_broker.records import Operation, Records

RETRY_AFTER_S: Final = 1
LIST_DEFAULT: Final = 50
LIST_MAX: Final = 1000
_ID = re.compile(r"[A-Za-z0-9._~-]{1,255}")


def backup_blueprint(records: Records, dumps: Dumps) -> Blueprint:  # noqa: C901 - a table of routes, read one by one
    """The routes; version, identity and authentication are checked by what openbrokerapi already has."""
    routes = Blueprint("backups", __name__, url_prefix="/v2/service_instances/<instance_id>")

    @routes.put("/<any(backups, restores):kind>/<operation_id>")
    def start(instance_id: str, kind: str, operation_id: str) -> ResponseReturnValue:
        key = _key(kind, instance_id, operation_id)
        attributes = _attributes(kind, request.get_json(silent=True))
        _require_async()
        if records.find(key) is None:
            _check_instance(records, key, attributes)
        try:
            operation, is_new = records.begin(key, attributes)
        except LookupError:
            raise Refusal(HTTPStatus.GONE, f"{kind} {operation_id} was deleted") from None
        except BusyError:
            text = "another backup or restore of this service instance is running"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, text, "ConcurrencyError", RETRY_AFTER_S) from None
        if is_new:
            dumps.start(operation)
        elif operation.attributes != attributes:
            raise Refusal(HTTPStatus.CONFLICT, f"{operation_id} is in use with other attributes")
        if operation.state == "succeeded":
            return jsonify(_present(operation))
        # A failed one too: its id is used up, and the poll tells why.
        return jsonify({"operation": _operation_word(key)}), HTTPStatus.ACCEPTED

    @routes.get("/<any(backups, restores):kind>/<operation_id>/last_operation")
    def last_operation(instance_id: str, kind: str, operation_id: str) -> ResponseReturnValue:
        operation = _find(records, _key(kind, instance_id, operation_id))
        if operation.state == "in progress":
            body = {"state": operation.state, "description": dumps.progress(operation.key)}
            return jsonify(body), HTTPStatus.OK, {"Retry-After": str(RETRY_AFTER_S)}
        return jsonify({"state": operation.state, "description": operation.description})

    @routes.get("/<any(backups, restores):kind>/<operation_id>")
    def read(instance_id: str, kind: str, operation_id: str) -> ResponseReturnValue:
        return jsonify(_present(_find(records, _key(kind, instance_id, operation_id))))

    @routes.get("/backups")
    def list_backups(instance_id: str) -> ResponseReturnValue:
        limit = request.args.get("limit", str(LIST_DEFAULT))
        if not limit.isdecimal() or not 1 <= int(limit) <= LIST_MAX:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"limit must be from 1 to {LIST_MAX}")
        return jsonify({"backups": [_present(each) for each in records.list_backups(instance_id, int(limit))]})

    @routes.delete("/<any(backups, restores):kind>/<operation_id>")
    def delete(instance_id: str, kind: str, operation_id: str) -> ResponseReturnValue:
        key = _key(kind, instance_id, operation_id)
        operation = records.find(key)
        if kind == "restores" and operation is not None and operation.state == "in progress":
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "a running restore cannot be stopped")
        # The id is buried whether known or not: a PUT that this request has overtaken must not start anything.
        buried = records.bury(key)
        dumps.forget(key)
        return jsonify({}), HTTPStatus.OK if buried else HTTPStatus.GONE

    @routes.errorhandler(Refusal)
    def refuse(refusal: Refusal) -> ResponseReturnValue:
        body = {"description": refusal.description} | ({"error": refusal.word} if refusal.word else {})
        headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s else {}
        return jsonify(body), refusal.status, headers

    return routes


def _key(kind: str, instance_id: str, operation_id: str) -> Key:
    if not _ID.fullmatch(operation_id):
        raise Refusal(HTTPStatus.BAD_REQUEST, "an id has 1 to 255 letters, digits, or any of . _ ~ -")
    return Key(kind, instance_id, operation_id)


def _attributes(kind: str, body: Any) -> dict[str, Any]:  # Any: JSON from the platform
    """What makes two requests the same: everything but the context, in which names may change."""
    if not isinstance(body, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    for name in ("service_id", "plan_id"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{name} is missing")
    names = ["service_id", "plan_id", "parameters"]
    if kind == "restores":
        names += ["backup_id", "target_timestamp", "restore_point", "source_instance_id"]
    return {name: body[name] for name in names if body.get(name) is not None}


def _require_async() -> None:
    if request.args.get("accepts_incomplete") != "true":
        text = "this service broker works asynchronously: accepts_incomplete=true is needed"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, text, "AsyncRequired")


def _check_instance(records: Records, key: Key, attributes: dict[str, Any]) -> None:
    """Raise Refusal unless a new operation with these attributes could be done."""
    instance = records.find_instance(key.instance_id)
    if instance is None:
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no service instance {key.instance_id}")
    if (instance["service_id"], instance["plan_id"]) != (attributes["service_id"], attributes["plan_id"]):
        raise Refusal(HTTPStatus.BAD_REQUEST, "service_id and plan_id are not those of the service instance")
    if not has_backups(instance["plan_id"]):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "the plan has no backups", "BackupNotSupported")
    if key.kind == "restores":
        _check_source(records, key, attributes)


def _check_source(records: Records, key: Key, attributes: dict[str, Any]) -> None:
    word = "BackupNotRestorable"
    if {"target_timestamp", "restore_point"} & set(attributes) or "backup_id" not in attributes:
        text = f"this service broker restores by backup_id only; its features are {', '.join(FEATURES)}"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, text, word)
    source = Key("backups", attributes.get("source_instance_id", key.instance_id), attributes["backup_id"])
    backup = records.find(source)
    if backup is None or backup.state != "succeeded":
        text = f"there is no backup {source.id} of service instance {source.instance_id} that succeeded"
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, text, word)


def _find(records: Records, key: Key) -> Operation:
    operation = records.find(key)
    if operation is None:
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is no {key.id} among the {key.kind} of {key.instance_id}")
    return operation


def _operation_word(key: Key) -> str:
    """The same for every answer about one id."""
    return f"{key.kind}/{key.id}"


def _present(operation: Operation) -> dict[str, Any]:
    """The JSON of a backup or a restore; times are Unix seconds."""
    return {
        "id": operation.key.id,
        "state": operation.state,
        "created_at": int(operation.created_at),
        "completed_at": None if operation.completed_at is None else int(operation.completed_at),
        "description": operation.description,
    } | ({"size_bytes": operation.size_bytes, "trigger": "on_demand"} if operation.key.kind == "backups" else {})
