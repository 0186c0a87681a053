"""Jobs: listing, reading and cancelling them. They are accepted by `accepting.py`, on behalf of the other nouns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.endpoint import FINDING, WRITING, Answer, Header, endpoint
from api.handlers.accepting import ACCEPTED, REPEATABLE, answer_accepted, find_answer
from api.handlers.service_instances import find_instance
from api.held_answers import GivenResponse, HeldAnswer
from api.job_reads import JSON, headers_of
from api.payloads.idempotency_key import read_key
from api.payloads.jobs import COUNT_MAX, JobsQuery
from api.payloads.operations import check_may_write
from api.payloads.path import read_guid
from api.payloads.prefer import preferred_wait_s
from api.presenters.jobs import JobJson, JobListJson, job_etag, present_job
from api.presenters.pages import present_pagination
from shared.cf_errors import CfError
from shared.errors import ResourceNotFoundError, UnprocessableEntityError
from shared.lists import JobVersion
from shared.records import Actor, JobError, Step
from shared.states import TERMINAL_STATES, Event

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from api.context import Context
    from api.job_reads import JobReads
    from shared.records import Job
    from shared.security.callers import Caller
    from shared.store.jobs import Seizure


PATH: Final = "/v3/jobs"
NO_JOB: Final = "Job not found"


@endpoint("GET", PATH, "List Jobs", query=JobsQuery, answers={200: Answer(text="A page of jobs.", body=JobListJson)})
async def list_jobs(request: web.Request, query: JobsQuery) -> web.Response:
    """Lists jobs, newest first: those of service instances that the caller can read, and with a global scope all.

    `total_results` is counted up to 10000, and only the first 10000 jobs of a list can be paged through: where there
    may be more, narrow it with `created_ats[lt]` and `created_ats[gt]`. Ordering by `updated_at` is for shorter lists.
    """
    context = request.app[CONTEXT]
    caller = request[CALLER]
    wanted = query.to_filter(reader=None if caller.sees_everything else caller.user_guid)
    total = await context.job_lists.count(wanted, count_max=COUNT_MAX)
    query.check_order(total)
    jobs = await context.job_lists.list_page(wanted) if total > wanted.offset else []
    external_url = context.settings.external_url
    page: JobListJson = {
        "pagination": present_pagination(total, query, url=f"{external_url}{PATH}", query=request.query),
        "resources": [present_job(job, external_url) for job in jobs],
    }
    return web.json_response(page)


@endpoint(
    "GET",
    f"{PATH}/{{guid}}",
    "Get Job",
    headers=(
        Header("If-None-Match", "An `ETag` from earlier: 304 while the job is as it was."),
        Header("Prefer", "`wait=N`: hold the answer back until the job changes, for N seconds at most."),
    ),
    answers={
        200: Answer(
            text="The job, also when it has failed.",
            body=JobJson,
            headers={
                "ETag": "Changes exactly when the job does.",
                "Retry-After": "Seconds after which looking again may be worth it; absent once the job has ended.",
                "Preference-Applied": "The `wait` that was heeded, which may be less than was asked for.",
                "Vary": "`Prefer`.",
            },
        ),
        304: Answer(text="The job is as it was."),
    },
    errors=FINDING,
)
async def read_job(request: web.Request) -> web.StreamResponse:
    """Reads a job. Anybody who may read at all may read it: its guid is the capability.

    With `Prefer: wait=N` the answer comes when there is news: at once when the job has ended or is not as
    `If-None-Match` says, else as soon as it changes, and after N seconds in any case. 55 seconds are the most, unless
    configured otherwise. When too many wait already, the answer comes at once, without `Preference-Applied`.
    """
    context = request.app[CONTEXT]
    guid = read_guid(request, "guid", NO_JOB)
    known = frozenset(tag.value for tag in request.if_none_match or ())
    wait_s = preferred_wait_s(request.headers.getall("Prefer", ()), longest_s=context.settings.job_wait_max_s)
    job = await _look(context, guid, known)
    has_news = job.due_in_s is None or (bool(known) and not _is_among(known, job))
    if wait_s is not None and not has_news:
        with context.watch.seat() as has_seat:
            if has_seat:
                answer = await HeldAnswer.hold(request, _applied(wait_s))
                hear = None if answer is None else partial(_tell, context.job_reads, answer)
                news = await context.watch.wait(request, job, timeout_s=wait_s, hear=hear)
                if answer is not None and answer.is_given:
                    return GivenResponse()
                job = news or await _look(context, guid, known)
            else:
                wait_s = None
    body = None
    if not _is_among(known, job):
        body = context.job_reads.body_of(guid, job_etag(job))
        if body is None:
            job = await _read(context, guid) if isinstance(job, JobVersion) else job
            body = context.job_reads.render(job)
    headers = headers_of(job) | _applied(wait_s)
    if body is None:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers | JSON)


@endpoint("POST", f"{PATH}/{{guid}}/actions/cancel", "Cancel Job", headers=REPEATABLE, answers=ACCEPTED, errors=WRITING)
async def cancel_job(request: web.Request) -> web.Response:
    """Ends a job now, whatever its worker is doing, and has removed what it may have left at the service broker.

    The job is `FAILED` from then on. One that has ended, or whose operation can no longer be undone, is refused.
    """
    context = request.app[CONTEXT]
    job = await find_job(request)
    instance = await find_instance(request, job.service_instance_guid)
    check_may_write(instance)
    key = await read_key(request)
    if again := await find_answer(request, key):
        return again
    if job.operation.is_clean_up:
        raise UnprocessableEntityError("A clean-up cannot be cancelled.")
    seizure = await context.jobs.seize(job.guid, owner=f"api, for {request[CALLER].user_guid}")
    if seizure is None:
        job = await find_job(request)
        if job.state in TERMINAL_STATES:
            raise UnprocessableEntityError("The job has ended already.")
        raise UnprocessableEntityError("The service broker may have begun, and it cannot stop or undo this operation.")
    if not (await context.jobs.record([_cancellation(seizure, request[CALLER])]))[0]:
        raise UnprocessableEntityError("The job has ended already.")
    if key:
        await context.keys.keep(request[CALLER].user_guid, key, job.guid)
    return answer_accepted(request, job.guid)


def _applied(wait_s: int | None) -> dict[str, str]:
    """Says of a wait that it was heeded."""
    return {} if wait_s is None else {"Preference-Applied": f"wait={wait_s}"}


def _tell(reads: JobReads, answer: HeldAnswer, job: Job) -> None:
    answer.give(reads.news_of(job))


def _is_among(known: Collection[str], job: Job | JobVersion) -> bool:
    """Whether a client that knows these ETags has the job as it is."""
    return bool(known) and (job_etag(job) in known or "*" in known)


async def find_job(request: web.Request) -> Job:
    """The job that the path names. Raises ResourceNotFoundError."""
    return await _read(request.app[CONTEXT], read_guid(request, "guid", NO_JOB))


async def _look(context: Context, guid: UUID, known: Collection[str]) -> Job | JobVersion:
    """The job, or no more than its version where that may be all that the answer takes."""
    if not known and not context.job_reads.has_body(guid):
        return await _read(context, guid)
    version = await context.job_reads.find_version(guid)
    if version is None:
        raise ResourceNotFoundError(NO_JOB)
    return version


async def _read(context: Context, guid: UUID) -> Job:
    job = await context.job_reads.find(guid)
    if job is None:
        raise ResourceNotFoundError(NO_JOB)
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
