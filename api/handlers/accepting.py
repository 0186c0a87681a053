"""Accepting what takes time, on behalf of the nouns: the job is stored, and the answer says where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER, CONTEXT, REQUEST_ID
from api.endpoint import Answer, Header
from api.payloads.idempotency_key import NAME, PATTERN
from api.payloads.operations import read_traceparent, to_job_request
from api.presenters.jobs import job_url
from shared.errors import OperationInProgressError, UnprocessableEntityError

if TYPE_CHECKING:
    from uuid import UUID

    from shared.records import IdempotencyKey, Instance, JobRequest, Json, KnownRequest, RestorePoint
    from shared.states import Operation

#: What a request that begins a job is answered with.
ACCEPTED: Final = {202: Answer(text="Accepted.", headers={"Location": "The URL of the job."})}
REPEATABLE: Final = (
    Header(
        NAME,
        "Makes the request repeatable: for a day, the same key of the same user with the same request gets the same "
        "answer, and with another one 422.",
        PATTERN,
    ),
)


async def accept(
    request: web.Request,
    operation: Operation,
    instance: Instance,
    *,
    key: IdempotencyKey | None,
    extra: Json | None = None,
    restore: RestorePoint | None = None,
    backup_guid: UUID | None = None,
) -> web.Response:
    """Store the job of a checked request: 202, no body, `Location`. What is refused here is decided by the database.

    Raises OperationInProgressError when another operation is open on the instance, and UnprocessableEntityError when
    the backup `backup_guid` is gone or the key was used for another request.
    """
    context = request.app[CONTEXT]
    job = make_job(request, operation, instance, extra=extra, restore=restore, backup_guid=backup_guid, key=key)
    accepted = await context.accepts.submit(job)
    if accepted.known and key:
        return answer_again(request, key, accepted.known)
    if accepted.is_backup_gone:
        raise UnprocessableEntityError(f"The backup {backup_guid} is deleted.")
    if not accepted.is_stored:
        raise OperationInProgressError(instance.name)
    context.hints.offer(job.guid, job.broker_guid)
    return answer_accepted(request, job.guid)


def make_job(
    request: web.Request,
    operation: Operation,
    instance: Instance,
    *,
    extra: Json | None = None,
    restore: RestorePoint | None = None,
    backup_guid: UUID | None = None,
    resource_guid: UUID | None = None,
    key: IdempotencyKey | None = None,
) -> JobRequest:
    """The job of a checked request, with all that it takes from the request's surroundings."""
    return to_job_request(
        operation,
        instance,
        caller=request[CALLER],
        settings=request.app[CONTEXT].settings,
        request_id=request[REQUEST_ID],
        traceparent=read_traceparent(request.headers),
        extra=extra,
        restore=restore,
        backup_guid=backup_guid,
        resource_guid=resource_guid,
        key=key,
    )


async def find_answer(request: web.Request, key: IdempotencyKey | None) -> web.Response | None:
    """The answer that a request with this key got before; None for a new one. Ask before checks that may change."""
    if key is None:
        return None
    known = await request.app[CONTEXT].keys.find(request[CALLER].user_guid, key.key)
    return answer_again(request, key, known) if known else None


def answer_again(request: web.Request, key: IdempotencyKey, known: KnownRequest) -> web.Response:
    """The same answer as before. Raises UnprocessableEntityError when the request was another one."""
    if known.fingerprint != key.fingerprint:
        raise UnprocessableEntityError(f"The {NAME} was used with another request.")
    return answer_accepted(request, known.job_guid)


def answer_accepted(request: web.Request, job_guid: UUID) -> web.Response:
    """202, no body, and where the job is."""
    return web.Response(status=202, headers={"Location": job_url(request.app[CONTEXT].settings.external_url, job_guid)})
