"""What clients ask before anything else: which API this is, and where its parts are."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from typing_extensions import TypedDict

from api.presenters.common import LinkJson

#: The version of Cloud Foundry's v3 API that we follow.
CF_API_VERSION: Final = "3.228.0"


class VersionJson(TypedDict):
    """A version of an API."""

    version: str


class VersionedLinkJson(LinkJson):
    """A link to an API of a certain version."""

    meta: VersionJson


class RootLinksJson(TypedDict):
    """What Safekeep has nothing for is null."""

    self: LinkJson
    cloud_controller_v2: LinkJson | None
    cloud_controller_v3: VersionedLinkJson
    login: LinkJson | None
    uaa: LinkJson | None


class RootJson(TypedDict):
    """Where the APIs are."""

    links: RootLinksJson


class V3Json(TypedDict):
    """Where the collections are."""

    links: dict[str, LinkJson]


class CliVersionJson(TypedDict):
    """Which versions of Cloud Foundry's command line are wanted; any."""

    minimum: str
    recommended: str


class CustomJson(TypedDict):
    """Facts about this installation."""

    chaos_allowed: bool


class InfoJson(TypedDict):
    """What this is."""

    build: str
    cli_version: CliVersionJson
    custom: CustomJson
    description: str
    name: str
    version: str
    osbapi_version: str
    links: dict[str, LinkJson]


def present_root(external_url: str, *, login_url: str | None, uaa_url: str | None) -> RootJson:
    """The links of `GET /`. Those that Safekeep has nothing for are null, as in Cloud Foundry."""
    return {
        "links": {
            "self": {"href": external_url},
            "cloud_controller_v2": None,
            "cloud_controller_v3": {"href": f"{external_url}/v3", "meta": {"version": CF_API_VERSION}},
            "login": _link(login_url),
            "uaa": _link(uaa_url),
        }
    }


def _link(url: str | None) -> LinkJson | None:
    return None if url is None else {"href": url}


def present_v3(external_url: str) -> V3Json:
    """The links of `GET /v3`."""
    paths = (
        "audit_events",
        "jobs",
        "organizations",
        "roles",
        "service_brokers",
        "service_instances",
        "service_offerings",
        "service_plans",
        "spaces",
    )
    links: dict[str, LinkJson] = {path: {"href": f"{external_url}/v3/{path}"} for path in ("self", *paths)}
    links["self"] = {"href": f"{external_url}/v3"}
    return {"links": links}


def present_info(external_url: str, *, is_chaos_allowed: bool) -> InfoJson:
    """What `GET /v3/info` says of this installation. `custom` is where Cloud Foundry has an operator's own facts."""
    return {
        "build": "",
        "cli_version": {"minimum": "", "recommended": ""},
        "custom": {"chaos_allowed": is_chaos_allowed},
        "description": "Backups of service instances",
        "name": "Safekeep",
        "version": own_version(),
        "osbapi_version": "2.17",
        "links": {"self": {"href": f"{external_url}/v3/info"}},
    }


def own_version() -> str:
    """The version of Safekeep that runs."""
    try:
        return version("safekeep")
    except PackageNotFoundError:
        return "0.0.0+checkout"
