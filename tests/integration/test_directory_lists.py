"""The directory's lists over HTTP: filters, orders, pages that can be walked, and what is answered to nonsense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.directory import (
    BARE,
    BROKER,
    CALLER,
    HERE,
    NOUNS,
    POSTGRES,
    REDIS,
    SMALL,
    TINY,
    admin,
    fill,
    grant,
    listed,
    read,
)
from tests.support import bearer, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings
    from tests.integration.conftest import Client


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(external_url=HERE, directory_staleness_s=0)


@pytest.fixture
def url(settings: Settings) -> str:
    return fill(settings)


# ---------------------------------------------------------------- filters, orders, pages


FILTERS = {
    "organizations": [
        ("names=acme", "acme"),
        ("names=acme,other", "acme other"),
        ("guids=o2,o2,none", "other"),
        ("guids=o1&names=other", ""),
        ("names=ACME", ""),
    ],
    "spaces": [
        ("organization_guids=o1", "back shop"),
        ("names=shop,lab&organization_guids=o2", "lab"),
    ],
    "service_instances": [
        ("type=managed", "cache db reports"),
        ("type=user-provided", "mail"),
        ("names=db", "db"),
        ("guids=i1,i4", "db mail"),
        ("space_guids=s1", "db mail"),
        ("space_guids=s3", "cache db"),
        ("organization_guids=o1", "db mail reports"),
        ("organization_guids=o2", "cache db"),
        (f"service_plan_guids={SMALL},{BARE}", "db reports"),
        ("service_plan_guids=no-uuid", ""),
        ("service_plan_names=tiny", "cache"),
    ],
    "service_offerings": [
        ("names=redis", "redis"),
        (f"guids={REDIS},%27", "redis"),
        ("service_broker_names=pg", "postgres redis"),
        (f"service_broker_guids={BROKER}", "postgres redis"),
        ("service_broker_guids=no-uuid", ""),
        ("space_guids=s2", "postgres"),
        ("organization_guids=o2", "redis"),
    ],
    "service_plans": [
        (f"guids={TINY}", "tiny"),
        ("names=small,bare", "bare small"),
        ("broker_catalog_ids=tiny-id", "tiny"),
        (f"service_offering_guids={POSTGRES}", "bare small"),
        ("service_offering_names=redis", "tiny"),
        (f"service_broker_guids={BROKER}", "bare small tiny"),
        ("service_broker_names=other", ""),
        ("service_instance_guids=i1,i3", "small tiny"),
        ("space_guids=s1", "small"),
        ("organization_guids=o1", "bare small"),
    ],
    "service_brokers": [
        ("names=pg", "pg"),
        ("guids=no-uuid", ""),
    ],
    "roles": [
        ("types=space_developer,space_auditor", "ann:space_auditor@s3 ann:space_developer@s1"),
        ("space_guids=s3", "ann:space_auditor@s3"),
        ("organization_guids=o1", "ann:organization_user@o1"),
        ("user_guids=nobody", ""),
        ("guids=no-uuid", ""),
    ],
}


@pytest.mark.parametrize("noun", NOUNS)
async def test_it_lists_what_the_filters_leave(client: Client, settings: Settings, url: str, noun: str) -> None:
    assert url
    for query, expected in FILTERS[noun]:
        names = await listed(client, f"/v3/{noun}?{query}", admin(settings))
        assert sorted(names) == expected.split(), query


async def test_it_filters_only_what_the_caller_may_see(client: Client, settings: Settings, url: str) -> None:
    grant(url, "space_auditor@s1")
    headers = bearer(settings, CALLER)
    for query in (
        "service_instances?guids=i2",
        "service_instances?space_guids=s2",
        "service_plans?names=bare",
        "service_plans?space_guids=s2",
        "service_plans?service_instance_guids=i2",
        "service_offerings?organization_guids=o2",
        "roles?space_guids=s3",
        f"service_brokers?guids={BROKER}",
    ):
        page = await read(client, f"/v3/{query}", headers)
        assert (page["resources"], page["pagination"]["total_results"]) == ([], 0), query


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("", "beta alpha Gamma beta"),
        ("?order_by=created_at", "beta alpha Gamma beta"),
        ("?order_by=-created_at", "beta Gamma alpha beta"),
        ("?order_by=updated_at", "beta Gamma alpha beta"),
        ("?order_by=-updated_at", "beta alpha Gamma beta"),
        ("?order_by=name&names=alpha,beta", "alpha beta beta"),
        ("?order_by=-name&names=alpha,beta", "beta beta alpha"),
    ],
)
async def test_it_orders_as_asked(
    client: Client, settings: Settings, database_url: str, order: str, expected: str
) -> None:
    for number, name in enumerate(("beta", "alpha", "Gamma", "beta")):
        rows(
            database_url,
            "insert into organizations (guid, name, created_at, updated_at)"
            " values (%s, %s, to_timestamp(%s), to_timestamp(%s))",
            *(f"o{number}", name, number, -number),
        )
    assert await listed(client, f"/v3/organizations{order}", admin(settings)) == expected.split()


@pytest.mark.parametrize("order", ["created_at", "-created_at", "name", "-updated_at"])
async def test_it_can_be_walked_from_the_first_page_to_the_last_and_back(
    client: Client, settings: Settings, database_url: str, order: str
) -> None:
    # All of one name and one moment: only the guid tells them apart.
    rows(
        database_url,
        "insert into organizations (guid, name) select 'o' || n, 'a&b=ü' from generate_series(1, 7) n"
        " union all select 'other', 'other'",
    )
    first = await read(client, f"/v3/organizations?per_page=3&order_by={order}&names=a%26b%3D%C3%BC", admin(settings))
    pages = [first]
    while following := pages[-1]["pagination"]["next"]:
        pages.append(await read(client, following["href"], admin(settings)))
    assert [len(page["resources"]) for page in pages] == [3, 3, 1]
    assert {resource["guid"] for page in pages for resource in page["resources"]} == {f"o{n}" for n in range(1, 8)}
    for page in pages:
        pagination = page["pagination"]
        assert (pagination["total_results"], pagination["total_pages"]) == (7, 3)
        assert await read(client, pagination["first"]["href"], admin(settings)) == first
        assert await read(client, pagination["last"]["href"], admin(settings)) == pages[-1]
    assert first["pagination"]["previous"] is None
    assert await read(client, pages[2]["pagination"]["previous"]["href"], admin(settings)) == pages[1]


@pytest.mark.parametrize("noun", NOUNS)
async def test_it_has_one_page_even_of_nothing_and_none_after_the_last(
    client: Client, settings: Settings, database_url: str, noun: str
) -> None:
    assert database_url
    empty = await read(client, f"/v3/{noun}", admin(settings))
    here = {"href": f"{HERE}/v3/{noun}?page=1&per_page=50"}
    assert empty == {
        "pagination": {
            "total_results": 0,
            "total_pages": 1,
            "first": here,
            "last": here,
            "next": None,
            "previous": None,
        },
        "resources": [],
    }
    far = await read(client, f"/v3/{noun}?page=1000000000&per_page=5000", admin(settings))
    assert (far["resources"], far["pagination"]["next"]) == ([], None)


# ---------------------------------------------------------------- hostile requests

REFUSED = [
    ("page=0", "Page must be between 1 and 1000000000"),
    ("page=-1", "Page must be between 1 and 1000000000"),
    ("page=1e3", "Page must be between 1 and 1000000000"),
    ("page=" + "9" * 300, "Page must be between 1 and 1000000000"),
    ("page=", "Page must be between 1 and 1000000000"),
    ("page=%D9%A1", "Page must be between 1 and 1000000000"),
    ("per_page=0", "Per page must be between 1 and 5000"),
    ("per_page=5001", "Per page must be between 1 and 5000"),
    ("per_page=-5", "Per page must be between 1 and 5000"),
    ("per_page=%2B1", "Per page must be between 1 and 5000"),
    ("per_page=1&per_page=2", "'per_page' is given more than once"),
    ("guids=", "lists must be of printable values of 1 to 255 characters, separated by commas"),
    ("guids=a,,b", "lists must be of printable values of 1 to 255 characters, separated by commas"),
    ("guids=%00", "lists must be of printable values of 1 to 255 characters, separated by commas"),
    ("guids=a%0D%0Ab", "lists must be of printable values of 1 to 255 characters, separated by commas"),
    ("guids=" + "x" * 256, "lists must be of printable values of 1 to 255 characters, separated by commas"),
    ("guids=a&guids=b", "'guids' is given more than once"),
    ("guids%5B%5D=a", "Unknown query parameter(s): 'guids[]'. Valid parameters are: 'page', "),
    ("gu%00ids=a", "Unknown query parameter(s): "),
    (
        "label_selector=a",
        "Unknown query parameter(s): 'label_selector'. Valid parameters are: 'page', 'per_page', 'guids'",
    ),
    ("order_by=", "Order by can only be: 'created_at', '-created_at', 'updated_at', '-updated_at'"),
    ("order_by=guid", "Order by can only be: 'created_at', '-created_at', 'updated_at', '-updated_at'"),
    ("order_by=name;drop", "Order by can only be: 'created_at', '-created_at', 'updated_at', '-updated_at'"),
    ("order_by=%2Bcreated_at", "Order by can only be: 'created_at', '-created_at', 'updated_at', '-updated_at'"),
]


@pytest.mark.parametrize("noun", NOUNS)
async def test_it_refuses_queries_in_words(client: Client, settings: Settings, url: str, noun: str) -> None:
    assert url
    for query, words in REFUSED:
        response = await client.get(f"/v3/{noun}?{query}", headers=admin(settings))
        (error,) = (await response.json())["errors"]
        assert (response.status, error["code"], error["title"]) == (400, 10005, "CF-BadQueryParameter"), query
        assert error["detail"].startswith(f"The query parameter is invalid: {words}"), query


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("roles?order_by=name", "Order by can only be: 'created_at', '-created_at', 'updated_at', '-updated_at'"),
        ("roles?names=x", "Unknown query parameter(s): 'names'. Valid parameters are: "),
        (
            "spaces?order_by=id",
            "Order by can only be: 'created_at', '-created_at', 'updated_at', '-updated_at', 'name', '-name'",
        ),
        ("service_instances?type=other", "Type can only be: 'managed', 'user-provided'"),
        ("service_instances?type=", "Type can only be: 'managed', 'user-provided'"),
        ("service_instances?types=managed", "Unknown query parameter(s): 'types'. Valid parameters are: "),
        ("service_instances/i1?page=1", "Unknown query parameter(s): 'page'."),
        ("service_instances/i1/permissions?x", "Unknown query parameter(s): 'x'."),
    ],
)
async def test_it_refuses_what_one_noun_does_not_know(
    client: Client, settings: Settings, url: str, query: str, words: str
) -> None:
    assert url
    response = await client.get(f"/v3/{query}", headers=admin(settings))
    (error,) = (await response.json())["errors"]
    assert (response.status, error["code"]) == (400, 10005)
    assert error["detail"].startswith(f"The query parameter is invalid: {words}")


ODD_VALUES = (
    "%ff", "%C0%80", "%ed%a0%80", "%u0041", "%", "%zz", "%2525", "';--", "{a}", "%F0%9F%92%BE", "\\", "%5Cu0000", "$1",
)  # fmt: skip


@pytest.mark.parametrize("noun", NOUNS)
async def test_it_answers_odd_values_with_an_empty_list_or_says_that_they_are_wrong(
    client: Client, settings: Settings, url: str, noun: str
) -> None:
    assert url
    for value in ODD_VALUES:
        response = await client.get(f"/v3/{noun}?guids={value}", headers=admin(settings))
        body = await response.json()
        if response.status == 200:
            assert body["resources"] == [], value
            # Links of the page lead back to the same values.
            assert await read(client, body["pagination"]["first"]["href"], admin(settings)) == body, value
        else:
            assert (response.status, body["errors"][0]["code"]) == (400, 10005), value


@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("organizations", "Organization not found"),
        ("spaces", "Space not found"),
        ("service_instances", "Service instance not found"),
        ("service_offerings", "Service offering not found"),
        ("service_plans", "Service plan not found"),
        ("service_brokers", "Service broker not found"),
        ("roles", "Role not found"),
    ],
)
async def test_it_knows_nothing_of_any_other_guid(
    client: Client, settings: Settings, url: str, noun: str, text: str
) -> None:
    assert url
    for guid in ("x", "not a uuid", "%00", "a%00", "%ff", "%F0%9F%92%BE", "..%2F..", "'", "x" * 5_000, BROKER + "%20"):
        response = await client.get(f"/v3/{noun}/{guid}", headers=admin(settings))
        (error,) = (await response.json())["errors"]
        assert (response.status, error["code"], error["detail"]) == (404, 10010, text), guid
