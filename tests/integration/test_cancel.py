"""Cancelling at any moment: before the start call, during a call, while polling, and in a race with the end."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from shared.records import RestorePoint
from shared.states import Operation
from tests.integration.conftest import HintLog, client_of
from tests.integration.test_engine import Story
from tests.support import QUICK, bearer, eventually, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.records import JobRequest
    from shared.settings import Settings
    from tests.integration.conftest import Client
    from tests.support import ScriptedBroker


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(**QUICK | {"broker_timeout_s": 20, "lease_s": 60, "poll_interval_s": 0.02})


@pytest.fixture
def story(settings: Settings, broker: ScriptedBroker) -> Story:
    return Story(settings, broker)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Client]:
    async with client_of(settings, HintLog()) as client:
        client.session.headers.update(bearer(settings))
        yield client


async def cancel(api: Client, request: JobRequest, **headers: str) -> tuple[int, Any]:
    async with api.post(f"/v3/jobs/{request.guid}/actions/cancel", headers=headers) as response:
        return response.status, await response.json() if response.status != 202 else response.headers["Location"]


async def _is_refused(api: Client, request: JobRequest) -> bool:
    return (await cancel(api, request))[0] == 403


async def test_it_ends_a_job_that_was_not_started_and_leaves_nothing_to_remove(story: Story, api: Client) -> None:
    request = await story.accept()
    status, location = await cancel(api, request)
    assert (status, location) == (202, f"{story.settings.external_url}/v3/jobs/{request.guid}")
    async with api.get(f"/v3/jobs/{request.guid}") as response:
        job = await response.json()
    assert job["state"] == "FAILED"
    assert job["errors"] == [
        {
            "code": 10009,
            "title": "CF-UnableToPerform",
            "detail": "backup could not be completed: cancelled by developer-guid",
        }
    ]
    assert "clean_up" not in job["links"]
    assert rows(story.url, "select state from backups") == [{"state": "failed"}]
    assert rows(story.url, "select call, event, fence from job_steps") == [
        {"call": "none", "event": "cancelled", "fence": 1}
    ]
    await story.accept()  # the instance is free


async def test_it_cancels_while_polling_and_removes_what_was_begun(
    story: Story, api: Client, engine_of: Callable[..., Any]
) -> None:
    story.broker.polls_until_done = 10**9
    request = await story.accept()
    async with engine_of(story.settings):
        await eventually(lambda: story.job()["polls"] > 1)
        assert (await cancel(api, request))[0] == 202
        assert story.job()["state"] == "cancelled"
        clean_up = await story.cleaned_up()
    assert story.broker.deleted == {str(request.resource_guid)}
    async with api.get(f"/v3/jobs/{request.guid}") as response:
        links = (await response.json())["links"]
    assert links["clean_up"]["href"].endswith(f"/v3/jobs/{clean_up['guid']}")
    async with api.get(f"/v3/jobs/{clean_up['guid']}") as response:
        job = await response.json()
    assert (job["operation"], job["state"]) == ("service_instance.clean_up_backup", "COMPLETE")


async def test_it_cancels_during_the_start_call_and_removes_it_after_that_call(
    story: Story, api: Client, engine_of: Callable[..., Any]
) -> None:
    called, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        called.set()
        await go_on.wait()
        return web.json_response({"operation": "op"}, status=202)

    story.broker.starts.append(slow)
    request = await story.accept()
    async with engine_of(story.settings):
        await called.wait()
        assert (await cancel(api, request))[0] == 202
        # The removal waits for as long as the call may take, and the answer that comes later changes nothing.
        assert story.clean_up()["due_at"] > story.job()["completed_at"]
        go_on.set()
        await eventually(lambda: rows(story.url, "select lease_until from jobs where lease_until is not null") == [])
        assert story.job()["state"] == "cancelled"
        rows(story.url, "update jobs set due_at = now(), next_hint_at = now() where is_clean_up")
        await story.cleaned_up()
    assert story.broker.deleted == {str(request.resource_guid)}


async def test_it_has_one_winner_in_a_race_with_success(
    story: Story, api: Client, engine_of: Callable[..., Any]
) -> None:
    won = set()
    async with engine_of(story.settings):
        for number in range(20):
            request = await story.accept()
            if number % 2:
                await eventually(lambda: story.job()["state"] != "start")
            status, _ = await cancel(api, request)
            job = await story.end()
            backup = rows(story.url, "select state from backups where guid = %s", request.resource_guid)[0]["state"]
            assert (status, job["state"], backup) in {(202, "cancelled", "failed"), (422, "succeeded", "succeeded")}
            won.add(job["state"])
    assert "cancelled" in won


async def test_it_refuses_what_can_no_longer_be_undone(
    story: Story, api: Client, engine_of: Callable[..., Any]
) -> None:
    story.broker.polls_until_done = 10**9
    request = await story.accept(operation=Operation.RESTORE, restore=RestorePoint(backup_id="b"), can_undo=False)
    async with engine_of(story.settings):
        await eventually(lambda: story.job()["state"] == "poll")
        status, body = await cancel(api, request)
        assert (status, body["errors"][0]["code"]) == (422, 10008)
        assert "cannot stop or undo" in body["errors"][0]["detail"]
        story.broker.polls_until_done = 0
        assert (await story.end())["state"] == "succeeded"
    status, body = await cancel(api, request)
    assert (status, body["errors"][0]["detail"]) == (422, "The job has ended already.")


async def test_it_refuses_those_who_may_not_write(story: Story, api: Client) -> None:
    request = await story.accept()
    assert (await cancel(api, request, **bearer(story.settings, "stranger")))[0] == 404
    rows(story.url, "update roles set type = 'space_auditor'")
    async with client_of(story.settings, HintLog()) as fresh:
        assert (await cancel(fresh, request, **bearer(story.settings)))[0] == 403
    unknown = api.post(f"/v3/jobs/{uuid.uuid4()}/actions/cancel")
    async with unknown as response:
        assert response.status == 404
    assert story.job()["state"] == "start"


async def test_it_leaves_clean_ups_alone(story: Story, api: Client, engine_of: Callable[..., Any]) -> None:
    story.broker.polls.append((200, {"state": "failed"}))
    story.broker.deletes.extend([(500, {})] * 1000)
    await story.accept()
    async with engine_of(story.settings):
        await story.end()
        guid = story.clean_up()["guid"]
        async with api.post(f"/v3/jobs/{guid}/actions/cancel") as response:
            assert response.status == 422
        story.broker.deletes.clear()
        await story.cleaned_up()
