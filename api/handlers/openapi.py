"""`/openapi.json`: the description of this API, and `/docs`: the same for people."""

from __future__ import annotations

from aiohttp import web

from api.context import DOCUMENT
from api.endpoint import Answer, endpoint
from shared.records import Json


@endpoint(
    "GET", "/openapi.json", "Get OpenAPI", query=None, answers={200: Answer(text="It.", body=Json)}, is_public=True
)
async def document(request: web.Request) -> web.Response:
    """This document."""
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")
