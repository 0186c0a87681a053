"""`/v3/service_plans`: those of the instances that the caller may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.endpoint import FINDING, Answer, endpoint
from api.handlers.directory import answer_one, answer_page
from api.payloads.service_plans import ServicePlansQuery
from api.presenters.service_plans import ServicePlanJson, ServicePlanListJson, present_service_plan
from shared.directory.resources import ServicePlan

if TYPE_CHECKING:
    from aiohttp import web


@endpoint(
    "GET",
    "/v3/service_plans",
    "List Service Plans",
    query=ServicePlansQuery,
    answers={200: Answer(text="The service plans.", body=ServicePlanListJson)},
)
async def list_service_plans(request: web.Request, query: ServicePlansQuery) -> web.Response:
    """Lists the service plans of the instances that the caller may read."""
    return await answer_page(request, query, ServicePlan, present_service_plan)


@endpoint(
    "GET",
    "/v3/service_plans/{guid}",
    "Get Service Plan",
    answers={200: Answer(text="The service plan.", body=ServicePlanJson)},
    errors=FINDING,
)
async def read_service_plan(request: web.Request) -> web.Response:
    """Reads a service plan. `broker_catalog.backup` says whether it has backups, and why not."""
    return await answer_one(request, "Service plan", ServicePlan, present_service_plan)
