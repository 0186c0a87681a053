"""The document and the routes are the same list, and a handler takes what its operation says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from api.app import create_app
from api.openapi import build_document
from api.payloads.query import NoQuery
from api.routes import ENDPOINTS
from shared.security.tokens import DevelopmentTokens
from shared.settings import Settings
from shared.states import Operation

if TYPE_CHECKING:
    from api.endpoint import Endpoint
    from shared.records import Hint

ROOT = Path(__file__).parents[2]
DOCUMENT = build_document(ENDPOINTS, external_url="https://safekeep.example", version="1.2.3")
OPERATIONS = {
    (method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}


class NoHints:
    def send(self, hint: Hint) -> None:
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError


def references(part: Any) -> set[str]:
    if isinstance(part, list):
        return {found for each in part for found in references(each)}
    if isinstance(part, dict):
        return {value for key, value in part.items() if key == "$ref"} | references(list(part.values()))
    return set()


def test_it_documents_every_route_and_no_other() -> None:
    settings = Settings(
        database_url="postgresql://", queue_url="redis://", environment="development", token_key="k" * 32
    )
    app = create_app(settings, DevelopmentTokens(settings), NoHints())
    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and route.method != "HEAD"  # as GET, by HTTP's rules
    }
    assert routes == set(OPERATIONS)


def test_it_refers_to_nothing_that_is_not_there() -> None:
    for reference in references(DOCUMENT):
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
        assert part


@pytest.mark.parametrize("operation", ENDPOINTS, ids=lambda each: each.operation_id)
def test_it_hands_every_handler_what_the_operation_says(operation: Endpoint) -> None:
    request, *taken = inspect.signature(operation.handler).parameters.values()
    models = [*({operation.query} - {None, NoQuery}), *({operation.body} - {None})]
    assert [parameter.annotation for parameter in taken] == [model.__name__ for model in models if model]
    assert request.annotation == "web.Request"


@pytest.mark.parametrize("operation", ENDPOINTS, ids=lambda each: each.operation_id)
def test_it_tells_readers_what_every_operation_does(operation: Endpoint) -> None:
    assert operation.text.endswith(".")
    assert OPERATIONS[operation.method, operation.path]["description"] == operation.text


def test_it_gives_every_operation_an_id_of_its_own() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("method", "path", "published", "statuses"),
    [
        ("POST", "backups", "Create Service Instance Backup", {"202", "401", "403", "404", "409", "422"}),
        ("GET", "backups", "List Service Instance Backups", {"200", "401", "403", "404", "422"}),
        ("POST", "actions/restore", "Restore Service Instance From Backup", {"202", "401", "403", "404", "409", "422"}),
    ],
)
def test_it_keeps_what_broadcom_publishes(method: str, path: str, published: str, statuses: set[str]) -> None:
    operation = OPERATIONS[method, f"/v3/service_instances/{{service_instance_guid}}/{path}"]
    assert operation["summary"] == published
    assert statuses <= set(operation["responses"])
    if method == "POST":
        assert "content" not in operation["responses"]["202"]
        assert "Location" in operation["responses"]["202"]["headers"]


def test_it_says_of_every_list_in_a_query_that_commas_separate_it() -> None:
    parameters = [
        each for operation in OPERATIONS.values() for each in operation["parameters"] if each["in"] == "query"
    ]
    lists = [each for each in parameters if "array" in str(each["schema"])]
    assert lists
    assert all((each["style"], each["explode"]) == ("form", False) for each in lists)
    assert not [each for each in parameters if "null" in str(each["schema"])]


def sections(page: str) -> dict[str, str]:
    """The texts of a page of ours by their headings."""
    _, *parts = re.split(r"^## (.+)$", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_item_39_it_says_what_is_published_what_follows_and_what_is_ours() -> None:
    told = sections("known-differences.md")
    published, ours = told["Published by Broadcom, and kept to the letter"], told["Our own choices"]
    for request in (
        "POST /v3/service_instances/{guid}/backups",
        "GET /v3/service_instances/{guid}/backups?limit=",
        "POST /v3/service_instances/{guid}/actions/restore",
        "GET /v3/jobs/{guid}",
    ):
        assert f"`{request}`" in published
    for operation in Operation:
        assert f"`{operation}`" in ours
    for choice in (
        "broker-api.md",
        "how an offering says that it supports backups",
        "blocks other backups and restores",
    ):
        assert choice in ours
    everything = "".join(told.values())
    nouns = {path.split("/")[2] for _, path in OPERATIONS if path.startswith("/v3/")} - {"info"}
    assert {noun for noun in nouns if noun not in everything} == set()
    assert "docs/known-differences.md" in (ROOT / "README.md").read_text()


def test_it_tests_every_promise_and_promises_what_it_tests() -> None:
    promised = re.findall(r"^\| (\d\d) \|", (ROOT / "docs" / "promises.md").read_text(), re.MULTILINE)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert set(re.findall(r"def test_item_(\d\d)_it_", tests)) == set(promised)
