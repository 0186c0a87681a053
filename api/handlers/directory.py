"""What the handlers of the directory's nouns share: answering with a page, or with one resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from api.context import CALLER, CONTEXT
from api.presenters.pages import present_pagination
from shared.errors import ResourceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from api.payloads.directory import ResourcesQuery
    from shared.directory.resources import AnyResource

    # The TypedDict of a noun, which is a mapping of texts to whatever JSON has.
    Present = Callable[[AnyResource, str], Mapping[str, Any]]

GUID_LENGTH_MAX: Final = 255


async def answer_page(
    request: web.Request, query: ResourcesQuery, kind: type[AnyResource], present: Present[AnyResource]
) -> web.Response:
    """The page of resources that was asked for, of those that the caller may see."""
    context = request.app[CONTEXT]
    page = await context.reading.list_page(
        kind,
        request[CALLER],
        filters=query.filters(),
        order_by=query.order_by,
        offset=query.offset,
        limit=query.per_page,
    )
    external_url = context.settings.external_url
    return web.json_response(
        {
            "pagination": present_pagination(
                page.total, query, url=f"{external_url}{request.path}", query=request.query
            ),
            "resources": [present(resource, external_url) for resource in page.resources],
        }
    )


async def answer_one(
    request: web.Request, noun: str, kind: type[AnyResource], present: Present[AnyResource]
) -> web.Response:
    """The resource that the path names. Raises ResourceNotFoundError, whose text begins with `noun`."""
    context = request.app[CONTEXT]
    guid = request.match_info["guid"]
    resource = await context.reading.find(kind, guid, request[CALLER]) if is_fit(guid) else None
    if resource is None:
        raise ResourceNotFoundError(f"{noun} not found")
    return web.json_response(present(resource, context.settings.external_url))


def is_fit(guid: str) -> bool:
    """Whether there could be something of that guid: the database takes no NUL in a text, and none is as long."""
    return len(guid) <= GUID_LENGTH_MAX and "\0" not in guid and guid.isprintable()
