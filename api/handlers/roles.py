"""`/v3/roles`: who is what, in the organizations and spaces that the caller may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.endpoint import FINDING, Answer, endpoint
from api.handlers.directory import answer_one, answer_page
from api.payloads.roles import RolesQuery
from api.presenters.roles import RoleJson, RoleListJson, present_role
from shared.directory.resources import Role

if TYPE_CHECKING:
    from aiohttp import web


@endpoint(
    "GET",
    "/v3/roles",
    "List Roles",
    query=RolesQuery,
    answers={200: Answer(text="The roles.", body=RoleListJson)},
)
async def list_roles(request: web.Request, query: RolesQuery) -> web.Response:
    """Lists everybody's roles in the organizations and spaces that the caller may read."""
    return await answer_page(request, query, Role, present_role)


@endpoint(
    "GET",
    "/v3/roles/{guid}",
    "Get Role",
    answers={200: Answer(text="The role.", body=RoleJson)},
    errors=FINDING,
)
async def read_role(request: web.Request) -> web.Response:
    """Reads a role."""
    return await answer_one(request, "Role", Role, present_role)
