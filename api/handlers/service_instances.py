"""`/v3/service_instances`: those that the caller may read; and finding one for the handlers of the nouns below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.endpoint import FINDING, Answer, endpoint
from api.handlers.directory import answer_one, answer_page, is_fit
from api.payloads.service_instances import ServiceInstancesQuery
from api.presenters.service_instances import (
    PermissionsJson,
    ServiceInstanceJson,
    ServiceInstanceListJson,
    present_permissions,
    present_service_instance,
)
from shared.directory.resources import ServiceInstance
from shared.errors import ResourceNotFoundError

if TYPE_CHECKING:
    from shared.records import Instance

#: With this scope alone, a dashboard asks what its user may do, and nothing else.
PERMISSIONS_SCOPE: Final = "cloud_controller_service_permissions.read"


@endpoint(
    "GET",
    "/v3/service_instances",
    "List Service Instances",
    query=ServiceInstancesQuery,
    answers={200: Answer(text="The service instances.", body=ServiceInstanceListJson)},
)
async def list_service_instances(request: web.Request, query: ServiceInstancesQuery) -> web.Response:
    """Lists the service instances in the spaces that the caller may read, and those that are shared to such a space."""
    return await answer_page(request, query, ServiceInstance, present_service_instance)


@endpoint(
    "GET",
    "/v3/service_instances/{guid}",
    "Get Service Instance",
    answers={200: Answer(text="The service instance.", body=ServiceInstanceJson)},
    errors=FINDING,
)
async def read_service_instance(request: web.Request) -> web.Response:
    """Reads a service instance."""
    return await answer_one(request, "Service instance", ServiceInstance, present_service_instance)


@endpoint(
    "GET",
    "/v3/service_instances/{guid}/permissions",
    "Get Service Instance Permissions",
    answers={200: Answer(text="What the caller may do.", body=PermissionsJson)},
    errors=FINDING,
    scopes=frozenset({PERMISSIONS_SCOPE}),
)
async def read_permissions(request: web.Request) -> web.Response:
    """Tells what the caller may do to a service instance.

    The scope `cloud_controller_service_permissions.read` alone is enough, and opens nothing else.
    """
    return web.json_response(present_permissions(await find_instance(request, request.match_info["guid"])))


async def find_instance(request: web.Request, guid: str) -> Instance:
    """The instance, if the caller may know of it. Raises ResourceNotFoundError for any other guid, of whatever form."""
    if is_fit(guid):
        instance = await request.app[CONTEXT].directory.find_instance(guid, request[CALLER])
        if instance is not None:
            return instance
    raise ResourceNotFoundError("Service instance not found")
