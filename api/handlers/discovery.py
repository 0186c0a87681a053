"""`/`, `/v3`, `/v3/info`: what this is and where its parts are, for anybody."""

from __future__ import annotations

from aiohttp import web

from api.context import CONTEXT
from api.endpoint import Answer, endpoint
from api.presenters.discovery import InfoJson, RootJson, V3Json, present_info, present_root, present_v3


@endpoint("GET", "/", "Get Root", query=None, answers={200: Answer(text="Links.", body=RootJson)}, is_public=True)
async def root(request: web.Request) -> web.Response:
    """Where Cloud Foundry's clients start."""
    settings = request.app[CONTEXT].settings
    return web.json_response(
        present_root(settings.external_url, login_url=settings.login_url or settings.uaa_url, uaa_url=settings.uaa_url)
    )


@endpoint("GET", "/v3", "Get V3 Root", query=None, answers={200: Answer(text="Links.", body=V3Json)}, is_public=True)
async def v3(request: web.Request) -> web.Response:
    """The collections."""
    return web.json_response(present_v3(request.app[CONTEXT].settings.external_url))


@endpoint(
    "GET", "/v3/info", "Get Info", query=None, answers={200: Answer(text="Facts.", body=InfoJson)}, is_public=True
)
async def info(request: web.Request) -> web.Response:
    """Name and version."""
    settings = request.app[CONTEXT].settings
    return web.json_response(present_info(settings.external_url, is_chaos_allowed=settings.allow_chaos))
