"""Guids in paths. Of what form they are is not checked apart: what cannot be one is as unknown as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import ResourceNotFoundError

if TYPE_CHECKING:
    from aiohttp import web


def read_guid(request: web.Request, name: str, missing: str) -> UUID:
    """The guid that stands at `name` of the path. Raises ResourceNotFoundError, with `missing`, for what is none."""
    try:
        return UUID(request.match_info[name])
    except ValueError:
        raise ResourceNotFoundError(missing) from None
