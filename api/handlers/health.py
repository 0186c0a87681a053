"""`/healthz`: the process lives. `/readyz`: it can do its work, which needs PostgreSQL and not the queue."""

from __future__ import annotations

from aiohttp import web

from api.context import CONTEXT
from shared.errors import SchemaError, StoreError
from shared.store.migrate import check_schema


async def healthz(_request: web.Request) -> web.Response:
    """Answer as long as the event loop runs; depends on nothing."""
    return web.Response(text="OK", content_type="application/json")


async def readyz(request: web.Request) -> web.Response:
    """200 when requests can be accepted. Without the queue they still can: that is `degraded`, not unready."""
    context = request.app[CONTEXT]
    try:
        await check_schema(context.database)
    except (StoreError, SchemaError) as error:
        return web.json_response({"status": "unavailable", "database": str(error)}, status=503)
    is_reachable = await context.hints.is_queue_reachable()
    queue = "ok" if is_reachable else "unreachable; jobs are accepted and wait in the database"
    return web.json_response({"status": "ok" if is_reachable else "degraded", "database": "ok", "queue": queue})
