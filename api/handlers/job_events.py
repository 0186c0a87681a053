"""`GET /v3/jobs/{guid}/events`: a job as Server-Sent Events, for those who would rather be told than ask."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CONTEXT
from api.endpoint import FINDING, Answer, Header, endpoint
from api.handlers.jobs import find_job
from api.presenters.jobs import job_etag
from shared.errors import ServiceUnavailableError
from shared.states import TERMINAL_STATES

if TYPE_CHECKING:
    from api.context import Context
    from shared.records import Job

#: After how long a client connects again when its stream has ended before the job.
RECONNECT_MS: Final = 2000
#: When to try again after there was no seat.
NO_SEAT_RETRY_S: Final = 10
HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back until it has many
}


@endpoint(
    "GET",
    "/v3/jobs/{guid}/events",
    "Watch Job",
    headers=(Header("Last-Event-ID", "The `id` of the last event that the client has seen; it is not sent again."),),
    answers={
        200: Answer(
            text="Events, until the job has ended. A line that begins with a colon only shows that the stream lives.",
            media_type="text/event-stream",
        ),
        204: Answer(text="The job has ended, and the client has seen how: it need not connect again."),
    },
    errors=FINDING,
)
async def watch_job(request: web.Request) -> web.StreamResponse:
    """Streams a job to its end: an event `job` with the job's JSON now, and one whenever a reader would see it change.

    Changes that follow each other at once may come as one event. The `id` of an event is the job's `ETag`. A stream
    ends with the event of a finished job, when the server stops, and after an hour unless configured otherwise; clients
    connect again with `Last-Event-ID`, as browsers do by themselves. 503 when too many watch already: read the job
    from time to time instead.
    """
    context = request.app[CONTEXT]
    job = await find_job(request)
    known = request.headers.get("Last-Event-ID")
    if job.state in TERMINAL_STATES and known == job_etag(job):
        return web.Response(status=204)
    with context.watch.seat() as has_seat:
        if not has_seat:
            raise ServiceUnavailableError("Too many watch jobs already", retry_after_s=NO_SEAT_RETRY_S)
        stream = web.StreamResponse(headers=HEADERS)
        with suppress(ConnectionResetError):  # the client has left
            await stream.prepare(request)
            if request.method != "HEAD":
                await _tell(context, request, stream, job, known)
    return stream


async def _tell(
    context: Context, request: web.Request, stream: web.StreamResponse, job: Job, known: str | None
) -> None:
    """Write events to the stream until there will be no more."""
    settings = context.settings
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + settings.job_stream_s
    await stream.write(f"retry: {RECONNECT_MS}\n\n".encode())
    while True:
        etag = job_etag(job)
        if etag != known:
            body = context.job_reads.render(job)
            await stream.write(b"id: %b\nevent: job\ndata: %b\n\n" % (etag.encode(), body))
            known = etag
        left_s = ends_at - loop.time()
        if job.state in TERMINAL_STATES or context.watch.is_stopping or left_s <= 0:
            return
        changed = await context.watch.wait(request, job, timeout_s=min(settings.job_ping_s, left_s))
        if changed is None:
            await stream.write(b": still there\n\n")
        job = changed or job
