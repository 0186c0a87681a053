"""A directory for tests that read it over HTTP: all that a caller may or may not see, and secrets that nobody may."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.security.secrets import Sealer
from tests.support import bearer, rows

if TYPE_CHECKING:
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


def fill(settings: Settings) -> str:
    """Fill the database with two organizations, three spaces, and `db`, shared from `shop` to `lab`; its URL."""
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
