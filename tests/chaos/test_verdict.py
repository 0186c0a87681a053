"""The verdict, where something is wrong in database or ledger: a judge that never condemns proves nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.chaos import verdict as verdicts
from tests.chaos.clients import Seen
from tests.chaos.ledger import Begun, Memory
from tests.chaos.verdict import Verdict, Wrong, count_open, judge_stack
from tests.support import rows, seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings

INSERT_JOB = """
insert into jobs (guid, operation, state, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,
                  request_body, due_at, next_hint_at, deadline_at, completed_at, errors)
values (%s, 'service_instance.create_backup', %s, %s, %s, %s, 'u', 'r', '{}', case when %s then null else now() end,
        now(), now(), case when %s then now() end, %s::jsonb)
"""
INSERT_BACKUP = """
insert into backups (guid, service_instance_guid, state, completed_at)
values (%s, %s, %s, case when %s <> 'in progress' then now() end)
"""


class World:
    """Jobs as all three witnesses have them; each test makes one of them say something else."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.database_url.get_secret_value()
        self.broker_guid: UUID = seed(settings).broker_guid
        self.seen: list[Seen] = []
        self.memory = Memory()

    def job(self, state: str, *, at_broker: str | None, backup_state: str | None = None) -> str:
        """A job in `state` that its client saw, with its backup `at_broker`; the backup's guid."""
        guid, backup = str(uuid4()), str(uuid4())
        is_over = state in {"succeeded", "failed"}
        errors = '[{"code": 1}]' if state == "failed" else "[]"
        row = (guid, state, f"i-{guid}", self.broker_guid, backup, is_over, is_over, errors)
        rows(self.url, INSERT_JOB, *row)
        backup_state = backup_state or (state if is_over else "in progress")
        rows(self.url, INSERT_BACKUP, backup, f"i-{guid}", backup_state, backup_state)
        public = {"succeeded": "COMPLETE", "failed": "FAILED"}.get(state, "POLLING")
        self.seen.append(Seen(f"i-{guid}", f"http://host/v3/jobs/{guid}", public, {"state": public}))
        if at_broker is not None:
            self.begin(backup, guid, at_broker)
        return backup

    def begin(self, backup: str, job: str, state: str) -> None:
        now = time.time()
        ends_at = now + 1000 if state == "in progress" else now
        begun = Begun(backup, "i", job, "{}", now, ends_at, "failed" if state == "failed" else "succeeded")
        self.memory.take({"event": "begin", "backup": vars(begun)})
        if state == "gone":
            self.memory.take({"event": "delete", "id": backup, "gone_at": now})

    def judge(self, unknown_posts: int = 0) -> dict[Wrong, list[str]]:
        verdict = Verdict()
        judge_stack(verdict, self.seen, unknown_posts, self.url, self.memory)
        return {kind: texts for kind, texts in verdict.found.items() if texts}


@pytest.fixture
def world(make_settings: Callable[..., Any]) -> World:
    return World(make_settings())


def test_it_finds_nothing_where_all_agree(world: World) -> None:
    world.job("succeeded", at_broker="succeeded")
    world.job("failed", at_broker="failed")
    world.job("failed", at_broker="gone")
    world.job("failed", at_broker=None)
    assert world.judge() == {}
    assert count_open(world.url) == 0


@pytest.mark.parametrize("at_broker", ["in progress", "failed", "gone", None])
def test_it_condemns_success_without_a_backup(world: World, at_broker: str | None) -> None:
    world.job("succeeded", at_broker=at_broker)
    assert list(world.judge()) == [Wrong.CONTRADICTING]


@pytest.mark.parametrize("at_broker", ["in progress", "succeeded"])
@pytest.mark.parametrize("cleans_up", [True, False])
def test_it_condemns_a_live_backup_of_a_failed_job_once_there_are_clean_ups(
    world: World, at_broker: str, *, cleans_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "CLEANS_UP", cleans_up)
    world.job("failed", at_broker=at_broker)
    assert list(world.judge()) == ([Wrong.CONTRADICTING] if cleans_up else [])


def test_it_condemns_a_row_that_is_gone(world: World) -> None:
    world.seen.append(Seen("i", f"http://host/v3/jobs/{uuid4()}", "COMPLETE", {"state": "COMPLETE"}))
    assert list(world.judge()) == [Wrong.LOST]


def test_it_condemns_a_job_that_has_not_ended(world: World) -> None:
    world.job("poll", at_broker="in progress")
    assert list(world.judge()) == [Wrong.STUCK]


def test_it_condemns_a_backup_that_was_begun_twice(world: World) -> None:
    backup = world.job("succeeded", at_broker="succeeded")
    world.begin(backup, world.memory.backups[backup].job, "succeeded")
    assert list(world.judge()) == [Wrong.DOUBLED]


def test_it_condemns_two_backups_of_one_job(world: World) -> None:
    backup = world.job("succeeded", at_broker="succeeded")
    world.begin(str(uuid4()), world.memory.backups[backup].job, "succeeded")
    assert set(world.judge()) == {Wrong.DOUBLED, Wrong.CONTRADICTING}


def test_it_condemns_an_id_that_came_with_two_requests(world: World) -> None:
    world.memory.take({"event": "conflict", "id": world.job("succeeded", at_broker="succeeded")})
    assert list(world.judge()) == [Wrong.DOUBLED]


def test_it_condemns_a_client_that_was_told_otherwise(world: World) -> None:
    world.job("succeeded", at_broker="succeeded")
    world.seen[0].state = "FAILED"
    assert list(world.judge()) == [Wrong.CONTRADICTING]


def test_it_condemns_a_backup_that_says_otherwise_than_its_job(world: World) -> None:
    world.job("succeeded", at_broker="succeeded", backup_state="failed")
    assert list(world.judge()) == [Wrong.CONTRADICTING]


def test_it_condemns_jobs_that_nobody_asked_for(world: World) -> None:
    world.job("succeeded", at_broker="succeeded")
    world.seen.clear()
    assert list(world.judge()) == [Wrong.CONTRADICTING]
    assert world.judge(unknown_posts=1) == {}
