"""`/v3/service_offerings`: those of the instances that the caller may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.endpoint import FINDING, Answer, endpoint
from api.handlers.directory import answer_one, answer_page
from api.payloads.service_offerings import ServiceOfferingsQuery
from api.presenters.service_offerings import ServiceOfferingJson, ServiceOfferingListJson, present_service_offering
from shared.directory.resources import ServiceOffering

if TYPE_CHECKING:
    from aiohttp import web


@endpoint(
    "GET",
    "/v3/service_offerings",
    "List Service Offerings",
    query=ServiceOfferingsQuery,
    answers={200: Answer(text="The service offerings.", body=ServiceOfferingListJson)},
)
async def list_service_offerings(request: web.Request, query: ServiceOfferingsQuery) -> web.Response:
    """Lists the service offerings of the instances that the caller may read."""
    return await answer_page(request, query, ServiceOffering, present_service_offering)


@endpoint(
    "GET",
    "/v3/service_offerings/{guid}",
    "Get Service Offering",
    answers={200: Answer(text="The service offering.", body=ServiceOfferingJson)},
    errors=FINDING,
)
async def read_service_offering(request: web.Request) -> web.Response:
    """Reads a service offering. `broker_catalog.backup` says whether it has backups, and why not."""
    return await answer_one(request, "Service offering", ServiceOffering, present_service_offering)
