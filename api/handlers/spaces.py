"""`/v3/spaces`: those in which the caller has a role, and those of organizations that they manage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.endpoint import FINDING, Answer, endpoint
from api.handlers.directory import answer_one, answer_page
from api.payloads.spaces import SpacesQuery
from api.presenters.spaces import SpaceJson, SpaceListJson, present_space
from shared.directory.resources import Space

if TYPE_CHECKING:
    from aiohttp import web


@endpoint(
    "GET",
    "/v3/spaces",
    "List Spaces",
    query=SpacesQuery,
    answers={200: Answer(text="The spaces.", body=SpaceListJson)},
)
async def list_spaces(request: web.Request, query: SpacesQuery) -> web.Response:
    """Lists the spaces in which the caller has a role, and those of organizations that they manage."""
    return await answer_page(request, query, Space, present_space)


@endpoint(
    "GET",
    "/v3/spaces/{guid}",
    "Get Space",
    answers={200: Answer(text="The space.", body=SpaceJson)},
    errors=FINDING,
)
async def read_space(request: web.Request) -> web.Response:
    """Reads a space."""
    return await answer_one(request, "Space", Space, present_space)
