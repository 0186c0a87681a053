"""`/v3/audit_events`: who backed up, restored, deleted and cancelled what."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.endpoint import FINDING, Answer, endpoint
from api.payloads.audit_events import AuditEventsQuery
from api.payloads.path import read_guid
from api.presenters.audit_events import AuditEventJson, AuditEventListJson, present_audit_event
from api.presenters.pages import present_pagination
from shared.errors import ResourceNotFoundError

PATH: Final = "/v3/audit_events"
NO_EVENT: Final = "Event not found"


@endpoint(
    "GET",
    PATH,
    "List Audit Events",
    query=AuditEventsQuery,
    answers={200: Answer(text="A page of events.", body=AuditEventListJson)},
)
async def list_audit_events(request: web.Request, query: AuditEventsQuery) -> web.Response:
    """Lists audit events that the caller may see.

    These are those of spaces in which the caller is a developer or auditor, and of organizations that the caller
    audits; administrators, and those who read everything, see all. `total_results` is counted up to 10000 events beyond
    the page, so that `next` leads through all of them, however many there are.

    `start_backup`, `start_restore` and `start_delete_backup` say that the service broker has taken the operation on,
    `backup`, `restore` and `delete_backup` that it is done, `cancel_backup` and the like that somebody ended it. An
    operation that fails has no event of its own.
    """
    context = request.app[CONTEXT]
    page = await context.audit_events.list_page(query.to_filter(), request[CALLER])
    external_url = context.settings.external_url
    listed: AuditEventListJson = {
        "pagination": present_pagination(page.total, query, url=external_url + PATH, query=request.query),
        "resources": [present_audit_event(event, external_url) for event in page.resources],
    }
    return web.json_response(listed)


@endpoint(
    "GET",
    f"{PATH}/{{guid}}",
    "Get Audit Event",
    answers={200: Answer(text="The event.", body=AuditEventJson)},
    errors=FINDING,
)
async def read_audit_event(request: web.Request) -> web.Response:
    """Reads one audit event, for those who see it in the list."""
    context = request.app[CONTEXT]
    event = await context.audit_events.find(read_guid(request, "guid", NO_EVENT), request[CALLER])
    if event is None:
        raise ResourceNotFoundError(NO_EVENT)
    return web.json_response(present_audit_event(event, context.settings.external_url))
