"""`POST /v3/service_instances/{guid}/actions/restore`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

from api.context import CONTEXT
from api.endpoint import WRITING, endpoint
from api.handlers.accepting import ACCEPTED, REPEATABLE, accept, find_answer
from api.handlers.service_instances import find_instance
from api.payloads.idempotency_key import read_key
from api.payloads.operations import check_instance
from api.payloads.restores import RestorePayload
from shared.cf_errors import CfError
from shared.errors import NotAuthorizedError, ResourceNotFoundError, UnprocessableEntityError
from shared.states import Operation

if TYPE_CHECKING:
    from aiohttp import web

    from shared.records import Instance

_GUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@endpoint(
    "POST",
    "/v3/service_instances/{service_instance_guid}/actions/restore",
    "Restore Service Instance From Backup",
    body=RestorePayload,
    headers=REPEATABLE,
    answers=ACCEPTED,
    errors=(*WRITING, CfError.ASYNC_SERVICE_INSTANCE_OPERATION_IN_PROGRESS),
)
async def create_restore(request: web.Request, payload: RestorePayload) -> web.Response:
    """Restores a service instance from a backup of its own, or of another instance of the same offering.

    What is in the instance is overwritten. The answer says where the job is that restores.
    """
    instance = await find_instance(request, request.match_info["service_instance_guid"])
    key = await read_key(request)
    if again := await find_answer(request, key):
        return again
    check_instance(instance, *payload.features())
    restore = payload.to_restore_point()
    source = instance
    if payload.source_service_instance_guid not in {None, instance.guid}:
        source = await _find_source(request, payload.source_service_instance_guid or "", instance)
    backup_guid = None
    if payload.backup_id is not None:
        backup_guid = await _find_backup(request, payload.backup_id, source)
    return await accept(
        request,
        Operation.RESTORE,
        instance,
        key=key,
        extra=payload.to_broker_fields(),
        restore=restore,
        backup_guid=backup_guid,
    )


async def _find_source(request: web.Request, guid: str, target: Instance) -> Instance:
    """The instance to restore from. Its data goes to another one, so the caller needs the same right there."""
    try:
        source = await find_instance(request, guid)
    except ResourceNotFoundError:
        raise UnprocessableEntityError(f"Source service instance {guid} not found.") from None
    if not source.may_write:
        raise NotAuthorizedError
    if source.offering_guid != target.offering_guid:
        raise UnprocessableEntityError(
            f"Source service instance {source.name} is not of the same service offering as {target.name}."
        )
    return source


async def _find_backup(request: web.Request, backup_id: str, source: Instance) -> UUID:
    """The backup's guid. Only the form in which it was listed counts: the broker is sent just that."""
    guid = UUID(backup_id) if _GUID.fullmatch(backup_id) else None
    if guid is None or await request.app[CONTEXT].backups.find_succeeded(guid, source.guid) is None:
        raise UnprocessableEntityError(f"Service instance {source.name} has no backup {backup_id} that succeeded.")
    return guid
