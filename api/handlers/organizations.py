"""`/v3/organizations`: those in which the caller has a role, or in a space of which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.endpoint import FINDING, Answer, endpoint
from api.handlers.directory import answer_one, answer_page
from api.payloads.organizations import OrganizationsQuery
from api.presenters.organizations import OrganizationJson, OrganizationListJson, present_organization
from shared.directory.resources import Organization

if TYPE_CHECKING:
    from aiohttp import web


@endpoint(
    "GET",
    "/v3/organizations",
    "List Organizations",
    query=OrganizationsQuery,
    answers={200: Answer(text="The organizations.", body=OrganizationListJson)},
)
async def list_organizations(request: web.Request, query: OrganizationsQuery) -> web.Response:
    """Lists the organizations in which the caller has a role, there or in one of their spaces."""
    return await answer_page(request, query, Organization, present_organization)


@endpoint(
    "GET",
    "/v3/organizations/{guid}",
    "Get Organization",
    answers={200: Answer(text="The organization.", body=OrganizationJson)},
    errors=FINDING,
)
async def read_organization(request: web.Request) -> web.Response:
    """Reads an organization."""
    return await answer_one(request, "Organization", Organization, present_organization)
