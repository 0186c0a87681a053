"""`/`, `/v3`, `/v3/info`: what this is and where its parts are, for anybody."""

from __future__ import annotations

from aiohttp import web

from api.context import CONTEXT
from api.presenters.discovery import present_info, present_root, present_v3


async def root(request: web.Request) -> web.Response:
    """Where Cloud Foundry's clients start."""
    settings = request.app[CONTEXT].settings
    return web.json_response(
        present_root(settings.external_url, login_url=settings.login_url or settings.uaa_url, uaa_url=settings.uaa_url)
    )


async def v3(request: web.Request) -> web.Response:
    """The collections."""
    return web.json_response(present_v3(request.app[CONTEXT].settings.external_url))


async def info(request: web.Request) -> web.Response:
    """Name and version."""
    settings = request.app[CONTEXT].settings
    return web.json_response(present_info(settings.external_url, is_chaos_allowed=settings.allow_chaos))
