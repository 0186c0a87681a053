"""Jobs: accepting one on behalf of the other nouns, and reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import ETag, web

from api.context import CALLER, CONTEXT, REQUEST_ID
from api.payloads.operations import to_job_request
from api.payloads.query import read_query
from api.presenters.jobs import job_etag, job_url, present_job, retry_after_s
from shared.errors import OperationInProgressError, ResourceNotFoundError

if TYPE_CHECKING:
    from shared.records import Instance, Json, RestorePoint
    from shared.states import Operation


async def accept(
    request: web.Request,
    operation: Operation,
    instance: Instance,
    *,
    extra: Json | None = None,
    restore: RestorePoint | None = None,
) -> web.Response:
    """Store the job of a checked request: 202, no body, `Location`.

    Raises OperationInProgressError when another operation is open on the instance, which the database decides.
    """
    context = request.app[CONTEXT]
    job = to_job_request(
        operation,
        instance,
        caller=request[CALLER],
        settings=context.settings,
        request_id=request[REQUEST_ID],
        traceparent=request.headers.get("traceparent"),
        extra=extra,
        restore=restore,
    )
    if not await context.accepts.submit(job):
        raise OperationInProgressError(instance.name)
    context.hints.offer(job.guid, job.broker_guid)
    return web.Response(status=202, headers={"Location": job_url(context.settings.external_url, job.guid)})


async def read_job(request: web.Request) -> web.Response:
    """The job, to anybody who may read at all: its guid is the capability, as in Cloud Foundry."""
    read_query(request)
    context = request.app[CONTEXT]
    try:
        job = await context.jobs.find(UUID(request.match_info["guid"]))
    except ValueError:
        job = None
    if job is None:
        raise ResourceNotFoundError("Job not found")
    etag = job_etag(job)
    is_known = any(known.value in {etag, "*"} for known in request.if_none_match or ())
    if is_known:
        response = web.Response(status=304)
    else:
        response = web.json_response(present_job(job, context.settings.external_url))
    response.etag = ETag(etag)
    pause_s = retry_after_s(job)
    if pause_s is not None:
        response.headers["Retry-After"] = str(pause_s)
    return response
