"""`/healthz`: the process lives. `/readyz`: it can do its work, which needs PostgreSQL and not the queue."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from api.context import CONTEXT
from api.endpoint import Answer, endpoint
from api.presenters.health import ReadinessJson
from shared.errors import SchemaError, StoreError
from shared.store.migrate import check_schema


@endpoint("GET", "/healthz", "Get Health", query=None, answers={200: Answer(text="The process lives.")}, is_public=True)
async def healthz(_request: web.Request) -> web.Response:
    """Answer as long as the event loop runs; depends on nothing."""
    return web.Response(text="OK", content_type="application/json")


@endpoint(
    "GET",
    "/readyz",
    "Get Readiness",
    query=None,
    answers={
        200: Answer(text="Requests can be accepted.", body=ReadinessJson),
        503: Answer(text="The database cannot be reached, or its schema is too old.", body=ReadinessJson),
    },
    is_public=True,
)
async def readyz(request: web.Request) -> web.Response:
    """200 when requests can be accepted. Without the queue they still can: that is `degraded`, not unready."""
    context = request.app[CONTEXT]
    try:
        await check_schema(context.database)
    except (StoreError, SchemaError) as error:
        unready: ReadinessJson = {"status": "unavailable", "database": str(error)}
        return web.json_response(unready, status=503)
    is_reachable = await context.hints.is_queue_reachable()
    queue = "ok" if is_reachable else "unreachable; jobs are accepted and wait in the database"
    status: Literal["ok", "degraded"] = "ok" if is_reachable else "degraded"
    ready: ReadinessJson = {"status": status, "database": "ok", "queue": queue}
    return web.json_response(ready)
