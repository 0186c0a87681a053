"""Gives every request an id, and every answer that id in `X-VCAP-Request-ID`, by Cloud Foundry's rule."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from api.context import REQUEST_ID

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_-]")
LENGTH_MAX: Final = 255


@web.middleware
async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep what a caller sent, cleaned and cut, followed by an id of ours."""
    sent = request.headers.get("X-Vcap-Request-Id") or request.headers.get("X-Request-Id") or ""
    clean = _NOT_ALLOWED.sub("", sent)[:LENGTH_MAX]
    own = str(uuid.uuid4())
    request[REQUEST_ID] = f"{clean}::{own}" if clean else own
    with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
        return await handler(request)


async def name_request(request: web.Request, response: web.StreamResponse) -> None:
    """Say in an answer, before it begins, which request it is of."""
    if (own := request.get(REQUEST_ID)) is not None:
        response.headers["X-VCAP-Request-ID"] = own
