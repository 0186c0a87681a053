"""Broker catalogs: the rule that decides whether a plan supports backups, and what is refused as malformed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.directory.catalog import DURATION_S_MAX, Plan, parse_catalog, why_no_backups
from shared.directory.errors import CatalogError

ABSENT = object()
OSMAPI = {"version": "1.0", "features": ["restore", "backup"]}


def catalog(
    *, offering: object = ABSENT, plan: object = ABSENT, limit: object = ABSENT
) -> dict[str, list[dict[str, Any]]]:
    """A catalog with one plan; `offering` and `plan` are what they have as `metadata`."""
    plan_json = {"id": "p", "name": "small", "metadata": plan, "maximum_polling_duration": limit}
    offering_json = {"id": "o", "name": "postgres", "bindable": True, "metadata": offering}
    without = [
        {key: value for key, value in item.items() if value is not ABSENT} for item in (offering_json, plan_json)
    ]
    return {"services": [without[0] | {"plans": [without[1]]}]}


def plan_of(raw: object) -> Plan:
    return parse_catalog("pg", raw).offerings[0].plans[0]


def osmapi(**changes: object) -> dict[str, object]:
    announced = {key: value for key, value in (OSMAPI | changes).items() if value is not ABSENT}
    return {"osmapi": announced}


@pytest.mark.parametrize(
    ("offering", "plan", "features"),
    [
        (ABSENT, ABSENT, ()),
        (None, None, ()),
        ({}, {}, ()),
        (osmapi(), ABSENT, ("backup", "restore")),
        (osmapi(), None, ("backup", "restore")),
        (osmapi(), {"bullets": []}, ("backup", "restore")),
        (ABSENT, osmapi(), ("backup", "restore")),
        ({"osmapi": "x"}, osmapi(), ("backup", "restore")),
        (osmapi(), osmapi(features=["backup"]), ("backup",)),
        # a plan's say replaces its offering's, even when it is wrong
        (osmapi(), osmapi(features=["restore"]), ()),
        (osmapi(), osmapi(features=ABSENT), ()),
        (osmapi(), {"osmapi": None}, ()),
        (osmapi(), {"osmapi": {}}, ()),
        (osmapi(), "metadata", ()),
        # versions
        (osmapi(version="1"), ABSENT, ("backup", "restore")),
        (osmapi(version="1.7.2"), ABSENT, ("backup", "restore")),
        (osmapi(version="2.0"), ABSENT, ()),
        (osmapi(version="10.0"), ABSENT, ()),
        (osmapi(version="0.9"), ABSENT, ()),
        (osmapi(version=""), ABSENT, ()),
        (osmapi(version=1), ABSENT, ()),
        (osmapi(version=1.0), ABSENT, ()),
        (osmapi(version=ABSENT), ABSENT, ()),
        # features
        (osmapi(features=["backup", "backup", "later"]), ABSENT, ("backup", "later")),
        (osmapi(features=[]), ABSENT, ()),
        (osmapi(features=["restore"]), ABSENT, ()),
        (osmapi(features=["backup.delete"]), ABSENT, ()),
        (osmapi(features="backup"), ABSENT, ()),
        (osmapi(features={"backup": True}), ABSENT, ()),
        (osmapi(features=["backup", 7]), ABSENT, ()),
        (osmapi(features=None), ABSENT, ()),
        # shapes
        ({"osmapi": []}, ABSENT, ()),
        ({"osmapi": "1.0"}, ABSENT, ()),
        ([], ABSENT, ()),
        (7, ABSENT, ()),
        (osmapi(maximum_polling_duration="60"), ABSENT, ()),
        (osmapi(maximum_polling_duration=0), ABSENT, ()),
        (osmapi(maximum_polling_duration=True), ABSENT, ()),
        (osmapi(maximum_polling_duration=None), ABSENT, ("backup", "restore")),
        (osmapi(extra={"a": 1}), ABSENT, ("backup", "restore")),
    ],
)
def test_it_decides_on_backups_by_the_plans_say_and_then_the_offerings(
    offering: object, plan: object, features: tuple[str, ...]
) -> None:
    read = parse_catalog("pg", catalog(offering=offering, plan=plan)).offerings[0]
    assert read.plans[0].backup_features == features
    assert (why_no_backups(read.published, read.plans[0].published) is None) == bool(features)


@pytest.mark.parametrize(
    ("offering", "plan", "words"),
    [
        (osmapi(), ABSENT, None),
        (ABSENT, ABSENT, "The metadata of the service offering has no osmapi, which would announce backups."),
        (osmapi(), [], "The metadata of the plan has no osmapi, which would announce backups."),
        (
            {"osmapi": None},
            ABSENT,
            "The metadata.osmapi of the service offering is malformed: must be an object, and is empty.",
        ),
        (
            osmapi(version=1, features="all"),
            {"bullets": []},
            "The metadata.osmapi of the service offering is malformed: version: must be text, not a number.",
        ),
        (
            ABSENT,
            osmapi(features=["backup", 7]),
            "The metadata.osmapi of the plan is malformed: features[1]: must be text, not a number.",
        ),
        (
            osmapi(version="2" * 100),
            ABSENT,
            f"The service offering announces version '{'2' * 32}' of backups, and version 1 is needed.",
        ),
        (
            osmapi(),
            osmapi(features=["restore"]),
            "The metadata.osmapi of the plan does not have the feature 'backup'.",
        ),
    ],
)
def test_it_says_why_there_are_no_backups(offering: object, plan: object, words: str | None) -> None:
    read = parse_catalog("pg", catalog(offering=offering, plan=plan)).offerings[0]
    assert why_no_backups(read.published, read.plans[0].published) == words


def test_it_says_why_an_offering_announces_no_backups_whatever_its_plans_do() -> None:
    assert why_no_backups({}) is not None
    assert why_no_backups({"metadata": osmapi()}) is None


@pytest.mark.parametrize(
    ("announced", "limit", "expected"),
    [
        (ABSENT, ABSENT, None),
        (60, ABSENT, 60),
        (ABSENT, 50, 50),
        (60, 50, 50),
        (60, 70, 60),
        (60, None, 60),
        (60, "50", 60),
        (60, -1, 60),
        (60, 0, 60),
        (60, True, 60),
        (60, 50.5, 60),
        (60, [], 60),
        (ABSENT, 10**20, DURATION_S_MAX),
    ],
)
def test_it_takes_the_smaller_limit_on_polling(announced: object, limit: object, expected: int | None) -> None:
    raw = catalog(offering=osmapi(maximum_polling_duration=announced), limit=limit)
    assert plan_of(raw).maximum_polling_duration_s == expected


def test_it_leaves_out_the_limit_of_an_announcement_that_does_not_count() -> None:
    raw = catalog(offering=osmapi(version="2.0", maximum_polling_duration=60), limit=70)
    assert plan_of(raw).maximum_polling_duration_s == 70


def test_it_keeps_what_the_broker_published() -> None:
    raw = catalog(offering=osmapi(), plan={"bullets": ["a"]}, limit="odd")
    before = json.dumps(raw)
    offering = parse_catalog("pg", raw).offerings[0]
    assert (offering.catalog_id, offering.name) == ("o", "postgres")
    assert offering.published == {"id": "o", "name": "postgres", "bindable": True, "metadata": osmapi()}
    assert offering.plans[0].published == raw["services"][0]["plans"][0]
    assert json.dumps(raw) == before


def test_it_takes_a_catalog_that_offers_nothing() -> None:
    assert parse_catalog("pg", {"services": []}).offerings == ()


def offerings(*items: object) -> dict[str, object]:
    return {"services": list(items)}


def an_offering(**changes: object) -> dict[str, object]:
    return {"id": "o", "name": "postgres", "plans": [{"id": "p", "name": "small"}], **changes}


@pytest.mark.parametrize(
    ("raw", "reasons"),
    [
        (None, "must be an object, and is empty"),
        ([], "must be an object, not a list"),
        ("x", "must be an object, not text"),
        (7, "must be an object, not a number"),
        (True, "must be an object, not a truth value"),
        ({}, "services: is missing"),
        ({"services": None}, "services: must be a list, and is empty"),
        ({"services": {}}, "services: must be a list, not an object"),
        (offerings("x"), "services[0]: must be an object, not text"),
        (offerings({}), "services[0].id: is missing; services[0].name: is missing; services[0].plans: is missing"),
        (offerings(an_offering(id=7)), "services[0].id: must be text, not a number"),
        (offerings(an_offering(id="")), "services[0].id: must not be empty"),
        (offerings(an_offering(name="\x1b[J")), "services[0].name: must not contain control characters or line breaks"),
        (offerings(an_offering(name="\ud800")), "services[0].name: must be Unicode text"),
        (offerings(an_offering(plans={})), "services[0].plans: must be a list, not an object"),
        (offerings(an_offering(plans=[{"id": "p"}])), "services[0].plans[0].name: is missing"),
        (
            offerings(an_offering(), an_offering(name="other", plans=[])),
            "services[1].id: 'o' is there already, at services[0].id",
        ),
        (
            offerings(an_offering(), an_offering(id="o2", plans=[])),
            "services[1].name: 'postgres' is there already, at services[0].name",
        ),
        (
            offerings(an_offering(), an_offering(id="o2", name="other")),
            "services[1].plans[0].id: 'p' is there already, at services[0].plans[0].id",
        ),
        (
            offerings(an_offering(plans=[{"id": "p", "name": "small"}, {"id": "q", "name": "small"}])),
            "services[0].plans[1].name: 'small' is there already, at services[0].plans[0].name",
        ),
        (offerings(an_offering(description="a\x00b")), "it contains the character NUL"),
        (offerings(an_offering(description="\ud800")), "it contains a number or character that JSON does not have"),
        (offerings(an_offering(weight=float("nan"))), "it contains a number or character that JSON does not have"),
        (offerings(an_offering(weight=float("inf"))), "it contains a number or character that JSON does not have"),
    ],
)
def test_it_names_the_broker_and_the_place_of_what_is_malformed(raw: object, reasons: str) -> None:
    with pytest.raises(CatalogError) as refusal:
        parse_catalog("pg", raw)
    assert str(refusal.value) == f"the catalog of broker 'pg' cannot be used: {reasons}"


def test_it_tells_nul_from_the_six_characters_that_json_writes_for_it() -> None:
    offering = parse_catalog("pg", offerings(an_offering(description="\\u0000"))).offerings[0]
    assert offering.published["description"] == "\\u0000"
