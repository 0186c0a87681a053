"""What clients ask before anything else: which API this is, and where its parts are."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.records import Json

#: The version of Cloud Foundry's v3 API that we follow.
CF_API_VERSION: Final = "3.228.0"


def present_root(external_url: str, *, login_url: str | None, uaa_url: str | None) -> Json:
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


def _link(url: str | None) -> Json | None:
    return None if url is None else {"href": url}


def present_v3(external_url: str) -> Json:
    """The links of `GET /v3`."""
    paths = ("jobs", "service_instances")
    links = {path: {"href": f"{external_url}/v3/{path}"} for path in paths}
    return {"links": {"self": {"href": f"{external_url}/v3"}} | links}


def present_info(external_url: str, *, is_chaos_allowed: bool) -> Json:
    """What `GET /v3/info` says of this installation. `custom` is where Cloud Foundry has an operator's own facts."""
    return {
        "build": "",
        "cli_version": {"minimum": "", "recommended": ""},
        "custom": {"chaos_allowed": is_chaos_allowed},
        "description": "Backups of service instances",
        "name": "Safekeep",
        "version": _own_version(),
        "osbapi_version": "2.17",
        "links": {"self": {"href": f"{external_url}/v3/info"}},
    }


def _own_version() -> str:
    try:
        return version("safekeep")
    except PackageNotFoundError:
        return "0.0.0+checkout"
