"""What a failed or cancelled job may have left at the broker: when it is removed, when it is not, and for how long."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from shared.records import RestorePoint
from shared.states import Operation
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.integration.test_engine import Story
from tests.support import QUICK, eventually, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings
    from tests.support import ScriptedBroker

FAILED_POLL = (200, {"state": "failed", "description": "the disk is full"})
OUT_OF_ORDER: tuple[Any, ...] = (500, {})


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(**QUICK | {"start_attempts": 3})


@pytest.fixture
def story(settings: Settings, broker: ScriptedBroker) -> Story:
    return Story(settings, broker)


@pytest.mark.parametrize(
    ("starts", "polls", "is_cleaned"),
    [
        ([], [FAILED_POLL], True),
        ([OUT_OF_ORDER] * 3, [], True),
        ([(202, b"no json")] * 3, [], True),
        ([(503, {}), (429, {}), (422, {"error": "BackupQuotaExceeded"})], [], True),
        ([OUT_OF_ORDER, (401, {})], [], True),
        ([(400, {})], [], False),
        ([(401, {})], [], False),
        ([(409, {})], [], False),
        ([(410, {})], [], False),
        ([(422, {"error": "BackupQuotaExceeded"})], [], False),
        ([(408, {})] * 3, [], False),
        ([(429, {}), (422, {})], [], False),
        ([(422, {"error": "ConcurrencyError"}), (400, {})], [], False),
        # Whatever the first call did, the id is not ours to remove, or is gone.
        ([OUT_OF_ORDER, (409, {})], [], False),
        ([OUT_OF_ORDER, (410, {})], [], False),
    ],
    ids=str,
)
async def test_it_removes_exactly_what_may_have_been_left(
    story: Story, engine_of: Callable[..., Any], starts: list[Any], polls: list[Any], *, is_cleaned: bool
) -> None:
    story.broker.starts.extend(starts)
    story.broker.polls.extend(polls)
    request = await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
        assert job["state"] == "failed"
        if is_cleaned:
            await story.cleaned_up()
    clean_ups = rows(story.url, "select * from jobs where is_clean_up")
    assert len(clean_ups) == int(is_cleaned)
    deletes = [call for call in story.broker.calls if call.method == "DELETE"]
    assert len(deletes) == int(is_cleaned)
    for clean_up, call in zip(clean_ups, deletes, strict=True):
        assert (clean_up["state"], clean_up["parent_guid"]) == ("succeeded", request.guid)
        assert clean_up["created_at"] == job["completed_at"]  # the same statement
        assert call.path == f"/v2/service_instances/i-1/backups/{request.resource_guid}"
        assert call.query == {"service_id": "service/id", "plan_id": "plan&id", "accepts_incomplete": "true"}
        assert call.headers["X-Broker-API-Request-Identity"] == str(clean_up["guid"])
        # OSB: orphan mitigation is on nobody's behalf.
        assert "X-Broker-API-Originating-Identity" not in call.headers


async def test_it_removes_what_a_worker_may_have_begun_that_died_on_every_attempt(
    story: Story, engine_of: Callable[..., Any]
) -> None:
    request = await story.accept()
    async with Database(story.settings, size=1, name="test") as database:
        for _ in range(3):
            found = await Jobs(database, story.settings).claim([request.guid], owner="dead", lease_s=60)
            assert found.claims
            rows(story.url, "update jobs set lease_until = now(), next_hint_at = now()")
    async with engine_of(story.settings):
        job = await story.end()
        assert (job["state"], story.starts()) == ("failed", [])
        await story.cleaned_up()
    assert story.broker.deleted == {str(request.resource_guid)}


async def test_it_cleans_up_a_late_success_so_that_there_is_one_truth(
    story: Story, engine_of: Callable[..., Any]
) -> None:
    story.broker.polls_until_done = 10**9
    request = await story.accept(deadline_s=0.3)
    async with engine_of(story.settings):
        job = await story.end()
        story.broker.polls_until_done = 0  # it finishes after all
        await story.cleaned_up()
    assert (job["state"], job["errors"][0]["code"]) == ("failed", 290006)
    assert story.broker.deleted == {str(request.resource_guid)}
    assert rows(story.url, "select state from backups") == [{"state": "failed"}]


async def test_it_takes_a_success_that_came_just_before_the_deadline(
    story: Story, engine_of: Callable[..., Any]
) -> None:
    request = await story.accept(deadline_s=0.2)
    rows(story.url, "update jobs set state = 'poll', due_at = deadline_at, next_hint_at = deadline_at")
    story.broker.made[str(request.resource_guid)] = 1
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], story.steps()) == ("succeeded", [("poll", "success")])


@pytest.mark.parametrize(
    "troubles",
    [
        [
            (500, {}),
            (401, {}),
            (404, {}),
            (429, {}),
            (503, {}, {"Retry-After": "0"}),
            (422, {"error": "x"}),
            (200, b""),
        ],
        [(202, {"operation": "op"})],
    ],
    ids=["unclear", "asynchronous"],
)
async def test_it_asks_again_until_it_is_gone(story: Story, engine_of: Callable[..., Any], troubles: list[Any]) -> None:
    story.broker.polls.append(FAILED_POLL)
    story.broker.deletes.extend(troubles)
    await story.accept()
    async with engine_of(story.settings):
        clean_up = await story.cleaned_up()
    assert clean_up["state"] == "succeeded"
    assert not story.broker.deletes


@pytest.mark.parametrize("answer", [(410, {}), (200, {"state": "succeeded"})], ids=str)
async def test_it_polls_a_removal_until_it_is_gone(
    story: Story, engine_of: Callable[..., Any], answer: tuple[Any, ...]
) -> None:
    story.broker.polls.extend([FAILED_POLL, (200, {"state": "in progress"}), (500, {}), answer])
    story.broker.deletes.append((202, {"operation": "op"}))
    await story.accept()
    async with engine_of(story.settings):
        clean_up = await story.cleaned_up()
    assert (clean_up["state"], clean_up["attempts"], clean_up["polls"]) == ("succeeded", 1, 3)


async def test_it_asks_anew_when_a_removal_failed(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls.extend([FAILED_POLL, (200, {"state": "failed", "description": "busy"})])
    story.broker.deletes.append((202, {"operation": "op"}))
    await story.accept()
    async with engine_of(story.settings):
        clean_up = await story.cleaned_up()
    assert (clean_up["state"], clean_up["attempts"]) == ("succeeded", 2)


async def test_it_gives_up_after_bounded_tries_and_an_operator_can_begin_anew(
    make_settings: Callable[..., Settings], broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    story = Story(make_settings(**QUICK | {"clean_up_attempts": 3}), broker)
    broker.polls.append(FAILED_POLL)
    broker.deletes.extend([(400, {"description": "no"})] * 3)
    await story.accept()
    async with engine_of(story.settings), Database(story.settings, size=1, name="test") as database:
        jobs = Jobs(database, story.settings)
        given_up = await story.cleaned_up()
        assert (given_up["state"], given_up["attempts"]) == ("failed", 3)
        (listed,) = await jobs.list_clean_ups()
        assert (listed.guid, listed.state) == (given_up["guid"], "failed")
        assert listed.errors[0]["detail"] == "clean-up could not be completed: no"
        anew = await jobs.retry_clean_up(given_up["guid"])
        assert anew
        assert await jobs.retry_clean_up(given_up["guid"]) is None
        await eventually(
            lambda: rows(story.url, "select state from jobs where guid = %s", anew)[0]["state"] == "succeeded"
        )
        assert await jobs.list_clean_ups() == []
        assert await jobs.retry_clean_up(anew) is None
        assert await jobs.retry_clean_up(uuid.uuid4()) is None


async def test_it_does_not_hold_the_instance(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls.append(FAILED_POLL)
    story.broker.deletes.extend([OUT_OF_ORDER] * 10**3)
    await story.accept()
    async with engine_of(story.settings):
        await story.end()
        await story.accept()
        assert (await story.end())["state"] == "succeeded"
        story.broker.deletes.clear()
        await story.cleaned_up()


async def test_it_says_so_where_the_broker_can_remove_nothing(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls.append(FAILED_POLL)
    await story.accept(operation=Operation.RESTORE, restore=RestorePoint(backup_id="b"), can_undo=False)
    async with engine_of(story.settings):
        job = await story.end()
    assert job["warnings"] == [{"detail": "The service broker cannot remove what this operation may have left there."}]
    assert rows(story.url, "select 1 from jobs where is_clean_up") == []


@pytest.mark.parametrize(
    "change",
    [
        "parent_guid = null",
        "parent_guid = gen_random_uuid()",
        "resource_guid = gen_random_uuid()",
        "request_body = '{}'",
        "operation = 'service_instance.create_backup'",
        "deadline_at = 'infinity'",
        "unclear_starts = -1",
    ],
)
async def test_it_is_kept_in_order_by_the_schema(story: Story, engine_of: Callable[..., Any], change: str) -> None:
    story.broker.polls.append(FAILED_POLL)
    story.broker.deletes.extend([OUT_OF_ORDER] * 10**3)
    await story.accept()
    async with engine_of(story.settings):
        await story.end()
        await eventually(lambda: story.clean_up()["attempts"] > 0)
    with pytest.raises(psycopg.IntegrityError):
        await asyncio.to_thread(rows, story.url, f"update jobs set {change} where completed_at is null")


async def test_it_lets_no_other_job_go_back_to_its_start(story: Story) -> None:
    await story.accept()
    rows(story.url, "update jobs set state = 'poll'")
    with pytest.raises(psycopg.IntegrityError):
        rows(story.url, "update jobs set state = 'start'")
