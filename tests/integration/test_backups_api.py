"""Reading and deleting backups over HTTP, with a real engine and broker behind it."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.integration.conftest import HintLog, client_of
from tests.integration.scene import PATH, SUCCEEDED, Scene
from tests.support import accept_all, bearer, eventually, job_request, rows

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_it_shows_all_that_is_known_of_a_backup(scene: Scene, engine_of: Callable[..., Any]) -> None:
    status, location = await scene.ask("POST", PATH)
    assert status == 202
    (stored,) = rows(scene.url, "select * from backups")
    base = "https://safekeep.example/v3/service_instances/i-1"
    shown = {
        "id": str(stored["guid"]),
        "state": "in progress",
        "trigger": "on_demand",
        "size_bytes": None,
        "created_at": int(stored["created_at"].timestamp()),
        "completed_at": None,
        "expires_at": None,
        "links": {
            "self": {"href": f"{base}/backups/{stored['guid']}"},
            "service_instance": {"href": base},
            "job": {"href": f"https://safekeep.example{location}"},
        },
    }
    assert await scene.ask("GET", f"{PATH}/{stored['guid']}") == (200, shown)
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
    (stored,) = rows(scene.url, "select * from backups")
    shown |= {"state": "succeeded", "size_bytes": 4711, "completed_at": int(stored["completed_at"].timestamp())}
    assert await scene.ask("GET", f"{PATH}/{stored['guid']}") == (200, shown)


@pytest.mark.parametrize("guid", ["x", "%00", str(uuid.uuid4()), "x" * 6_000, "%E2%98%83"])
async def test_it_knows_no_backup_of_any_other_guid(scene: Scene, guid: str) -> None:
    for method in ("GET", "DELETE"):
        status, body = await scene.ask(method, f"{PATH}/{guid}")
        assert status == 404
        assert body == {"errors": [{"code": 10010, "title": "CF-ResourceNotFound", "detail": "Backup not found"}]}


async def test_it_shows_the_backup_of_no_other_instance(scene: Scene, engine_of: Callable[..., Any]) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up("i-2")
    for method in ("GET", "DELETE"):
        assert (await scene.ask(method, f"{PATH}/{backup}"))[0] == 404


async def test_it_deletes_a_backup_at_the_broker(scene: Scene, engine_of: Callable[..., Any]) -> None:
    async with engine_of(scene.settings):
        kept, gone = await scene.backed_up(), await scene.backed_up()
        job = await scene.job("DELETE", f"{PATH}/{gone}")
    assert (job["operation"], job["state"], job["errors"]) == ("service_instance.delete_backup", "COMPLETE", [])
    assert scene.broker.deleted == {gone}
    assert await scene.listed() == [kept]
    assert (await scene.ask("GET", f"{PATH}/{gone}"))[0] == 404
    assert (await scene.ask("DELETE", f"{PATH}/{gone}"))[0] == 404
    (call,) = [call for call in scene.broker.calls if call.method == "DELETE"]
    assert call.query == {"service_id": "service-id", "plan_id": "plan-id", "accepts_incomplete": "true"}
    assert "X-Broker-API-Originating-Identity" in call.headers


async def test_it_polls_a_deletion_that_takes_its_time(scene: Scene, engine_of: Callable[..., Any]) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
        scene.broker.deletes.append((202, {"operation": "deleting"}))
        scene.broker.polls.extend([(200, {"state": "in progress"}), (410, {})])
        job = await scene.job("DELETE", f"{PATH}/{backup}")
    assert job["state"] == "COMPLETE"
    assert await scene.listed() == []


async def test_it_takes_a_backup_that_the_broker_no_longer_has_for_deleted(
    scene: Scene, engine_of: Callable[..., Any]
) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
        scene.broker.deletes.append((410, {}))
        assert (await scene.job("DELETE", f"{PATH}/{backup}"))["state"] == "COMPLETE"
    assert (await scene.ask("GET", f"{PATH}/{backup}"))[0] == 404


@pytest.mark.parametrize("answers", [[(400, {"description": "it is on hold"})], [(500, {})] * 5])
async def test_it_has_a_backup_again_that_the_broker_did_not_delete(
    scene: Scene, engine_of: Callable[..., Any], answers: list[tuple[int, Any]]
) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
        scene.broker.deletes.extend(answers)
        job = await scene.job("DELETE", f"{PATH}/{backup}")
        assert job["state"] == "FAILED"
        (error,) = job["errors"]
        assert error["detail"].startswith("deletion of the backup could not be completed: ")
        assert "clean_up" not in job["links"]
        assert await scene.listed() == [backup]
        assert (await scene.job("DELETE", f"{PATH}/{backup}"))["state"] == "COMPLETE"


async def test_it_answers_a_second_deletion_with_the_job_of_the_first(
    scene: Scene, engine_of: Callable[..., Any]
) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
    answers = await asyncio.gather(*(scene.ask("DELETE", f"{PATH}/{backup}") for _ in range(8)))
    assert {status for status, _ in answers} == {202}
    assert len({location for _, location in answers}) == 1
    assert (await scene.ask("GET", f"{PATH}/{backup}"))[1]["state"] == "deleting"
    assert await scene.listed() == []
    assert rows(scene.url, "select count(*) as n from jobs where completed_at is null") == [{"n": 1}]


async def test_it_does_not_delete_what_is_being_made(scene: Scene) -> None:
    await scene.ask("POST", PATH)
    (stored,) = rows(scene.url, "select guid from backups")
    status, body = await scene.ask("DELETE", f"{PATH}/{stored['guid']}")
    assert (status, body["errors"][0]["code"]) == (409, 60016)
    assert body["errors"][0]["detail"] == "An operation for service instance name of i-1 is in progress."


async def test_it_does_not_delete_what_has_failed(scene: Scene, engine_of: Callable[..., Any]) -> None:
    scene.broker.starts.append((400, {}))
    async with engine_of(scene.settings):
        assert (await scene.job("POST", PATH))["state"] == "FAILED"
    (stored,) = rows(scene.url, "select guid from backups")
    status, body = await scene.ask("DELETE", f"{PATH}/{stored['guid']}")
    assert (status, body["errors"][0]["code"]) == (422, 10008)
    assert (await scene.ask("GET", f"{PATH}/{stored['guid']}"))[1]["state"] == "failed"


@pytest.mark.parametrize("target", ["i-1", "i-2"])
async def test_it_does_not_delete_what_is_being_restored_here_or_elsewhere(
    scene: Scene, engine_of: Callable[..., Any], target: str
) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
    body = {"backup_id": backup, "source_service_instance_guid": "i-1"}
    status, _ = await scene.ask("POST", f"/v3/service_instances/{target}/actions/restore", json=body)
    assert status == 202
    status, answer = await scene.ask("DELETE", f"{PATH}/{backup}")
    assert (status, answer["errors"][0]["code"]) == (409, 60016)
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
        assert (await scene.job("DELETE", f"{PATH}/{backup}"))["state"] == "COMPLETE"


async def test_it_does_not_restore_what_is_being_deleted(scene: Scene, engine_of: Callable[..., Any]) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
    assert (await scene.ask("DELETE", f"{PATH}/{backup}"))[0] == 202
    status, body = await scene.ask("POST", "/v3/service_instances/i-1/actions/restore", json={"backup_id": backup})
    assert (status, body["errors"][0]["code"]) == (422, 10008)


async def test_it_lets_either_a_deletion_or_a_restore_win(scene: Scene) -> None:
    """In each of many races, the rows say that one of both was accepted, and the answers say the same."""
    for _ in range(20):
        backup = str(uuid.uuid4())
        rows(scene.url, SUCCEEDED, backup)
        restore = {"backup_id": backup, "source_service_instance_guid": "i-1"}
        answers = await asyncio.gather(
            scene.ask("DELETE", f"{PATH}/{backup}"),
            scene.ask("POST", "/v3/service_instances/i-2/actions/restore", json=restore),
        )
        assert sorted(status for status, _ in answers) in ([202, 409], [202, 422])
        open_jobs = rows(scene.url, "select operation from jobs where completed_at is null")
        is_deleted = answers[0][0] == 202
        assert open_jobs == [{"operation": f"service_instance.{'delete_backup' if is_deleted else 'restore'}"}]
        rows(scene.url, "truncate jobs, backups, restores cascade")


async def test_it_waits_for_a_deletion_that_has_the_backups_row_and_then_refuses(scene: Scene) -> None:
    """The store's own check, without the one that the handler makes before."""
    backup = uuid.uuid4()
    rows(scene.url, SUCCEEDED, backup)
    (broker,) = rows(scene.url, "select guid from brokers")
    async with Database(scene.settings, size=2, name="test") as database:
        jobs = Jobs(database, scene.settings)
        deletion = job_request(broker["guid"], resource_guid=backup, operation="service_instance.delete_backup")
        assert (await jobs.accept_deletion(deletion)).is_stored
        (accepted,) = await jobs.accept([job_request(broker["guid"], "i-2", backup_guid=backup)])
        assert (accepted.is_stored, accepted.is_backup_gone) == (False, True)
        assert await accept_all(jobs, job_request(broker["guid"], "i-2")) == [True]


