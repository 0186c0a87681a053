"""`/v3/service_instances/{guid}/backups`: make one, list them."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from api.context import CONTEXT
from api.handlers.jobs import accept
from api.handlers.service_instances import find_instance
from api.payloads.operations import check_instance, check_managed, check_may_read_backups
from api.payloads.query import read_limit, read_query
from api.presenters.backups import present_backups
from shared.states import Operation

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 1000


async def create_backup(request: web.Request) -> web.Response:
    """Accept a backup of the instance: 202 and where its job is. The body, of which none is documented, is ignored."""
    read_query(request)
    instance = await find_instance(request, request.match_info["guid"])
    check_instance(instance, "backup")
    return await accept(request, Operation.CREATE_BACKUP, instance)


async def list_backups(request: web.Request) -> web.Response:
    """The instance's backups that can be restored, newest first."""
    query = read_query(request, "limit")
    limit = read_limit(query.get("limit"), default=LIMIT_DEFAULT, maximum=LIMIT_MAX)
    instance = await find_instance(request, request.match_info["guid"])
    check_may_read_backups(instance)
    check_managed(instance)
    backups = await request.app[CONTEXT].backups.list_newest(instance.guid, limit)
    return web.json_response(present_backups(backups))
