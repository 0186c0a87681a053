"""Audit events: written with the steps of jobs, read by those who may, and never in the way."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from shared.records import Step
from shared.states import Event
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.integration.scene import PATH, Scene
from tests.support import DEVELOPER, accept_all, bearer, eventually, job_request, rows

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = "/v3/audit_events"
RESTORE = "/v3/service_instances/i-1/actions/restore"


async def listed(scene: Scene, query: str = "", **headers: str) -> list[dict[str, Any]]:
    status, body = await scene.ask("GET", f"{EVENTS}{query}", headers=headers)
    assert status == 200
    resources: list[dict[str, Any]] = body["resources"]
    assert body["pagination"]["total_results"] >= len(resources)
    return resources


async def test_item_35_it_tells_who_did_what(scene: Scene, engine_of: Callable[..., Any]) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
        await scene.job("POST", RESTORE, json={"backup_id": backup})
        scene.broker.deletes.append((202, {}))
        await scene.job("DELETE", f"{PATH}/{backup}")
    events = await listed(scene)
    assert [event["type"].removeprefix("audit.service_instance.") for event in events] == [
        "start_backup",
        "backup",
        "start_restore",
        "restore",
        "start_delete_backup",
        "delete_backup",
    ]
    for event in events:
        assert set(event) == {
            *("guid", "created_at", "updated_at", "type", "actor", "target", "data", "space", "organization", "links")
        }
        assert event["actor"] == {"guid": DEVELOPER, "type": "user", "name": DEVELOPER}
        assert event["target"] == {"guid": "i-1", "type": "service_instance", "name": "name of i-1"}
        assert (event["space"], event["organization"]) == ({"guid": "space"}, {"guid": "org"})
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event["created_at"])
        assert await scene.ask("GET", f"{EVENTS}/{event['guid']}") == (200, event)
    made, restored, deleted = events[1]["data"], events[3]["data"], events[5]["data"]
    assert (made["backup_guid"], made["request"]) == (backup, {})
    assert restored["request"] == {"backup_id": backup}
    assert deleted["backup_guid"] == backup
    jobs = {str(row["guid"]) for row in rows(scene.url, "select guid from jobs")}
    assert {event["data"]["job_guid"] for event in events} == jobs


async def test_it_names_the_one_who_cancelled(scene: Scene) -> None:
    _, location = await scene.ask("POST", PATH)
    admin = bearer(scene.settings, "boss", is_admin=True)
    assert (await scene.ask("POST", f"{location}/actions/cancel", headers=admin))[0] == 202
    (event,) = await listed(scene)
    assert event["type"] == "audit.service_instance.cancel_backup"
    assert event["actor"]["guid"] == "boss"


async def test_it_has_no_event_of_what_failed_or_cleans_up(scene: Scene, engine_of: Callable[..., Any]) -> None:
    scene.broker.polls.append((200, {"state": "failed", "description": "the disk is full"}))
    async with engine_of(scene.settings):
        assert (await scene.job("POST", PATH))["state"] == "FAILED"
        await eventually(lambda: scene.broker.deleted != set())
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
    assert [event["type"] for event in await listed(scene)] == ["audit.service_instance.start_backup"]


async def test_item_35_it_hides_parameters(scene: Scene, engine_of: Callable[..., Any]) -> None:
    await scene.ask("POST", PATH)
    rows(scene.url, "alter table jobs disable trigger jobs_identity_is_fixed")
    rows(
        scene.url,
        "update jobs set request_body = %s",
        '{"service_id": "s", "plan_id": "p", "parameters": {"a": "hush"}}',
    )
    rows(scene.url, "alter table jobs enable trigger jobs_identity_is_fixed")
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
    events = await listed(scene)
    assert {str(event["data"]["request"]) for event in events} == {"{'parameters': '[PRIVATE DATA HIDDEN]'}"}
    assert "hush" not in str(events)


@pytest.mark.parametrize(
    "breakage",
    ["drop table audit_events cascade", "alter table audit_events add constraint never check (false)"],
)
async def test_item_35_it_fails_nothing_when_no_event_can_be_written(
    scene: Scene,
    engine_of: Callable[..., Any],
    breakage: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    rows(scene.url, breakage)
    async with engine_of(scene.settings):
        assert (await scene.job("POST", PATH))["state"] == "COMPLETE"
        assert len(await scene.listed()) == 1
    assert "no audit event of job" in "".join(capfd.readouterr())


async def test_item_35_it_loses_no_event_to_another_that_cannot_be_written(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    rows(
        scene.url, "alter table audit_events add constraint no_zeros check (left(data ->> 'job_guid', 8) <> '00000000')"
    )
    broker_guid = rows(scene.url, "select guid from brokers")[0]["guid"]
    bad = uuid.UUID(int=7)
    requests = [job_request(broker_guid, f"a-{number}") for number in range(3)]
    requests[1] = replace(requests[1], guid=bad)
    async with Database(scene.settings, size=1, name="test") as database:
        jobs = Jobs(database, scene.settings)
        await accept_all(jobs, *requests)
        claims = (await jobs.claim([request.guid for request in requests], owner="w", lease_s=60)).claims
        steps = [
            Step(claim=claim, worker="w", call="start", event=Event.ACCEPTED, outcome="accepted", due_in_s=60.0)
            for claim in claims
        ]
        assert await jobs.record(steps) == [True] * 3
    written = rows(scene.url, "select data ->> 'job_guid' as guid from audit_events")
    assert {row["guid"] for row in written} == {str(request.guid) for request in requests if request.guid != bad}
    assert f"no audit event of job {bad}" in "".join(capfd.readouterr())


ROLES = [
    ("space_developer", True),
    ("space_auditor", True),
    ("organization_auditor", True),
    ("space_manager", False),
    ("space_supporter", False),
    ("organization_manager", False),
    ("organization_user", False),
]


@pytest.mark.parametrize(("role", "is_seen"), ROLES)
async def test_it_shows_events_to_those_who_work_there_or_audit(scene: Scene, role: str, is_seen: bool) -> None:  # noqa: FBT001
    _, location = await scene.ask("POST", PATH)
    await scene.ask("POST", f"{location}/actions/cancel")
    place = ("space", None) if role.startswith("space") else (None, "org")
    rows(scene.url, "insert into users values ('other', 'other')")
    rows(scene.url, "insert into roles values ('other', %s, %s, %s)", role, *place)
    seen = await listed(scene, **bearer(scene.settings, "other"))
    assert len(seen) == int(is_seen)
    (event,) = await listed(scene, **bearer(scene.settings, "x", scopes=["cloud_controller.global_auditor"]))
    status, _ = await scene.ask("GET", f"{EVENTS}/{event['guid']}", headers=bearer(scene.settings, "other"))
    assert status == (200 if is_seen else 404)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [0, 1, 2, 3]),
        ("?order_by=-created_at", [3, 2, 1, 0]),
        ("?order_by=-created_at&per_page=2", [3, 2]),
        ("?per_page=3&page=2", [3]),
        ("?page=3", []),
        ("?types=audit.service_instance.backup", [1, 3]),
        ("?types=audit.service_instance.backup,none", [1, 3]),
        ("?target_guids=i-2", [2, 3]),
        ("?target_guids=i-1,i-2&types=audit.service_instance.start_backup", [0, 2]),
        ("?space_guids=elsewhere", []),
        ("?space_guids=space&organization_guids=org", [0, 1, 2, 3]),
        ("?created_ats[gt]=2026-01-01T00:00:01Z", [2, 3]),
        ("?created_ats[gte]=2026-01-01T00:00:01Z", [1, 2, 3]),
        ("?created_ats[lt]=2026-01-01T00:00:01Z", [0]),
        ("?created_ats[lte]=2026-01-01T00:00:01Z", [0, 1]),
    ],
)
async def test_it_filters_and_orders(scene: Scene, query: str, numbers: list[int]) -> None:
    guids = [str(uuid.uuid4()) for _ in range(4)]
    for number, guid in enumerate(guids):
        rows(
            scene.url,
            "insert into audit_events (guid, type, actor_guid, actor_name, target_guid, target_name, space_guid,"
            " organization_guid, data, created_at) values (%s, %s, 'a', 'a', %s, 'n', 'space', 'org', '{}', %s)",
            guid,
            f"audit.service_instance.{'start_' * (number % 2 == 0)}backup",
            f"i-{1 + number // 2}",
            f"2026-01-01 00:00:0{number}.5+00",
        )
    events = await listed(scene, query, **bearer(scene.settings, is_admin=True))
    assert [guids.index(event["guid"]) for event in events] == numbers


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?created_ats[gt]=yesterday", "times must be as 2026-11-24T12:00:00Z"),
        ("?created_ats[gt]=2026-13-01T00:00:00Z", "times must be as"),
        ("?order_by=type", "Order by can only be: 'created_at', '-created_at'"),
        ("?types=", "printable values of 1 to 255 characters"),
        ("?types=a%00", "printable values"),
        ("?per_page=0", "Per page must be between 1 and 5000"),
        ("?page=0", "Page must be between 1 and"),
        ("?label_selector=x", "Unknown query parameter(s): 'label_selector'. Valid parameters are: 'page', 'per_page'"),
    ],
)
async def test_it_refuses_other_queries(scene: Scene, query: str, words: str) -> None:
    status, body = await scene.ask("GET", f"{EVENTS}{query}")
    assert (status, body["errors"][0]["code"]) == (400, 10005)
    assert words in body["errors"][0]["detail"]


async def test_it_deletes_old_events(scene: Scene, engine_of: Callable[..., Any]) -> None:
    _, location = await scene.ask("POST", PATH)
    await scene.ask("POST", f"{location}/actions/cancel")
    rows(
        scene.url,
        "insert into audit_events select gen_random_uuid(), type, actor_guid, actor_name, target_guid, target_type,"
        " target_name, space_guid, organization_guid, data, now() - interval '32 days' from audit_events",
    )
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select count(*) as n from audit_events") == [{"n": 1}])
    assert len(await listed(scene)) == 1
