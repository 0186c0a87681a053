"""What every operation on an instance starts from: the checks that need no store, and the request that is stored."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Final

from shared.directory.roles import Closure
from shared.errors import (
    NotAuthorizedError,
    OrgSuspendedError,
    ResourceBeingDeletedError,
    SpaceSuspendedError,
    UnprocessableEntityError,
)
from shared.records import JobRequest
from shared.states import Operation

if TYPE_CHECKING:
    from uuid import UUID

    from multidict import MultiMapping

    from shared.records import IdempotencyKey, Instance, Json, RestorePoint
    from shared.security.callers import Caller
    from shared.settings import Settings


_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def check_instance(instance: Instance, *features: str) -> None:
    """Raise unless the caller may start an operation on `instance` that needs all of `features` of its plan.

    Raises what `check_may_write` raises, or UnprocessableEntityError with the cause in words.
    """
    check_may_write(instance)
    check_managed(instance)
    if instance.last_operation_state != "succeeded" and instance.last_operation_type == "create":
        raise UnprocessableEntityError(
            f"Service instance {instance.name} is not ready: its creation is {_words(instance.last_operation_state)}."
        )
    for feature in features:
        if feature not in instance.backup_features:
            raise UnprocessableEntityError(
                f"The service offering {instance.offering_name} does not support {_NAMES[feature]} "
                f"with the plan {instance.plan_name}."
            )


def check_may_write(instance: Instance) -> None:
    """Raise unless the caller may start or end operations on `instance`: the role first, then the place.

    Raises NotAuthorizedError, or an error that says what is suspended or being deleted.
    """
    if not instance.may_write:
        raise NotAuthorizedError
    match instance.closed_by:
        case Closure.ORGANIZATION_DELETING:
            raise ResourceBeingDeletedError("organization")
        case Closure.SPACE_DELETING:
            raise ResourceBeingDeletedError("space")
        case Closure.ORGANIZATION_SUSPENDED:
            raise OrgSuspendedError
        case Closure.SPACE_SUSPENDED:
            raise SpaceSuspendedError


def check_may_read_backups(instance: Instance) -> None:
    """Raise NotAuthorizedError for a caller who sees `instance` only because it is shared."""
    if not instance.may_read_backups:
        raise NotAuthorizedError


def check_managed(instance: Instance) -> None:
    """Raise UnprocessableEntityError when no broker manages `instance`, so that it cannot have backups."""
    if instance.type == "user-provided":
        raise UnprocessableEntityError(
            f"Service instance {instance.name} is user-provided: no service broker manages it, so it has no backups."
        )


def read_traceparent(headers: MultiMapping[str]) -> str | None:
    """The trace that the request belongs to, which its job carries on; None unless there is exactly one valid header.

    Whatever else is sent is ignored, as W3C Trace Context has it: a trace is no reason to refuse a request.
    """
    match headers.getall("traceparent", ()):
        case [given] if _TRACEPARENT.fullmatch(given):
            return str(given)
        case _:
            return None


def to_job_request(
    operation: Operation,
    instance: Instance,
    *,
    caller: Caller,
    settings: Settings,
    request_id: str,
    traceparent: str | None,
    extra: Json | None = None,
    restore: RestorePoint | None = None,
    backup_guid: UUID | None = None,
    resource_guid: UUID | None = None,
    key: IdempotencyKey | None = None,
) -> JobRequest:
    """The job of `operation` on a checked instance. Its guids and the broker's request are fixed here, for ever.

    `extra` is added to the body of the start call; `resource_guid` is what is operated on, or a new one.
    """
    if instance.broker_guid is None:
        raise RuntimeError("an instance without broker passed the checks")
    body = {
        "service_id": instance.offering_catalog_id,
        "plan_id": instance.plan_catalog_id,
        "context": {
            "platform": "cloudfoundry",
            "organization_guid": instance.organization_guid,
            "organization_name": instance.organization_name,
            "space_guid": instance.space_guid,
            "space_name": instance.space_name,
            "instance_name": instance.name,
        },
    } | (extra or {})
    return JobRequest(
        guid=uuid.uuid4(),
        resource_guid=resource_guid or uuid.uuid4(),
        operation=operation,
        service_instance_guid=instance.guid,
        broker_guid=instance.broker_guid,
        user_guid=caller.user_guid,
        request_id=request_id,
        traceparent=traceparent,
        request_body=json.dumps(body),
        can_undo=_UNDOING.get(operation) in instance.backup_features,
        deadline_s=min(settings.operation_deadline_s, instance.maximum_polling_duration_s or float("inf")),
        user_name=caller.user_name,
        service_instance_name=instance.name,
        space_guid=instance.space_guid,
        organization_guid=instance.organization_guid,
        restore=restore,
        backup_guid=backup_guid,
        key=key,
    )


#: The feature of a plan with which its broker can remove, or stop, what an operation makes.
_UNDOING = {Operation.CREATE_BACKUP: "backup.delete", Operation.RESTORE: "restore.cancel"}
_NAMES = {
    "backup": "backups",
    "backup.delete": "deleting backups",
    "restore": "restoring backups",
    "restore.pitr": "restoring to a point in time",
    "restore.cross_instance": "restoring from another service instance",
}


def _words(state: str) -> str:
    return {"failed": "failed", "initial": "in progress"}.get(state, state)
