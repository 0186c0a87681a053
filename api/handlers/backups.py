"""`/v3/service_instances/{guid}/backups`: make one, list them, read one, delete one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CONTEXT
from api.endpoint import FINDING, WRITING, Answer, endpoint
from api.handlers.accepting import ACCEPTED, REPEATABLE, accept, answer_accepted, find_answer, make_job
from api.handlers.service_instances import find_instance
from api.payloads.backups import BackupsQuery
from api.payloads.idempotency_key import read_key
from api.payloads.operations import check_instance, check_managed, check_may_read_backups
from api.payloads.path import read_guid
from api.presenters.backups import BackupJson, ServiceInstanceBackupListJson, present_backup, present_backups
from shared.cf_errors import CfError
from shared.errors import OperationInProgressError, ResourceNotFoundError, UnprocessableEntityError
from shared.states import Operation

if TYPE_CHECKING:
    from shared.errors import ApiError
    from shared.records import Deletion, Instance

PATH: Final = "/v3/service_instances/{service_instance_guid}/backups"
NO_BACKUP: Final = "Backup not found"


@endpoint(
    "POST",
    PATH,
    "Create Service Instance Backup",
    headers=REPEATABLE,
    answers=ACCEPTED,
    errors=(*WRITING, CfError.ASYNC_SERVICE_INSTANCE_OPERATION_IN_PROGRESS),
)
async def create_backup(request: web.Request) -> web.Response:
    """Creates a backup of a service instance. The plan of the instance must support backups.

    The answer says where the job is that makes the backup. A body, of which none is documented, is ignored.
    """
    instance = await _find_instance(request)
    key = await read_key(request)
    if again := await find_answer(request, key):
        return again
    check_instance(instance, "backup")
    return await accept(request, Operation.CREATE_BACKUP, instance, key=key)


@endpoint(
    "GET",
    PATH,
    "List Service Instance Backups",
    query=BackupsQuery,
    answers={200: Answer(text="The backups.", body=ServiceInstanceBackupListJson)},
    errors=(*FINDING, CfError.UNPROCESSABLE_ENTITY),
)
async def list_backups(request: web.Request, query: BackupsQuery) -> web.Response:
    """Lists the backups of a service instance that can be restored, newest first."""
    instance = await _find_instance(request)
    check_may_read_backups(instance)
    check_managed(instance)
    backups = await request.app[CONTEXT].backups.list_newest(instance.guid, query.limit)
    return web.json_response(present_backups(backups))


@endpoint(
    "GET",
    f"{PATH}/{{backup_id}}",
    "Get Service Instance Backup",
    answers={200: Answer(text="The backup.", body=BackupJson)},
    errors=(*FINDING, CfError.UNPROCESSABLE_ENTITY),
)
async def read_backup(request: web.Request) -> web.Response:
    """Reads one backup of a service instance, whatever its state; one that was deleted is not found any more."""
    context = request.app[CONTEXT]
    instance = await _find_instance(request)
    check_may_read_backups(instance)
    check_managed(instance)
    backup = await context.backups.find(read_guid(request, "backup_id", NO_BACKUP), instance.guid)
    if backup is None:
        raise ResourceNotFoundError(NO_BACKUP)
    return web.json_response(present_backup(backup, context.settings.external_url))


@endpoint(
    "DELETE",
    f"{PATH}/{{backup_id}}",
    "Delete Service Instance Backup",
    answers=ACCEPTED,
    errors=(*WRITING, CfError.ASYNC_SERVICE_INSTANCE_OPERATION_IN_PROGRESS),
)
async def delete_backup(request: web.Request) -> web.Response:
    """Deletes a backup, which from now on is neither listed nor restored.

    Should its service broker fail to delete it, it is there again. One that is being made or restored is refused with
    409. Deleting one that is being deleted answers with the job that does it. The plan of the instance must support
    deleting backups.
    """
    context = request.app[CONTEXT]
    instance = await _find_instance(request)
    guid = read_guid(request, "backup_id", NO_BACKUP)
    check_instance(instance, "backup.delete")
    job = make_job(request, Operation.DELETE_BACKUP, instance, resource_guid=guid)
    deletion = await context.jobs.accept_deletion(job)
    if deletion.job_guid is None:
        raise _refusal(deletion, instance)
    if deletion.is_stored:
        context.hints.offer(job.guid, job.broker_guid)
    return answer_accepted(request, deletion.job_guid)


def _refusal(deletion: Deletion, instance: Instance) -> ApiError:
    if deletion.is_being_restored or deletion.state == "in progress":
        return OperationInProgressError(instance.name)
    if deletion.state == "failed":
        return UnprocessableEntityError("The backup has failed; what it may have left is removed by a job of its own.")
    return ResourceNotFoundError(NO_BACKUP)


async def _find_instance(request: web.Request) -> Instance:
    return await find_instance(request, request.match_info["service_instance_guid"])
