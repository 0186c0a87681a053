"""Finding the service instance that a request is about, for the handlers of the nouns below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from api.context import CALLER, CONTEXT
from shared.errors import ResourceNotFoundError

if TYPE_CHECKING:
    from aiohttp import web

    from shared.records import Instance

GUID_LENGTH_MAX: Final = 255


async def find_instance(request: web.Request, guid: str) -> Instance:
    """The instance, if the caller may know of it. Raises ResourceNotFoundError for any other guid, of whatever form."""
    # The database takes no NUL in a text, and no guid is as long as that.
    if len(guid) <= GUID_LENGTH_MAX and "\0" not in guid and guid.isprintable():
        instance = await request.app[CONTEXT].directory.find_instance(guid, request[CALLER])
        if instance is not None:
            return instance
    raise ResourceNotFoundError("Service instance not found")
