"""`safekeep clean-ups` on a real database: what an operator reads, and what beginning anew does and does not."""

from __future__ import annotations

import json
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from deploy.cli import main
from deploy.cli.clean_ups import retry_clean_ups, show_clean_ups
from tests.integration.test_engine import Story
from tests.support import QUICK, eventually, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from shared.settings import Settings
    from tests.support import ScriptedBroker


class Desk(Story):
    """An operator, and clean-ups in the states that they look at."""

    def __init__(self, settings: Settings, broker: ScriptedBroker, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(settings, broker)
        self._capsys = capsys

    async def clean_up_that(self, state: str, instance: str = "i-1", words: str = "no room") -> UUID:
        """A failed backup with a clean-up that is at work, was given up or has succeeded."""
        request = await self.accept(instance)
        end = "completed_at = now() - interval '2 hours', due_at = null"
        errors = json.dumps([{"code": 10009, "title": "t", "detail": words}])
        rows(self.url, f"update jobs set state = 'failed', errors = %s, {end} where guid = %s", errors, request.guid)
        rows(
            self.url, "update backups set state = 'failed', completed_at = now() where guid = %s", request.resource_guid
        )
        (clean_up,) = rows(
            self.url,
            "insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid,"
            " request_id, request_body, parent_guid, due_at, next_hint_at, deadline_at, broker_description)"
            " select gen_random_uuid(), 'service_instance.clean_up_backup', service_instance_guid, broker_guid,"
            " resource_guid, user_guid, request_id, request_body, guid, now() + interval '90 s', now(),"
            " now() + interval '3 days', %s from jobs where guid = %s returning guid",
            words,
            request.guid,
        )
        if state == "given up":
            change = f"state = 'failed', attempts = 20, errors = %s, {end}"
            rows(self.url, f"update jobs set {change} where guid = %s", errors, clean_up["guid"])
        elif state == "succeeded":
            rows(self.url, f"update jobs set state = 'succeeded', {end} where guid = %s", clean_up["guid"])
        guid: UUID = clean_up["guid"]
        return guid

    async def listed(self) -> list[list[str]]:
        assert await show_clean_ups(self.settings, as_json=False) == 0
        # An engine in the same process logs to the same place.
        return [line.split("\t") for line in self._capsys.readouterr().out.splitlines() if "\t" in line]

    async def list_json(self) -> Any:
        assert await show_clean_ups(self.settings, as_json=True) == 0
        return json.loads(self._capsys.readouterr().out)

    async def retry(self, *guids: UUID, with_all: bool = False) -> tuple[int, list[str]]:
        code = await retry_clean_ups(self.settings, guids, with_all=with_all)
        return code, self._capsys.readouterr().out.splitlines()


@pytest.fixture
def desk(make_settings: Callable[..., Settings], broker: ScriptedBroker, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(make_settings(**QUICK | {"clean_up_attempts": 2}), broker, capsys)


async def test_it_lists_what_is_at_work_and_what_was_given_up(desk: Desk) -> None:
    at_work = await desk.clean_up_that("at work", words="busy\tnow\x1b[2J")
    given_up = await desk.clean_up_that("given up")
    await desk.clean_up_that("succeeded")
    resources = {row["guid"]: row["resource_guid"] for row in rows(desk.url, "select guid, resource_guid from jobs")}
    first, second = await desk.listed()
    assert first == [
        str(at_work), f"backup {resources[at_work]}", "instance i-1", "at work, next try in 1 min", "broker", "0",
        "busy now [2J",
    ]  # fmt: skip
    assert second == [
        str(given_up), f"backup {resources[given_up]}", "instance i-1", "given up 2 h ago", "broker", "20", "no room",
    ]  # fmt: skip
    one, two = await desk.list_json()
    assert (one["guid"], one["state"], one["given_up_at"]) == (str(at_work), "at work", None)
    assert one["last_words"] == "busy\tnow\x1b[2J"
    assert (two["state"], two["next_try_at"], two["attempts"], two["broker"]) == ("given up", None, 20, "broker")
    assert two["resource"] == {"type": "backup", "guid": str(resources[given_up])}


async def test_it_prints_nothing_when_all_is_removed(desk: Desk) -> None:
    await desk.clean_up_that("succeeded")
    assert (await desk.listed(), await desk.list_json()) == ([], [])
    assert await desk.retry(with_all=True) == (0, ["0 clean-ups begun anew"])


async def test_it_begins_anew_what_was_given_up_and_says_what_it_did_not(desk: Desk) -> None:
    given_up = await desk.clean_up_that("given up")
    at_work = await desk.clean_up_that("at work")
    succeeded = await desk.clean_up_that("succeeded")
    (parent,) = rows(desk.url, "select parent_guid from jobs where guid = %s", given_up)
    unknown = uuid.uuid4()
    code, lines = await desk.retry(given_up, at_work, succeeded, parent["parent_guid"], unknown)
    (new,) = rows(desk.url, "select guid, due_at <= now() as is_due from jobs where parent_guid = %s", given_up)
    assert (code, new["is_due"]) == (1, True)
    assert lines == [
        f"begun anew: {given_up} as {new['guid']}",
        f"not begun: {at_work}: it is at work",
        f"not begun: {succeeded}: it has succeeded",
        f"not begun: {parent['parent_guid']}: that job is no clean-up",
        f"not begun: {unknown}: there is no such job; it may have been deleted after its time",
        "1 clean-up begun anew",
    ]
    code, lines = await desk.retry(given_up)
    assert (code, lines[0]) == (1, f"not begun: {given_up}: it was begun anew already, as {new['guid']}")
    assert str(given_up) not in {row[0] for row in await desk.listed()}


async def test_it_says_when_another_is_at_work_on_the_same_thing(desk: Desk) -> None:
    given_up = await desk.clean_up_that("given up")
    (other,) = rows(
        desk.url,
        "insert into jobs (guid, operation, service_instance_guid, broker_guid, resource_guid, user_guid, request_id,"
        " request_body, parent_guid, due_at, next_hint_at, deadline_at)"
        " select gen_random_uuid(), operation, service_instance_guid, broker_guid, resource_guid, user_guid,"
        " request_id, request_body, parent_guid, now(), now(), now() + interval '1 day' from jobs where guid = %s"
        " returning guid",
        given_up,
    )
    code, lines = await desk.retry(with_all=True)
    assert (code, lines[0]) == (
        1,
        f"not begun: {given_up}: another clean-up is at work on the same thing, {other['guid']}",
    )


async def test_it_begins_all_anew_once(desk: Desk) -> None:
    given_up = {await desk.clean_up_that("given up") for _ in range(3)}
    await desk.clean_up_that("at work")
    code, lines = await desk.retry(with_all=True)
    assert (code, lines[-1]) == (0, "3 clean-ups begun anew")
    assert {row["parent_guid"] for row in rows(desk.url, "select parent_guid from jobs where is_clean_up")} >= given_up
    assert await desk.retry(with_all=True) == (0, ["0 clean-ups begun anew"])


async def test_it_shows_what_the_broker_answered_and_removes_it_after_all(
    desk: Desk, engine_of: Callable[..., Any]
) -> None:
    desk.broker.polls.append((200, {"state": "failed"}))
    desk.broker.deletes.extend([(500, {})] * 2)
    await desk.accept()
    async with engine_of(desk.settings):
        given_up = await desk.cleaned_up()
        (row,) = await desk.listed()
        assert (row[0], row[3], row[5]) == (str(given_up["guid"]), "given up 0 s ago", "2")
        assert row[6].startswith("clean-up could not be completed: ")
        code, _ = await desk.retry(given_up["guid"])
        assert code == 0
        anew = "select 1 from jobs where parent_guid = %s and state = 'succeeded'"
        await eventually(lambda: bool(rows(desk.url, anew, given_up["guid"])))
    assert await desk.listed() == []


def test_it_is_a_command(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(main, "_settings_for", lambda _command: desk.settings)

    def safekeep(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["safekeep", *arguments])
        with pytest.raises(SystemExit) as end:
            main.app()
        return int(end.value.code or 0)

    assert safekeep("clean-ups", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert safekeep("clean-ups", "--retry", str(uuid.uuid4()), "--retry", str(uuid.uuid4())) == 1
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert safekeep("clean-ups", "--retry-all") == 0
    assert safekeep("clean-ups", "--retry", "x") == 2
