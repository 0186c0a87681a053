"""`/v3/service_brokers`: for those who see everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.endpoint import FINDING, Answer, endpoint
from api.handlers.directory import answer_one, answer_page
from api.payloads.service_brokers import ServiceBrokersQuery
from api.presenters.service_brokers import ServiceBrokerJson, ServiceBrokerListJson, present_service_broker
from shared.directory.resources import ServiceBroker

if TYPE_CHECKING:
    from aiohttp import web


@endpoint(
    "GET",
    "/v3/service_brokers",
    "List Service Brokers",
    query=ServiceBrokersQuery,
    answers={200: Answer(text="The service brokers.", body=ServiceBrokerListJson)},
)
async def list_service_brokers(request: web.Request, query: ServiceBrokersQuery) -> web.Response:
    """Lists the service brokers. Only those see any who see everything, such as admins."""
    return await answer_page(request, query, ServiceBroker, present_service_broker)


@endpoint(
    "GET",
    "/v3/service_brokers/{guid}",
    "Get Service Broker",
    answers={200: Answer(text="The service broker.", body=ServiceBrokerJson)},
    errors=FINDING,
)
async def read_service_broker(request: web.Request) -> web.Response:
    """Reads a service broker."""
    return await answer_one(request, "Service broker", ServiceBroker, present_service_broker)