async def test_it_deletes_while_the_instance_is_backed_up(scene: Scene, engine_of: Callable[..., Any]) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
    assert (await scene.ask("POST", PATH))[0] == 202
    assert (await scene.ask("DELETE", f"{PATH}/{backup}"))[0] == 202
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
    assert len(await scene.listed()) == 1


async def test_it_cancels_a_deletion_before_its_first_call_and_not_after(
    scene: Scene, engine_of: Callable[..., Any]
) -> None:
    called, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        called.set()
        await go_on.wait()
        return web.json_response({}, status=200)

    async with engine_of(scene.settings):
        backup = await scene.backed_up()
    _, location = await scene.ask("DELETE", f"{PATH}/{backup}")
    assert (await scene.ask("POST", f"{location}/actions/cancel"))[0] == 202
    assert await scene.listed() == [backup]
    scene.broker.deletes.append(slow)
    async with engine_of(scene.settings):
        _, location = await scene.ask("DELETE", f"{PATH}/{backup}")
        await called.wait()
        status, body = await scene.ask("POST", f"{location}/actions/cancel")
        assert (status, body["errors"][0]["code"]) == (422, 10008)
        go_on.set()
        await eventually(lambda: rows(scene.url, "select state from backups") == [{"state": "deleted"}])


async def test_it_does_not_delete_where_the_plan_cannot(scene: Scene, engine_of: Callable[..., Any]) -> None:
    async with engine_of(scene.settings):
        backup = await scene.backed_up()
    rows(scene.url, "update service_plans set backup_features = '{backup}'")
    async with client_of(scene.settings, HintLog()) as other:
        response = await other.delete(f"{PATH}/{backup}", headers=bearer(scene.settings))
        assert response.status == 422
        (error,) = (await response.json())["errors"]
        assert "does not support deleting backups" in error["detail"]
    assert rows(scene.url, "select 1 from jobs where completed_at is null") == []
