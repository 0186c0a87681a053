"""`safekeep reconcile` against a broker over real HTTP and a real database: what it finds, mends, and never touches."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from deploy.cli import main
from deploy.cli.reconcile import reconcile
from shared.security.secrets import Sealer
from shared.states import Operation
from shared.store.backups import Backups
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.integration.test_engine import Story
from tests.support import QUICK, eventually, job_request, rows, seed
from worker.broker.client import BrokerClient
from worker.maintenance import reconciliation
from worker.maintenance.reconcile import Finding, Kind
from worker.maintenance.reconciliation import Reconciliation

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from shared.settings import Settings
    from tests.support import ScriptedBroker

FAILED = '[{"code": 10009, "title": "t", "detail": "no"}]'


class Desk(Story):
    """An operator, and backups on both sides in the states that they look at."""

    def __init__(self, settings: Settings, broker: ScriptedBroker, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(settings, broker)
        self._capsys = capsys

    async def backup(self, state: str, *, is_at_broker: bool, instance: str = "i-1", can_undo: bool = True) -> UUID:
        """A backup of ours, ended in `state`."""
        request = await self.accept(instance, can_undo=can_undo)
        guid = request.resource_guid
        end = "due_at = null, completed_at = now()"
        if state == "succeeded":
            rows(self.url, f"update jobs set state = 'succeeded', {end} where guid = %s", request.guid)
        elif state == "failed":
            rows(
                self.url, f"update jobs set state = %s, errors = %s, {end} where guid = %s", state, FAILED, request.guid
            )
        if state != "in progress":
            rows(self.url, "update backups set state = %s, completed_at = now() where guid = %s", state, guid)
        if is_at_broker:
            self.broker.made_for[str(guid)] = instance
            self.broker.made[str(guid)] = 1
        else:
            self.broker.deleted.add(str(guid))
        return guid

    async def reconcile(self, **more: Any) -> tuple[int, Any]:
        self._capsys.readouterr()  # an engine that ran in the same process logged to the same place
        code = await reconcile(self.settings, as_json=True, **more)
        return code, json.loads(self._capsys.readouterr().out)

    async def found(self, **more: Any) -> list[tuple[str, str, str]]:
        _, report = await self.reconcile(**more)
        return [(each["finding"], each["backup_id"], each["remedy"]) for each in report["findings"]]

    def states(self) -> dict[UUID, str]:
        return {row["guid"]: row["state"] for row in rows(self.url, "select guid, state from backups")}


@pytest.fixture
def desk(make_settings: Callable[..., Settings], broker: ScriptedBroker, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(make_settings(**QUICK), broker, capsys)


async def test_it_finds_nothing_where_both_sides_agree(desk: Desk) -> None:
    for state, is_at_broker in (("succeeded", True), ("failed", False)):
        await desk.backup(state, is_at_broker=is_at_broker)
    await desk.backup("in progress", is_at_broker=False)
    code, report = await desk.reconcile()
    assert (code, report["findings"], report["errors"]) == (0, [], [])
    assert report["counts"]["instances"] == 1
    (call,) = desk.broker.calls
    assert (call.path, call.query) == ("/v2/service_instances/i-1/backups", {"limit": "1000"})
    assert str(uuid.UUID(call.headers["X-Broker-API-Request-Identity"]))
    assert "X-Broker-API-Originating-Identity" not in call.headers


async def test_it_marks_what_is_gone_so_that_it_is_no_longer_offered(desk: Desk) -> None:
    gone = await desk.backup("succeeded", is_at_broker=False)
    kept = await desk.backup("succeeded", is_at_broker=True)
    ended = rows(desk.url, "select completed_at from backups where guid = %s", gone)

    assert await desk.found() == [("gone at the broker", str(gone), "--fix would mark it as deleted")]
    assert (await desk.reconcile())[0] == 3
    assert desk.states() == {gone: "succeeded", kept: "succeeded"}

    code, report = await desk.reconcile(fix=True)
    assert (code, report["counts"]["mended"], report["counts"]["remaining"]) == (0, 1, 0)
    assert desk.states() == {gone: "deleted", kept: "succeeded"}
    assert rows(desk.url, "select completed_at from backups where guid = %s", gone) == ended
    async with Database(desk.settings, size=1, name="test") as database:
        backups = Backups(database)
        assert [backup.guid for backup in await backups.list_newest("i-1", 10)] == [kept]
        assert await backups.find_succeeded(gone, "i-1") is None
    assert await desk.reconcile() == (0, {"findings": [], "errors": [], "counts": report["counts"] | {
        "findings": 0, "mended": 0}})  # fmt: skip


@pytest.mark.parametrize("state", ["failed", "deleting"])
async def test_it_takes_for_gone_what_the_broker_has_lost(desk: Desk, state: str) -> None:
    guid = await desk.backup("succeeded", is_at_broker=True)
    desk.broker.lists["i-1"] = (200, {"backups": [{"id": str(guid), "state": state}]})
    assert await desk.found(fix=True) == [("gone at the broker", str(guid), "marked as deleted")]
    assert (await desk.reconcile())[0] == 0


async def test_it_offers_again_what_came_back_and_never_removes_it(desk: Desk) -> None:
    guid = await desk.backup("succeeded", is_at_broker=True)
    desk.broker.deleted.add(str(guid))
    await desk.reconcile(fix=True)
    desk.broker.deleted.clear()
    assert await desk.found() == [("back at the broker", str(guid), "--fix would offer it again")]
    assert await desk.found(fix=True) == [("back at the broker", str(guid), "offered again")]
    assert desk.states() == {guid: "succeeded"}
    assert [call.method for call in desk.broker.calls if call.method != "GET"] == []


async def test_it_removes_again_what_a_user_had_deleted_and_never_offers_it(
    desk: Desk, engine_of: Callable[..., Any]
) -> None:
    guid = await desk.backup("succeeded", is_at_broker=True)
    deletion = job_request(desk.seeded.broker_guid, resource_guid=guid, operation=Operation.DELETE_BACKUP)
    async with Database(desk.settings, size=1, name="test") as database:
        await Jobs(database, desk.settings).accept_deletion(deletion)
    rows(desk.url, "update jobs set next_hint_at = now() where completed_at is null")
    async with engine_of(desk.settings):
        await eventually(lambda: desk.states() == {guid: "deleted"})
    assert await desk.found() == []
    desk.broker.deleted.clear()
    assert await desk.found() == [("left at the broker", str(guid), "--fix would begin a clean-up")]
    await desk.reconcile(fix=True)
    assert len(rows(desk.url, "select 1 from jobs where is_clean_up and completed_at is null")) == 1
    assert desk.states() == {guid: "deleted"}


async def test_it_does_not_believe_a_list_that_leaves_out_what_is_there(desk: Desk) -> None:
    guid = await desk.backup("succeeded", is_at_broker=True)
    desk.broker.lists["i-1"] = (200, {"backups": []})
    code, report = await desk.reconcile(fix=True)
    assert (code, report["findings"]) == (1, [])
    assert report["errors"] == [
        f"instance i-1 of broker broker: the service broker does not list backup {guid}, and yet has it"
    ]
    assert desk.states() == {guid: "succeeded"}


async def test_it_takes_nothing_for_gone_that_a_full_or_garbled_list_leaves_out(desk: Desk) -> None:
    await desk.backup("succeeded", is_at_broker=False)
    many = [{"id": f"b-{number}", "state": "succeeded"} for number in range(1000)]
    for entries, malformed, not_ours in ((many, 0, 1000), ([{"id": 7, "state": "succeeded"}], 1, 0)):
        desk.broker.lists["i-1"] = (200, {"backups": entries})
        code, report = await desk.reconcile(fix=True)
        assert (code, report["counts"]["findings"]) == (0, 0)
        assert (report["counts"]["malformed"], report["counts"]["not_ours"]) == (malformed, not_ours)


async def test_it_has_removed_what_was_left(desk: Desk, engine_of: Callable[..., Any]) -> None:
    guid = await desk.backup("failed", is_at_broker=True)
    assert await desk.found() == [("left at the broker", str(guid), "--fix would begin a clean-up")]
    assert rows(desk.url, "select 1 from jobs where is_clean_up") == []

    code, report = await desk.reconcile(fix=True)
    (clean_up,) = rows(desk.url, "select guid, parent_guid, resource_guid from jobs where is_clean_up")
    (job,) = rows(desk.url, "select guid from jobs where not is_clean_up")
    assert (code, report["findings"][0]["remedy"]) == (0, f"clean-up {clean_up['guid']} begun")
    assert (clean_up["parent_guid"], clean_up["resource_guid"]) == (job["guid"], guid)

    code, report = await desk.reconcile(fix=True)
    assert (code, report["findings"][0]["remedy"]) == (0, f"clean-up {clean_up['guid']} is at work")
    assert (report["counts"]["being_cleaned_up"], report["counts"]["findings"]) == (1, 0)

    async with engine_of(desk.settings):
        await desk.cleaned_up()
    assert desk.broker.deleted == {str(guid)}
    assert (await desk.reconcile())[1]["findings"] == []


async def test_it_goes_on_where_a_clean_up_was_given_up(desk: Desk) -> None:
    await desk.backup("failed", is_at_broker=True)
    await desk.reconcile(fix=True)
    rows(desk.url, "update jobs set state = 'failed', errors = %s, due_at = null, completed_at = now()"
         " where is_clean_up", FAILED)  # fmt: skip
    (given_up,) = rows(desk.url, "select guid from jobs where is_clean_up")
    assert (await desk.reconcile(fix=True))[0] == 0
    (anew,) = rows(desk.url, "select parent_guid from jobs where is_clean_up and completed_at is null")
    assert anew["parent_guid"] == given_up["guid"]
    async with Database(desk.settings, size=1, name="test") as database:
        (listed,) = await Jobs(database, desk.settings).list_clean_ups()
        assert listed.parent_guid == given_up["guid"]


async def test_it_only_reports_what_it_may_or_can_not_remove(desk: Desk) -> None:
    await desk.backup("failed", is_at_broker=True, can_undo=False)
    foreign = await desk.backup("failed", is_at_broker=True)
    rows(
        desk.url,
        "insert into job_steps (job_guid, fence, call, event, outcome, http_status, duration_ms, worker)"
        " select guid, 1, 'start', 'failed', 'refusal', 409, 1, 'w' from jobs where resource_guid = %s",
        foreign,
    )
    pruned = await desk.backup("failed", is_at_broker=True)
    rows(desk.url, "delete from jobs where resource_guid = %s", pruned)
    code, report = await desk.reconcile(fix=True)
    assert (code, report["counts"]["remaining"], report["counts"]["mendable"]) == (3, 3, 0)
    assert sorted(each["remedy"] for each in report["findings"]) == [
        "its broker cannot remove it, or said that the id is not ours",
        "its broker cannot remove it, or said that the id is not ours",
        "its job was deleted after its time",
    ]
    assert rows(desk.url, "select 1 from jobs where is_clean_up") == []


async def test_it_reports_what_is_not_ours_and_never_touches_it(desk: Desk) -> None:
    other = await desk.backup("succeeded", is_at_broker=True, instance="i-2")
    entries = [{"id": "nightly", "state": "succeeded", "trigger": "scheduled"}, {"id": str(other), "state": "failed"}]
    desk.broker.lists["i-1"] = (200, {"backups": entries})
    code, report = await desk.reconcile(fix=True)
    assert (code, report["counts"]["not_ours"]) == (0, 2)
    assert (report["findings"][0]["remedy"], report["findings"][0]["finding"]) == ("trigger: scheduled", "not ours")
    assert {call.method for call in desk.broker.calls} == {"GET"}
    assert desk.states() == {other: "succeeded"}


async def test_it_leaves_alone_what_ends_while_the_broker_is_asked(desk: Desk) -> None:
    guid = await desk.backup("in progress", is_at_broker=False)
    new = uuid.UUID(int=0)

    async def finish_meanwhile(_request: web.Request) -> web.StreamResponse:
        nonlocal new
        rows(desk.url, "update backups set state = 'succeeded', completed_at = now()")
        rows(desk.url, "update jobs set state = 'succeeded', due_at = null, completed_at = now()")
        new = await desk.backup("in progress", is_at_broker=True)
        return web.json_response({"backups": [{"id": str(new), "state": "in progress"}]})

    desk.broker.lists["i-1"] = finish_meanwhile
    code, report = await desk.reconcile(fix=True)
    assert (code, report["findings"]) == (0, [])
    assert desk.states() == {guid: "succeeded", new: "in progress"}


async def test_it_looks_again_before_it_mends(desk: Desk) -> None:
    gone = await desk.backup("succeeded", is_at_broker=False)
    left = await desk.backup("failed", is_at_broker=True)
    sealer = Sealer([key.get_secret_value() for key in desk.settings.secret_keys])
    async with Database(desk.settings, size=1, name="test") as database, BrokerClient(desk.settings, sealer) as client:
        backups, jobs = Backups(database), Jobs(database, desk.settings)
        work = Reconciliation(desk.settings, backups, jobs, client)
        (report,) = await work.compare(await backups.list_instances())
        findings = {finding.backup_id: finding for finding in report.findings}
        assert set(findings) == {str(gone), str(left)}
        rows(desk.url, "update backups set completed_at = now() where guid = %s", gone)
        rows(desk.url, "update backups set state = 'succeeded' where guid = %s", left)
        for finding in findings.values():
            assert await work.mend(finding) == (False, "it has changed meanwhile")
        rows(desk.url, "update backups set state = 'failed' where guid = %s", left)
        done = await asyncio.gather(*(work.mend(findings[str(left)]) for _ in range(4)))
        assert sorted(is_done for is_done, _ in done) == [False, False, False, True]
        with pytest.raises(ValueError, match="nothing to mend"):
            await work.mend(Finding(Kind.FOREIGN, "x"))
    assert desk.states() == {gone: "succeeded", left: "failed"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, {}), "the service broker answered with status 500"),
        ((404, {}), "the service broker answered with status 404"),
        ((200, b"no json"), "the service broker answered without a list of backups"),
        ((200, {"backups": {}}), "the service broker answered without a list of backups"),
    ],
    ids=str,
)
async def test_it_goes_on_with_others_when_a_broker_makes_no_sense(
    desk: Desk, answer: tuple[Any, ...], error: str
) -> None:
    await desk.backup("succeeded", is_at_broker=True)
    desk.broker.lists["i-1"] = answer
    rows(desk.url, "insert into service_instances (guid, name, type, space_guid, plan_guid)"
         " select 'i-2', 'two', type, space_guid, plan_guid from service_instances")  # fmt: skip
    gone = await desk.backup("succeeded", is_at_broker=False, instance="i-2")
    code, report = await desk.reconcile(fix=True)
    assert (code, report["errors"]) == (1, [f"instance i-1 of broker broker: {error}"])
    assert [each["backup_id"] for each in report["findings"]] == [str(gone)]


async def test_it_asks_few_at_once_and_soon_leaves_a_silent_broker_alone(desk: Desk) -> None:
    guids = [f"silent-{number}" for number in range(30)]
    seed(desk.settings, instances=guids, broker="silent", broker_url="http://127.0.0.1:9")
    code, report = await desk.reconcile()
    assert (code, report["counts"]["instances"], report["counts"]["not_compared"]) == (1, 31, 30)
    left_out = [error for error in report["errors"] if "was not asked" in error]
    assert 30 - reconciliation.CALLS_IN_FLIGHT - desk.settings.breaker_failures <= len(left_out) < 30
    code, report = await desk.reconcile(brokers=["broker"])
    assert (code, report["counts"]["instances"]) == (0, 1)


async def test_it_keeps_to_its_limits_and_those_of_a_broker(desk: Desk, broker: ScriptedBroker) -> None:
    guids = [f"many-{number}" for number in range(20)]
    at_once, most = 0, 0
    full = asyncio.Event()

    async def hold(_request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == expected:
            full.set()
        await full.wait()
        at_once -= 1
        return web.json_response({"backups": []})

    seed(desk.settings, instances=guids, broker="other", broker_url=broker.url)
    broker.lists.update(dict.fromkeys(guids, hold))
    for limit, expected in ((None, 8), (3, 3)):
        rows(desk.url, "update brokers set calls_in_flight = %s", limit)
        most = 0
        full.clear()
        assert (await desk.reconcile(brokers=["other"]))[0] == 0
        assert most == expected


async def test_it_compares_what_it_is_told_to(desk: Desk) -> None:
    seed(desk.settings, instances=["i-3"], broker="without", broker_url=desk.broker.url, features=())
    seed(desk.settings, instances=["i-4"], broker="other", broker_url=desk.broker.url)
    for chosen, paths, errors in (
        ({}, {"i-1", "i-4"}, []),
        ({"instances": ["i-4"]}, {"i-4"}, []),
        ({"brokers": ["broker"]}, {"i-1"}, []),
        ({"brokers": ["broker"], "instances": ["i-1"]}, {"i-1"}, []),
        ({"instances": ["i-3", "i-1"]}, {"i-1"}, ["there is no instance i-3 whose plan has backups"]),
        (
            {"brokers": ["other"], "instances": ["i-1"]},
            set(),
            ["there is no instance i-1 of these brokers whose plan has backups"],
        ),
        ({"brokers": ["nobody"]}, set(), ["broker nobody has no instance whose plan has backups"]),
    ):
        desk.broker.calls.clear()
        code, report = await desk.reconcile(**chosen)
        assert {call.path.split("/")[3] for call in desk.broker.calls} == paths
        assert (code, report["errors"]) == (int(bool(errors)), errors)


def test_it_is_a_command(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seed(desk.settings, instances=["i-9"], broker="silent", broker_url="http://127.0.0.1:9")
    monkeypatch.setattr(main, "_settings_for", lambda _command: desk.settings)

    def safekeep(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["safekeep", *arguments])
        with pytest.raises(SystemExit) as end:
            main.app()
        return int(end.value.code or 0)

    assert safekeep("reconcile", "--instance", "i-9", "--fix") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "safekeep: instance i-9 of broker silent: the service broker could not be reached: connection refused",
        "1 instance (1 not fully compared), 0 findings, 0 mended, 0 being cleaned up, 0 not ours",
    ]


async def test_it_prints_a_line_for_each_finding(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    gone = await desk.backup("succeeded", is_at_broker=False)
    assert await reconcile(desk.settings) == 3
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"instance i-1\t{gone}\tbroker\tgone at the broker\tsucceeded\tnot there\t--fix would mark it as deleted"
    ]
    assert shown.err == "1 instance, 1 finding, --fix would mend 1, 0 being cleaned up, 0 not ours\n"
