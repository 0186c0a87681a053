"""`/v3/service_instances/{guid}/backups`: make one, list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from api.context import CONTEXT
from api.endpoint import FINDING, WRITING, Answer, endpoint
from api.handlers.jobs import ACCEPTED, accept
from api.handlers.service_instances import find_instance
from api.payloads.backups import BackupsQuery
from api.payloads.operations import check_instance, check_managed, check_may_read_backups
from api.presenters.backups import ServiceInstanceBackupListJson, present_backups
from shared.cf_errors import CfError
from shared.states import Operation

if TYPE_CHECKING:
    from shared.records import Instance

PATH = "/v3/service_instances/{service_instance_guid}/backups"


@endpoint(
    "POST",
    PATH,
    "Create Service Instance Backup",
    answers=ACCEPTED,
    errors=(*WRITING, CfError.ASYNC_SERVICE_INSTANCE_OPERATION_IN_PROGRESS),
)
async def create_backup(request: web.Request) -> web.Response:
    """Creates a backup of a service instance. The plan of the instance must support backups.

    The answer says where the job is that makes the backup. A body, of which none is documented, is ignored.
    """
    instance = await _instance(request)
    check_instance(instance, "backup")
    return await accept(request, Operation.CREATE_BACKUP, instance)


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
    instance = await _instance(request)
    check_may_read_backups(instance)
    check_managed(instance)
    backups = await request.app[CONTEXT].backups.list_newest(instance.guid, query.limit)
    return web.json_response(present_backups(backups))


async def _instance(request: web.Request) -> Instance:
    return await find_instance(request, request.match_info["service_instance_guid"])
