"""`/docs` over HTTP: a page that needs nothing but what this API serves."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import pytest

from api.handlers.openapi import FILES

if TYPE_CHECKING:
    from tests.integration.conftest import Client


class Page(HTMLParser):
    """What a page refers to, and what its policy would forbid."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        for name, value in attrs:
            if name in {"href", "src"}:
                self.references.append(value or "")
            if name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"} and data.strip():
            self.inline.append(data)


async def test_it_serves_a_page_and_all_that_the_page_refers_to(client: Client) -> None:
    response = await client.get("/docs")
    assert response.status == 200
    assert response.content_type == "text/html"
    page = Page(await response.text())
    assert page.inline == []
    paths = [urljoin("/docs", reference) for reference in page.references]
    assert all(path.startswith("/") and not path.startswith("//") for path in paths)
    assert {path.removeprefix("/docs/") for path in paths if path.startswith("/docs/")} == set(FILES)
    for path in paths:
        found = await client.get(path)
        assert (found.status, len(await found.read()) > 100) == (200, True), path


async def test_it_forbids_scripts_of_others_and_in_the_page(client: Client) -> None:
    for path in ("/docs", *(f"/docs/{name}" for name in FILES)):
        response = await client.get(path)
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
        assert "unsafe" not in str(policy)
        assert not re.search(r"https?:|\*", str(policy))
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_it_asks_no_other_host(client: Client) -> None:
    for name in FILES:
        if not name.endswith(".css"):
            continue
        text = await (await client.get(f"/docs/{name}")).text()
        assert "@import" not in text
        assert all(url.strip("\"'").startswith("data:") for url in re.findall(r"url\(([^)]*)\)", text))
    start = await (await client.get("/docs/docs.js")).text()
    assert 'url: "openapi.json"' in start
    assert "validatorUrl: null" in start  # or each reader's browser would ask swagger.io about us
    assert "://" not in start


async def test_it_shows_a_document_of_the_version_that_the_page_knows(client: Client) -> None:
    """Older ones of the same name show nothing but a refusal."""
    bundle = await (await client.get("/docs/swagger-ui-bundle.js")).text()
    assert re.search(r'PACKAGE_VERSION:"5\.\d+\.\d+"', bundle)
    assert (await (await client.get("/openapi.json")).json())["openapi"].startswith("3.1")


async def test_it_sends_a_file_once(client: Client) -> None:
    for path in ("/docs", "/docs/docs.js", "/docs/swagger-ui-bundle.js"):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "docs.html",
        "swagger-ui-bundle.js.map",
        "LICENSE",
        "../app.py",
        "..%2Fapp.py",
        "%2Fetc%2Fpasswd",
        "a",
    ],
)
async def test_it_serves_nothing_else(client: Client, name: str) -> None:
    response = await client.get(f"/docs/{name}")
    assert (response.status, (await response.json())["errors"][0]["code"]) == (404, 10000)
