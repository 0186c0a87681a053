"""The directory read over HTTP: who sees what, in which shape, filtered and a page at a time; and nothing secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from shared.directory.roles import ACCESS_OF_ROLE, Access
from shared.security.secrets import Sealer
from shared.security.tokens import USER_SCOPES
from tests.support import bearer, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings
    from tests.integration.conftest import Client

HERE = "https://safekeep.example"
CALLER = "caller-guid"
NOUNS = (
    "organizations",
    "spaces",
    "service_instances",
    "service_offerings",
    "service_plans",
    "service_brokers",
    "roles",
)
BROKER = "00000000-0000-4000-8000-00000000000b"
POSTGRES, REDIS = "00000000-0000-4000-8000-0000000000f1", "00000000-0000-4000-8000-0000000000f2"
SMALL, BARE, TINY = (f"00000000-0000-4000-8000-0000000000a{number}" for number in (1, 2, 3))
PASSWORD, USERNAME, CLIENT_SECRET = "s3cret-password", "s3cret-username", "s3cret-of-the-dashboard"

OSMAPI = {"version": "1.0", "features": ["backup", "restore"], "maximum_polling_duration": 60}
POSTGRES_CATALOG: dict[str, Any] = {
    "id": "pg-id",
    "name": "postgres",
    "description": "Databases",
    "tags": ["sql", 7],
    "requires": [],
    "bindable": True,
    "plan_updateable": True,
    "metadata": {"shareable": True, "documentationUrl": "https://docs.example", "osmapi": OSMAPI},
    "dashboard_client": {"id": "dash", "secret": CLIENT_SECRET},
}
BARE_CATALOG: dict[str, Any] = {
    "id": "bare-id",
    "name": "bare",
    "free": False,
    "bindable": False,
    "metadata": {"osmapi": None},
    "maintenance_info": {"version": "2.1.1"},
    "schemas": {"service_instance": {"create": {"parameters": {"type": "object"}}, "update": 7}},
}
# What is wrong in a catalog must not take the list down with it.
REDIS_CATALOG: dict[str, Any] = {"description": 7, "tags": "x", "metadata": [], "bindable": "yes", "requires": None}


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(external_url=HERE, directory_staleness_s=0)


@pytest.fixture
def url(settings: Settings) -> str:
    """A database with two organizations, three spaces, and `db`, which is shared from `shop` to `lab`."""
    url = settings.database_url.get_secret_value()
    sealed = Sealer([key.get_secret_value() for key in settings.secret_keys]).seal(PASSWORD)
    rows(
        url,
        "insert into brokers (guid, name, url, username, password_sealed) values (%s, 'pg', 'http://broker', %s, %s)",
        BROKER,
        USERNAME,
        sealed,
    )
    for guid, name, catalog in ((POSTGRES, "postgres", POSTGRES_CATALOG), (REDIS, "redis", REDIS_CATALOG)):
        rows(
            url,
            "insert into service_offerings (guid, broker_guid, catalog_id, name, broker_catalog)"
            " values (%s, %s, %s, %s, %s)",
            *(guid, BROKER, f"{name}-id", name, json.dumps(catalog)),
        )
    plans: tuple[tuple[Any, ...], ...] = (
        (SMALL, POSTGRES, "small", {}, ["backup", "restore"], 60),
        (BARE, POSTGRES, "bare", BARE_CATALOG, [], None),
        (TINY, REDIS, "tiny", {"metadata": "x", "schemas": []}, [], None),
    )
    for guid, offering, name, plan_catalog, features, limit in plans:
        rows(
            url,
            "insert into service_plans (guid, offering_guid, catalog_id, name, broker_catalog, backup_features,"
            " maximum_polling_duration_s) values (%s, %s, %s, %s, %s, %s, %s)",
            *(guid, offering, f"{name}-id", name, json.dumps(plan_catalog), features, limit),
        )
    rows(url, "insert into organizations (guid, name) values ('o1', 'acme'), ('o2', 'other')")
    rows(
        url,
        "insert into spaces (guid, name, organization_guid)"
        " values ('s1', 'shop', 'o1'), ('s2', 'back', 'o1'), ('s3', 'lab', 'o2')",
    )
    rows(
        url,
        "insert into service_instances (guid, name, type, space_guid, plan_guid) values"
        " ('i1', 'db', 'managed', 's1', %s), ('i2', 'reports', 'managed', 's2', %s),"
        " ('i3', 'cache', 'managed', 's3', %s), ('i4', 'mail', 'user-provided', 's1', null)",
        *(SMALL, BARE, TINY),
    )
    rows(url, "insert into service_instance_shares values ('i1', 's3')")
    rows(url, "insert into users values (%s, 'caller'), ('ann-guid', 'ann')", CALLER)
    rows(
        url,
        "insert into roles values ('ann-guid', 'space_developer', 's1', null),"
        " ('ann-guid', 'organization_user', null, 'o1'), ('ann-guid', 'space_auditor', 's3', null)",
    )
    return url


def grant(url: str, *roles: str) -> None:
    """Give the caller roles, each written `role@place`."""
    for role, place in (role.split("@") for role in roles):
        at = (place, None) if role.startswith("space") else (None, place)
        rows(url, "insert into roles values (%s, %s, %s, %s)", CALLER, role, *at)


def admin(settings: Settings) -> dict[str, str]:
    return bearer(settings, "root", is_admin=True)


async def read(client: Client, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """The JSON of a 200 at a path or at a whole URL of ours."""
    response = await client.get(path.removeprefix(HERE), headers=headers)
    body: dict[str, Any] = await response.json()
    assert response.status == 200, body
    return body


async def listed(client: Client, path: str, headers: dict[str, str]) -> list[str]:
    """The names on the page, in its order; of roles, who is what where."""
    page = await read(client, path, headers)
    return [resource.get("name") or role_in_words(resource) for resource in page["resources"]]


def role_in_words(role: dict[str, Any]) -> str:
    places = [role["relationships"][noun]["data"] for noun in ("space", "organization")]
    (place,) = (place["guid"] for place in places if place)
    return f"{role['relationships']['user']['data']['guid'].removesuffix('-guid')}:{role['type']}@{place}"


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
    ("order_by=", "Order by can only be: 'created_at', 'updated_at'"),
    ("order_by=guid", "Order by can only be: 'created_at', 'updated_at'"),
    ("order_by=name;drop", "Order by can only be: 'created_at', 'updated_at'"),
    ("order_by=%2Bcreated_at", "Order by can only be: 'created_at', 'updated_at'"),
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
        ("roles?order_by=name", "Order by can only be: 'created_at', 'updated_at'"),
        ("roles?names=x", "Unknown query parameter(s): 'names'. Valid parameters are: "),
        ("spaces?order_by=id", "Order by can only be: 'created_at', 'updated_at', 'name'"),
        ("service_instances?type=other", "Type must be one of 'managed', 'user-provided'"),
        ("service_instances?type=", "Type must be one of 'managed', 'user-provided'"),
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
