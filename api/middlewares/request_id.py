"""Gives every request an id, and every answer that id in `X-VCAP-Request-ID`, by Cloud Foundry's rule."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import REQUEST_ID
from shared.observability.logging import logged_request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_-]")
LENGTH_MAX: Final = 255
REQUEST_ID_HEADER: Final = "X-VCAP-Request-ID"


@web.middleware
async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, for whoever handles it and for the log."""
    request[REQUEST_ID] = new_request_id(request.headers)
    before = logged_request_id.set(request[REQUEST_ID])
    try:
        return await handler(request)
    finally:
        logged_request_id.reset(before)


async def put_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Put the id on an answer that is about to begin, so that it is also on one that is sent bit by bit."""
    # What is refused before the middlewares are called has not got one yet.
    response.headers[REQUEST_ID_HEADER] = request.get(REQUEST_ID) or new_request_id(request.headers)


def new_request_id(headers: Mapping[str, str]) -> str:
    """What the caller sent as an id, cleaned and cut, followed by one of ours."""
    sent = headers.get("X-Vcap-Request-Id") or headers.get("X-Request-Id") or ""
    clean = _NOT_ALLOWED.sub("", sent)[:LENGTH_MAX]
    own = str(uuid.uuid4())
    return f"{clean}::{own}" if clean else own
