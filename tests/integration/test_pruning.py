"""Deleting what ended long ago, and keeping what somebody may still need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.integration.test_engine import Story
from tests.support import QUICK, eventually, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings
    from tests.support import ScriptedBroker

DAY_S = 86400.0


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(**QUICK | {"prune_interval_s": 0.05, "retention_s": 90 * DAY_S})


@pytest.fixture
def story(settings: Settings, broker: ScriptedBroker) -> Story:
    return Story(settings, broker)


def age(story: Story, days: int) -> None:
    """Let everything that has ended have ended so many days earlier."""
    rows(story.url, "alter table jobs disable trigger user")
    for table in ("jobs", "backups"):
        rows(
            story.url,
            f"update {table} set created_at = created_at - make_interval(days => %s),"
            " completed_at = completed_at - make_interval(days => %s) where completed_at is not null",
            days,
            days,
        )
    rows(story.url, "alter table jobs enable trigger user")


async def test_it_deletes_old_jobs_but_never_that_of_the_newest_backup(
    story: Story, engine_of: Callable[..., Any]
) -> None:
    async with engine_of(story.settings.model_copy(update={"prune_interval_s": 3600.0})):
        requests = []
        for is_refused in (False, True, False, True):
            story.broker.starts.extend([(400, {})] * is_refused)
            requests.append(await story.accept())
            await story.end()
            age(story, 1)
        age(story, 100)
        requests.append(await story.accept())
        story.broker.starts.append((400, {}))
        await story.end()
    async with engine_of(story.settings):
        await eventually(lambda: rows(story.url, "select count(*) as n from jobs") == [{"n": 2}])
    # The newest backup that succeeded is old, and stays with its job; so does what is not old.
    kept = {row["guid"] for row in rows(story.url, "select guid from jobs")}
    assert kept == {requests[2].guid, requests[4].guid}
    assert rows(story.url, "select count(*) as n from job_steps where job_guid <> all(%s)", list(kept)) == [{"n": 0}]
    # A backup that can be restored stays, though its job is gone.
    backups = rows(story.url, "select guid from backups where state = 'succeeded'")
    assert {row["guid"] for row in backups} == {requests[0].resource_guid, requests[2].resource_guid}
    assert rows(story.url, "select count(*) as n from backups") == [{"n": 3}]


async def test_it_never_deletes_a_job_that_is_open(story: Story) -> None:
    await story.accept()
    async with Database(story.settings, size=1, name="test") as database:
        jobs = Jobs(database, story.settings)
        assert await jobs.prune(retention_s=0, limit=10) == 0
    assert rows(story.url, "select count(*) as n from jobs") == [{"n": 1}]


async def test_it_deletes_in_batches_that_several_may_do_at_once(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.starts.extend([(400, {})] * 5)
    async with engine_of(story.settings.model_copy(update={"prune_interval_s": 3600.0})):
        for _ in range(5):
            await story.accept()
            await story.end()
    async with Database(story.settings, size=2, name="test") as database:
        jobs = Jobs(database, story.settings)
        counts = [await jobs.prune(retention_s=0, limit=2) for _ in range(4)]
    assert counts == [2, 2, 1, 0]
    assert rows(story.url, "select count(*) as n from backups") == [{"n": 0}]


async def test_it_keeps_a_clean_up_that_was_given_up_until_somebody_sees_to_it(
    story: Story, engine_of: Callable[..., Any]
) -> None:
    story.broker.polls.append((200, {"state": "failed"}))
    story.broker.deletes.append((400, {}))
    settings = story.settings.model_copy(update={"prune_interval_s": 3600.0, "clean_up_attempts": 1})
    async with engine_of(settings), Database(settings, size=1, name="test") as database:
        await story.accept()
        given_up = await story.cleaned_up()
        age(story, 1)
        jobs = Jobs(database, settings)
        assert await jobs.prune(retention_s=1, limit=10) == 1
        assert [each.guid for each in await jobs.list_clean_ups()] == [given_up["guid"]]
        anew = await jobs.retry_clean_up(given_up["guid"])
        await eventually(lambda: story.clean_up()["state"] == "succeeded")
        assert story.clean_up()["guid"] == anew
        assert await jobs.prune(retention_s=1, limit=10) == 1
    assert [row["guid"] for row in rows(story.url, "select guid from jobs")] == [anew]


async def test_it_deletes_a_clean_up_and_its_job_each_in_its_time(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls.append((200, {"state": "failed"}))
    async with engine_of(story.settings.model_copy(update={"prune_interval_s": 3600.0})):
        await story.accept()
        await story.cleaned_up()
    age(story, 91)
    async with engine_of(story.settings):
        await eventually(lambda: rows(story.url, "select 1 from jobs") == [])
