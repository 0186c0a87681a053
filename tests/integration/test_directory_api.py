"""The directory read over HTTP: who sees what, in which shape, and nothing secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.directory.roles import ACCESS_OF_ROLE, Access
from shared.security.tokens import USER_SCOPES
from tests.directory import (
    BARE,
    BROKER,
    CALLER,
    CLIENT_SECRET,
    HERE,
    NOUNS,
    PASSWORD,
    POSTGRES,
    POSTGRES_CATALOG,
    REDIS,
    SMALL,
    TINY,
    USERNAME,
    admin,
    fill,
    grant,
    listed,
    read,
    role_in_words,
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


# ---------------------------------------------------------------- who sees what

ANN = ("ann:space_developer@s1", "ann:organization_user@o1", "ann:space_auditor@s3")
EVERYTHING = {
    "organizations": {"acme", "other"},
    "spaces": {"shop", "back", "lab"},
    "service_instances": {"db", "reports", "cache", "mail"},
    "service_offerings": {"postgres", "redis"},
    "service_plans": {"small", "bare", "tiny"},
    "service_brokers": {"pg"},
    "roles": set(ANN),
}
NOTHING: dict[str, set[str]] = {noun: set() for noun in NOUNS}
IN_SHOP = NOTHING | {
    "organizations": {"acme"},
    "spaces": {"shop"},
    "service_instances": {"db", "mail"},
    "service_offerings": {"postgres"},
    "service_plans": {"small"},
    "roles": {ANN[0], ANN[1]},
}
IN_LAB = NOTHING | {
    "organizations": {"other"},
    "spaces": {"lab"},
    "service_instances": {"db", "cache"},
    "service_offerings": {"postgres", "redis"},
    "service_plans": {"small", "tiny"},
    "roles": {ANN[2]},
}
IN_ACME = NOTHING | {"organizations": {"acme"}, "roles": {ANN[1]}}
VISIBLE: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, set[str]]]] = {
    "admin": ((), ("cloud_controller.admin",), EVERYTHING),
    "admin_read_only": ((), ("cloud_controller.admin_read_only",), EVERYTHING),
    "global_auditor": ((), ("cloud_controller.global_auditor",), EVERYTHING),
    "no role": ((), USER_SCOPES, NOTHING),
    "space_developer": (("space_developer@s1",), USER_SCOPES, IN_SHOP),
    "space_manager": (("space_manager@s1",), USER_SCOPES, IN_SHOP),
    "space_auditor": (("space_auditor@s1",), USER_SCOPES, IN_SHOP),
    "space_supporter": (("space_supporter@s1",), USER_SCOPES, IN_SHOP),
    "where it is shared to": (("space_developer@s3",), USER_SCOPES, IN_LAB),
    "manager where it is shared to": (("organization_manager@o2",), USER_SCOPES, IN_LAB),
    "organization_manager": (
        ("organization_manager@o1",),
        USER_SCOPES,
        IN_SHOP
        | {
            "spaces": {"shop", "back"},
            "service_instances": {"db", "mail", "reports"},
            "service_plans": {"small", "bare"},
        },
    ),
    "organization_auditor": (("organization_auditor@o1",), USER_SCOPES, IN_ACME),
    "organization_billing_manager": (("organization_billing_manager@o1",), USER_SCOPES, IN_ACME),
    "organization_user": (("organization_user@o1",), USER_SCOPES, IN_ACME),
    "several": (
        ("space_auditor@s1", "space_auditor@s3", "organization_user@o1"),
        USER_SCOPES,
        {noun: IN_SHOP[noun] | IN_LAB[noun] for noun in NOUNS},
    ),
}


@pytest.mark.parametrize("who", VISIBLE)
async def test_it_shows_each_caller_what_they_may_see_and_counts_nothing_else(
    client: Client, settings: Settings, url: str, who: str
) -> None:
    roles, scopes, visible = VISIBLE[who]
    grant(url, *roles)
    headers = bearer(settings, CALLER, scopes=scopes)
    for noun in NOUNS:
        page = await read(client, f"/v3/{noun}", headers)
        names = [resource.get("name") or role_in_words(resource) for resource in page["resources"]]
        own = {f"caller:{role}" for role in roles} if noun == "roles" else set()
        assert len(names) == len(set(names))
        assert set(names) == visible[noun] | own, noun
        assert page["pagination"]["total_results"] == len(names)
        # One by one it is the same: what is listed can be read, and what is not looks as if it did not exist.
        everything = (await read(client, f"/v3/{noun}", admin(settings)))["resources"]
        for resource in everything:
            response = await client.get(f"/v3/{noun}/{resource['guid']}", headers=headers)
            if resource in page["resources"]:
                assert (response.status, await response.json()) == (200, resource)
            else:
                missing = await client.get(f"/v3/{noun}/no-such-guid", headers=headers)
                assert (response.status, await response.read()) == (404, await missing.read())


@pytest.mark.parametrize("place", ["own", "shared"])
@pytest.mark.parametrize("role", ACCESS_OF_ROLE)
async def test_it_lists_exactly_what_the_table_of_roles_lets_a_caller_see(
    client: Client, settings: Settings, url: str, role: str, place: str
) -> None:
    at = {"own": ("s1", "o1"), "shared": ("s3", "o2")}[place]
    grant(url, f"{role}@{at[0] if role.startswith('space') else at[1]}")
    headers = bearer(settings, CALLER)
    access = getattr(ACCESS_OF_ROLE[role], place)
    assert ("db" in await listed(client, "/v3/service_instances", headers)) == (access >= Access.SEE)
    statuses = {
        path: (await client.get(f"/v3/service_instances/i1{path}", headers=headers)).status
        for path in ("", "/permissions", "/backups")
    }
    is_seen = 200 if access >= Access.SEE else 404
    is_read = {Access.NONE: 404, Access.SEE: 403}.get(access, 200)
    assert statuses == {"": is_seen, "/permissions": is_seen, "/backups": is_read}


@pytest.mark.parametrize("noun", NOUNS)
async def test_it_wants_a_token_that_may_read(client: Client, settings: Settings, url: str, noun: str) -> None:
    assert url
    for path in (f"/v3/{noun}", f"/v3/{noun}/x"):
        assert (await client.get(path)).status == 401
        writer = bearer(settings, CALLER, scopes=["cloud_controller.write"])
        assert (await client.get(path, headers=writer)).status == 403


# ---------------------------------------------------------------- permissions


@pytest.mark.parametrize(
    ("role", "scopes", "change", "expected"),
    [
        ("space_developer@s1", USER_SCOPES, None, {"manage": True, "read": True}),
        ("space_auditor@s1", USER_SCOPES, None, {"manage": False, "read": True}),
        ("organization_manager@o1", USER_SCOPES, None, {"manage": False, "read": True}),
        ("space_developer@s3", USER_SCOPES, None, {"manage": False, "read": True}),
        ("organization_user@o2", ["cloud_controller.admin"], None, {"manage": True, "read": True}),
        ("organization_user@o2", ["cloud_controller.global_auditor"], None, {"manage": False, "read": True}),
        ("organization_user@o1", USER_SCOPES, None, None),
        ("space_developer@s1", USER_SCOPES, "organizations", {"manage": False, "read": True}),
        ("space_developer@s1", USER_SCOPES, "spaces", {"manage": False, "read": True}),
        ("space_developer@s1", ["cloud_controller.admin"], "spaces", {"manage": True, "read": True}),
        ("space_developer@s1", ["cloud_controller_service_permissions.read"], None, {"manage": True, "read": True}),
        ("organization_user@o1", ["cloud_controller_service_permissions.read"], None, None),
    ],
)
async def test_it_tells_what_a_caller_may_do_to_an_instance(
    client: Client, settings: Settings, url: str, role: str, scopes: list[str], change: str | None, expected: object
) -> None:
    grant(url, role)
    if change:
        rows(url, f"update {change} set status = 'suspended'")
    response = await client.get("/v3/service_instances/i1/permissions", headers=bearer(settings, CALLER, scopes=scopes))
    if expected is None:
        assert response.status == 404
    else:
        assert (response.status, await response.json()) == (200, expected)


async def test_it_opens_nothing_else_to_the_scope_of_permissions(client: Client, settings: Settings, url: str) -> None:
    grant(url, "space_developer@s1")
    headers = bearer(settings, CALLER, scopes=["cloud_controller_service_permissions.read"])
    permissions = "/v3/service_instances/i1/permissions"
    assert (await client.head(permissions, headers=headers)).status == 200
    for method, path in (
        ("GET", "/v3/service_instances"),
        ("GET", "/v3/service_instances/i1"),
        ("GET", "/v3/service_instances/i1/backups"),
        ("POST", "/v3/service_instances/i1/backups"),
        ("GET", "/v3/jobs/x"),
        ("GET", "/v3/spaces/permissions"),
        *(("GET", f"/v3/{noun}") for noun in NOUNS),
    ):
        assert (await client.request(method, path, headers=headers)).status == 403, path


# ---------------------------------------------------------------- shapes


async def test_it_shows_instances_as_cloud_foundry_does(client: Client, settings: Settings, url: str) -> None:
    rows(
        url,
        "update service_instances set created_at = '2026-01-02T03:04:05.9Z', updated_at = '2026-02-03T04:05:06Z',"
        " last_operation_type = case guid when 'i1' then 'update' else 'create' end",
    )
    links = {"self": f"{HERE}/v3/service_instances/i1", "space": f"{HERE}/v3/spaces/s1"}
    times = {"created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-02-03T04:05:06Z"}
    common = {"tags": [], "metadata": {"labels": {}, "annotations": {}}} | times
    assert await read(client, "/v3/service_instances/i1", admin(settings)) == common | {
        "guid": "i1",
        "name": "db",
        "type": "managed",
        "last_operation": {
            "type": "update",
            "state": "succeeded",
            "description": "",
            "created_at": times["updated_at"],
            "updated_at": times["updated_at"],
        },
        "maintenance_info": {},
        "upgrade_available": False,
        "dashboard_url": None,
        "broker_provided_metadata": {"labels": {}, "attributes": {}},
        "relationships": {"space": {"data": {"guid": "s1"}}, "service_plan": {"data": {"guid": SMALL}}},
        "links": {
            **{name: {"href": href} for name, href in links.items()},
            "service_plan": {"href": f"{HERE}/v3/service_plans/{SMALL}"},
            "backups": {"href": f"{HERE}/v3/service_instances/i1/backups"},
        },
    }
    assert await read(client, "/v3/service_instances/i4", admin(settings)) == common | {
        "guid": "i4",
        "name": "mail",
        "type": "user-provided",
        "last_operation": {"type": "create", "state": "succeeded", "description": ""} | times,
        "syslog_drain_url": None,
        "route_service_url": None,
        "relationships": {"space": {"data": {"guid": "s1"}}},
        "links": {
            "self": {"href": f"{HERE}/v3/service_instances/i4"},
            "space": {"href": f"{HERE}/v3/spaces/s1"},
        },
    }


async def test_it_shows_offerings_and_plans_with_what_their_brokers_published(
    client: Client, settings: Settings, url: str
) -> None:
    rows(url, "update service_offerings set created_at = '2026-01-01Z', updated_at = '2026-01-01Z'")
    rows(url, "update service_plans set created_at = '2026-01-01Z', updated_at = '2026-01-01Z'")
    common = {
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "available": True,
        "metadata": {"labels": {}, "annotations": {}},
    }
    assert await read(client, f"/v3/service_offerings/{POSTGRES}", admin(settings)) == common | {
        "guid": POSTGRES,
        "name": "postgres",
        "description": "Databases",
        "tags": ["sql"],
        "requires": [],
        "shareable": True,
        "documentation_url": "https://docs.example",
        "broker_catalog": {
            "id": "postgres-id",
            "metadata": POSTGRES_CATALOG["metadata"],
            "features": {
                "plan_updateable": True,
                "bindable": True,
                "instances_retrievable": False,
                "bindings_retrievable": False,
                "allow_context_updates": False,
            },
            "backup": {"supported": True, "features": ["backup", "restore"], "reason": None},
        },
        "relationships": {"service_broker": {"data": {"guid": BROKER}}},
        "links": {
            "self": {"href": f"{HERE}/v3/service_offerings/{POSTGRES}"},
            "service_plans": {"href": f"{HERE}/v3/service_plans?service_offering_guids={POSTGRES}"},
            "service_broker": {"href": f"{HERE}/v3/service_brokers/{BROKER}"},
        },
    }
    assert await read(client, f"/v3/service_plans/{BARE}", admin(settings)) == common | {
        "guid": BARE,
        "name": "bare",
        "description": "",
        "visibility_type": "admin",
        "free": False,
        "costs": [],
        "maintenance_info": {"version": "2.1.1"},
        "broker_catalog": {
            "id": "bare-id",
            "metadata": {"osmapi": None},
            "maximum_polling_duration": None,
            "features": {"plan_updateable": True, "bindable": False},
            "backup": {
                "supported": False,
                "features": [],
                "reason": "The metadata.osmapi of the plan is malformed: must be an object, and is empty.",
            },
        },
        "schemas": {
            "service_instance": {"create": {"parameters": {"type": "object"}}, "update": {"parameters": {}}},
            "service_binding": {"create": {"parameters": {}}},
        },
        "relationships": {"service_offering": {"data": {"guid": POSTGRES}}},
        "links": {
            "self": {"href": f"{HERE}/v3/service_plans/{BARE}"},
            "service_offering": {"href": f"{HERE}/v3/service_offerings/{POSTGRES}"},
        },
    }
    small = await read(client, f"/v3/service_plans/{SMALL}", admin(settings))
    assert small["broker_catalog"]["maximum_polling_duration"] == 60
    assert small["broker_catalog"]["backup"]["supported"] is True


async def test_it_says_why_an_offering_or_a_plan_has_no_backups(client: Client, settings: Settings, url: str) -> None:
    async def reason(path: str) -> str | None:
        told = (await read(client, path, admin(settings)))["broker_catalog"]["backup"]
        assert told["supported"] == (told["reason"] is None) == (told["features"] != [])
        text: str | None = told["reason"]
        return text

    lacks = "The metadata of the service offering has no osmapi, which would announce backups."
    assert await reason(f"/v3/service_offerings/{REDIS}") == lacks
    assert (
        await reason(f"/v3/service_plans/{TINY}")
        == "The metadata of the plan has no osmapi, which would announce backups."
    )
    rows(url, "update service_plans set backup_features = '{}'")
    assert await reason(f"/v3/service_offerings/{POSTGRES}") == "None of its plans supports backups."
    assert await reason(f"/v3/service_plans/{SMALL}") == (
        "The announcement of backups counts only when the directory is applied again."
    )


async def test_it_shows_places_roles_and_brokers_as_cloud_foundry_does(
    client: Client, settings: Settings, url: str
) -> None:
    rows(url, "update organizations set status = 'suspended' where guid = 'o1'")
    metadata: dict[str, Any] = {"labels": {}, "annotations": {}}

    async def shown(path: str) -> dict[str, Any]:
        resource = await read(client, path, admin(settings))
        assert resource.pop("created_at") <= resource.pop("updated_at")
        return resource

    assert await shown("/v3/organizations/o1") == {
        "guid": "o1",
        "name": "acme",
        "suspended": True,
        "relationships": {"quota": {"data": None}},
        "metadata": metadata,
        "links": {"self": {"href": f"{HERE}/v3/organizations/o1"}},
    }
    assert (await shown("/v3/organizations/o2"))["suspended"] is False
    assert await shown("/v3/spaces/s1") == {
        "guid": "s1",
        "name": "shop",
        "relationships": {"organization": {"data": {"guid": "o1"}}, "quota": {"data": None}},
        "metadata": metadata,
        "links": {
            "self": {"href": f"{HERE}/v3/spaces/s1"},
            "organization": {"href": f"{HERE}/v3/organizations/o1"},
        },
    }
    assert await shown(f"/v3/service_brokers/{BROKER}") == {
        "guid": BROKER,
        "name": "pg",
        "url": "http://broker",
        "relationships": {},
        "metadata": metadata,
        "links": {
            "self": {"href": f"{HERE}/v3/service_brokers/{BROKER}"},
            "service_offerings": {"href": f"{HERE}/v3/service_offerings?service_broker_guids={BROKER}"},
        },
    }
    (role,) = (await read(client, "/v3/roles?types=space_developer", admin(settings)))["resources"]
    assert await shown(f"/v3/roles/{role['guid']}") == {
        "guid": role["guid"],
        "type": "space_developer",
        "relationships": {
            "user": {"data": {"guid": "ann-guid"}},
            "space": {"data": {"guid": "s1"}},
            "organization": {"data": None},
        },
        "links": {
            "self": {"href": f"{HERE}/v3/roles/{role['guid']}"},
            "space": {"href": f"{HERE}/v3/spaces/s1"},
        },
    }


async def test_it_links_only_to_what_can_be_followed(client: Client, settings: Settings, url: str) -> None:
    rows(url, "update service_instances set guid = 'odd guid/ü?#' where guid = 'i4'")
    for noun in NOUNS:
        for resource in (await read(client, f"/v3/{noun}", admin(settings)))["resources"]:
            for name, link in resource["links"].items():
                response = await client.get(link["href"].removeprefix(HERE), headers=admin(settings))
                assert response.status == 200, link
                if name == "self":
                    assert await response.json() == resource


# ---------------------------------------------------------------- secrets


async def test_it_shows_credentials_nowhere(client: Client, settings: Settings, url: str) -> None:
    texts = []
    for noun in NOUNS:
        page = await client.get(f"/v3/{noun}", headers=admin(settings))
        texts.append(await page.text())
        for resource in (await page.json())["resources"]:
            response = await client.get(f"/v3/{noun}/{resource['guid']}", headers=admin(settings))
            texts.append(await response.text())
    told = "\n".join(texts)
    (stored,) = rows(url, "select username, password_sealed from brokers")
    assert stored["username"] == USERNAME
    assert "http://broker" in told
    for secret in (PASSWORD, USERNAME, CLIENT_SECRET, stored["password_sealed"], "s3cret", "dashboard_client"):
        assert secret not in told


async def test_it_shows_where_a_broker_is_only_to_those_who_see_brokers(
    client: Client, settings: Settings, url: str
) -> None:
    grant(url, "space_developer@s1", "space_developer@s3", "organization_manager@o1", "organization_manager@o2")
    for noun in NOUNS:
        response = await client.get(f"/v3/{noun}", headers=bearer(settings, CALLER))
        assert "http://broker" not in await response.text()
