"""Jobs: reading and cancelling one. They are accepted by `accepting.py`, on behalf of the other nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from aiohttp import ETag, web

from api.context import CALLER, CONTEXT
from api.endpoint import FINDING, WRITING, Answer, Header, endpoint
from api.handlers.accepting import ACCEPTED, REPEATABLE, answer_accepted, find_answer
from api.handlers.service_instances import find_instance
from api.payloads.idempotency_key import read_key
from api.payloads.operations import check_may_write
from api.presenters.jobs import JobJson, job_etag, present_job, retry_after_s
from shared.cf_errors import CfError
from shared.errors import ResourceNotFoundError, UnprocessableEntityError
from shared.records import Actor, JobError, Step
from shared.states import TERMINAL_STATES, Event

if TYPE_CHECKING:
    from shared.records import Job
    from shared.security.tokens import Caller
    from shared.store.jobs import Seizure


@endpoint(
    "GET",
    "/v3/jobs/{guid}",
    "Get Job",
    headers=(Header("If-None-Match", "An `ETag` from earlier: 304 while the job is as it was."),),
    answers={
        200: Answer(
            text="The job, also when it has failed.",
            body=JobJson,
            headers={
                "ETag": "Changes exactly when the job does.",
                "Retry-After": "Seconds after which looking again may be worth it; absent once the job has ended.",
            },
        ),
        304: Answer(text="The job is as it was."),
    },
    errors=FINDING,
)
async def read_job(request: web.Request) -> web.Response:
    """Reads a job. Anybody who may read at all may read it: its guid is the capability."""
    context = request.app[CONTEXT]
    job = await _find_job(request)
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


@endpoint("POST", "/v3/jobs/{guid}/actions/cancel", "Cancel Job", headers=REPEATABLE, answers=ACCEPTED, errors=WRITING)
async def cancel_job(request: web.Request) -> web.Response:
    """Ends a job now, whatever its worker is doing, and has removed what it may have left at the service broker.

    The job is `FAILED` from then on. One that has ended, or whose operation can no longer be undone, is refused.
    """
    context = request.app[CONTEXT]
    job = await _find_job(request)
    instance = await find_instance(request, job.service_instance_guid)
    check_may_write(instance)
    key = await read_key(request)
    if again := await find_answer(request, key):
        return again
    if job.operation.is_clean_up:
        raise UnprocessableEntityError("A clean-up cannot be cancelled.")
    seizure = await context.jobs.seize(job.guid, owner=f"api, for {request[CALLER].user_guid}")
    if seizure is None:
        job = await _find_job(request)
        if job.state in TERMINAL_STATES:
            raise UnprocessableEntityError("The job has ended already.")
        raise UnprocessableEntityError("The service broker may have begun, and it cannot stop or undo this operation.")
    if not (await context.jobs.record([_cancellation(seizure, request[CALLER])]))[0]:
        raise UnprocessableEntityError("The job has ended already.")
    if key:
        await context.keys.keep(request[CALLER].user_guid, key, job.guid)
    return answer_accepted(request, job.guid)


async def _find_job(request: web.Request) -> Job:
    """The job that the path names. Raises ResourceNotFoundError."""
    try:
        job = await request.app[CONTEXT].jobs.find(UUID(request.match_info["guid"]))
    except ValueError:
        job = None
    if job is None:
        raise ResourceNotFoundError("Job not found")
    return job


def _cancellation(seizure: Seizure, caller: Caller) -> Step:
    """The end of a seized job. What removes its remains waits for a start call that may still be under way."""
    claim = seizure.claim
    reason = f"{claim.operation.noun} could not be completed: cancelled by {caller.user_name}"
    return Step(
        claim=claim,
        worker="api",
        call="none",
        event=Event.CANCELLED,
        outcome="cancelled",
        errors=(JobError.of(CfError.UNABLE_TO_PERFORM, reason),),
        actor=Actor(caller.user_guid, caller.user_name),
        clean_up_in_s=seizure.busy_s if claim.may_exist() else None,
    )
