"""`/openapi.json`: the description of this API, and `/docs`: the same for people.

The page is Swagger UI, whose files come from a Python package, and a few of ours; nothing comes from another host.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from aiohttp import ETag, web

from api.context import DOCUMENT
from api.endpoint import Answer, endpoint
from shared.cf_errors import CfError
from shared.errors import NotFoundError
from shared.records import Json

#: Everything that the page refers to, and nothing else that the package has: the name, and its media type.
FILES: Final = {
    "docs.css": "text/css",
    "docs.js": "text/javascript",
    "favicon-32x32.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}
PAGE: Final = "docs.html"
#: Nothing of another host, and no script or style that does not come as a file. Swagger UI's icons are data URLs.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFETY: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_TAG: Final = {"ETag": "Changes when the file does."}


@endpoint(
    "GET", "/openapi.json", "Get OpenAPI", query=None, answers={200: Answer(text="It.", body=Json)}, is_public=True
)
async def document(request: web.Request) -> web.Response:
    """This document."""
    return web.Response(body=request.app[DOCUMENT](), content_type="application/json")


@endpoint(
    "GET",
    "/docs",
    "Get Docs",
    query=None,
    answers={
        200: Answer(text="The page.", media_type="text/html", headers=_TAG),
        304: Answer(text="It is as it was."),
    },
    is_public=True,
)
async def page(request: web.Request) -> web.Response:
    """This document as a page for people."""
    return _answer(request, PAGE, "text/html")


@endpoint(
    "GET",
    "/docs/{file}",
    "Get Docs File",
    query=None,
    answers={
        200: Answer(text="The file.", media_type="*/*", headers=_TAG),
        304: Answer(text="It is as it was."),
    },
    errors=(CfError.NOT_FOUND,),
    is_public=True,
)
async def file(request: web.Request) -> web.Response:
    """What the page is made of."""
    name = request.match_info["file"]
    if name not in FILES:
        raise NotFoundError
    return _answer(request, name, FILES[name])


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    etag: str


def _answer(request: web.Request, name: str, media_type: str) -> web.Response:
    found = _read(name)
    if any(known.value in {found.etag, "*"} for known in request.if_none_match or ()):
        response = web.Response(status=304)
    else:
        response = web.Response(body=found.content, content_type=media_type, charset=_charset(media_type))
    response.etag = ETag(found.etag)
    response.headers["Cache-Control"] = "public, max-age=3600"
    response.headers.update(SAFETY)
    return response


def _charset(media_type: str) -> str | None:
    return "utf-8" if media_type.startswith("text/") else None


@cache
def _read(name: str) -> _File:
    """A file of ours, or of the package, which is not imported for it."""
    own = resources.files("api") / "static" / name
    if own.is_file():
        content = own.read_bytes()
    else:
        package = metadata.distribution("swagger-ui-py")
        content = Path(str(package.locate_file(f"swagger_ui/static/{name}"))).read_bytes()
    return _File(content, hashlib.sha256(content).hexdigest()[:32])
