"""The engine against a service broker over real HTTP: what it sends, what it makes of the answers, what survives."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from shared.records import JobRequest, RestorePoint
from shared.security.secrets import generate_key
from shared.states import Operation
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.support import (
    BROKER_PASSWORD,
    QUICK,
    ScriptedBroker,
    accept_all,
    eventually,
    job_request,
    read_job,
    rows,
    seed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from shared.settings import Settings


#: Everything happens at once, so that tests take milliseconds.
@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(**QUICK)


class Story:
    """One job: accepted, and followed to its end."""

    def __init__(self, settings: Settings, broker: ScriptedBroker) -> None:
        self.settings = settings
        self.url = settings.database_url.get_secret_value()
        self.broker = broker
        self.seeded = seed(settings, broker_url=broker.url)

    async def accept(
        self, instance: str = "i-1", operation: Operation = Operation.CREATE_BACKUP, **more: Any
    ) -> JobRequest:
        request = job_request(
            self.seeded.broker_guid,
            instance,
            operation=operation,
            user_guid="ünïque-user",
            request_id="request-7",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            request_body='{"service_id": "service/id", "plan_id": "plan&id", "context": {}}',
            **more,
        )
        async with Database(self.settings, size=1, name="test") as database:
            assert await accept_all(Jobs(database, self.settings), request) == [True]
        rows(self.url, "update jobs set next_hint_at = now() where completed_at is null")
        return request

    def job(self) -> dict[str, Any]:
        return rows(self.url, "select * from jobs where not is_clean_up order by created_at desc limit 1")[0]

    def steps(self) -> list[tuple[str, str]]:
        return [
            (row["call"], row["outcome"])
            for row in rows(
                self.url,
                "select s.* from job_steps s join jobs j on j.guid = s.job_guid where not j.is_clean_up order by fence",
            )
        ]

    def clean_up(self) -> dict[str, Any]:
        (job,) = rows(self.url, "select * from jobs where is_clean_up order by created_at desc limit 1")
        return job

    async def cleaned_up(self) -> dict[str, Any]:
        await eventually(
            lambda: rows(self.url, "select 1 from jobs where is_clean_up and completed_at is not null") != []
        )
        return self.clean_up()

    async def end(self) -> dict[str, Any]:
        await eventually(lambda: self.job()["completed_at"] is not None)
        return self.job()

    def starts(self) -> list[Any]:
        return [call for call in self.broker.calls if call.method == "PUT"]


@pytest.fixture
def story(settings: Settings, broker: ScriptedBroker) -> Story:
    return Story(settings, broker)


async def test_it_drives_a_backup_to_its_end(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls_until_done = 3
    request = await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], job["polls"], job["attempts"], job["fence"]) == ("succeeded", 3, 1, 4)
    assert story.steps() == [
        ("start", "accepted"),
        ("poll", "in progress"),
        ("poll", "in progress"),
        ("poll", "success"),
    ]
    assert rows(story.url, "select state, size_bytes from backups") == [{"state": "succeeded", "size_bytes": 4711}]
    start, *polls, read = story.broker.calls
    base = f"/v2/service_instances/i-1/backups/{request.resource_guid}"
    assert (start.method, start.path, start.query) == ("PUT", base, {"accepts_incomplete": "true"})
    assert start.body == request.request_body
    assert {(poll.method, poll.path) for poll in polls} == {("GET", f"{base}/last_operation")}
    assert polls[0].query == {
        "service_id": "service/id",
        "plan_id": "plan&id",
        "operation": f"op {request.resource_guid}?&",
    }
    assert (read.method, read.path) == ("GET", base)


async def test_item_11_it_sends_the_headers_that_a_broker_needs(story: Story, engine_of: Callable[..., Any]) -> None:
    request = await story.accept()
    async with engine_of(story.settings):
        await story.end()
    assert len(story.broker.calls) == 3
    for call in story.broker.calls:
        assert call.headers["X-Broker-API-Version"] == "2.17"
        assert call.headers["X-Broker-API-Request-Identity"] == str(request.guid)
        assert call.headers["X-VCAP-Request-ID"] == "request-7"
        assert call.headers["traceparent"] == request.traceparent
        platform, identity = call.headers["X-Broker-API-Originating-Identity"].split(" ")
        assert platform == "cloudfoundry"
        assert json.loads(base64.b64decode(identity)) == {"user_id": "ünïque-user"}
        scheme, credentials = call.headers["Authorization"].split(" ")
        assert scheme == "Basic"
        assert base64.b64decode(credentials).decode() == f"user:{BROKER_PASSWORD}"


async def test_it_drives_a_restore_to_its_end(story: Story, engine_of: Callable[..., Any]) -> None:
    restore = RestorePoint(backup_id="b-1")
    request = await story.accept(operation=Operation.RESTORE, restore=restore)
    async with engine_of(story.settings):
        job = await story.end()
    assert job["state"] == "succeeded"
    assert story.starts()[0].path == f"/v2/service_instances/i-1/restores/{request.resource_guid}"
    assert rows(story.url, "select state, backup_id from restores") == [{"state": "succeeded", "backup_id": "b-1"}]


async def test_it_takes_the_word_of_a_synchronous_broker(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.starts.append((201, {"id": "x"}))
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], story.steps()) == ("succeeded", [("start", "success")])


async def test_it_passes_the_brokers_words_on_while_it_works(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls_until_done = 10**9
    words = ["uploading 40%", "uploading 40%", "uploading 80%"]
    story.broker.polls.extend((200, {"state": "in progress", "description": each}) for each in words)
    request = await story.accept()
    async with engine_of(story.settings), Database(story.settings, size=1, name="test") as database:
        await eventually(lambda: story.job()["polls"] > len(words))
        job = await read_job(database, request.guid)
        assert job
        # POLLING is the second version; each other sentence is one more, the same one and a silent poll are none.
        assert (job.broker_description, job.version) == ("uploading 80%", 4)
        story.broker.polls_until_done = 0
        await story.end()
        job = await read_job(database, request.guid)
        assert job
        assert (job.broker_description, job.version) == (None, 5)


async def test_it_fails_with_the_brokers_words(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls.append((200, {"state": "failed", "description": "the disk is full"}))
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert job["state"] == "failed"
    assert job["errors"] == [
        {"code": 10009, "title": "CF-UnableToPerform", "detail": "backup could not be completed: the disk is full"}
    ]
    assert rows(story.url, "select state from backups") == [{"state": "failed"}]


async def test_it_does_not_ask_again_after_a_refusal(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.starts.append((422, {"error": "BackupQuotaExceeded", "description": "two are enough"}))
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], job["errors"][0]["code"], job["errors"][0]["detail"]) == ("failed", 10008, "two are enough")
    assert len(story.starts()) == 1


async def _cut(request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.close()
    raise ConnectionResetError


async def _hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


@pytest.mark.parametrize(
    "trouble",
    [
        (500, {}),
        (202, b"not json"),
        (200, b"[]"),
        (204, b""),
        (302, {}, {"Location": "http://127.0.0.1:9/"}),
        (408, {}),
        (429, {}),
        (503, {}, {"Retry-After": "0"}),
        (422, {"error": "ConcurrencyError"}),
        _cut,
        _hang,
    ],
    ids=lambda trouble: str(trouble if isinstance(trouble, tuple) else trouble.__name__),
)
async def test_it_sends_the_very_same_start_again_when_the_answer_is_unclear(
    story: Story, engine_of: Callable[..., Any], trouble: Any
) -> None:
    story.broker.starts.extend([trouble, trouble])
    request = await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert job["state"] == "succeeded"
    sent = {(call.path, call.body, call.query["accepts_incomplete"]) for call in story.starts()}
    assert sent == {(f"/v2/service_instances/i-1/backups/{request.resource_guid}", request.request_body, "true")}
    assert len(story.starts()) >= 3
    assert story.broker.made == {str(request.resource_guid): 1}


async def test_it_gives_up_after_the_last_attempt_and_says_why(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.starts.extend([(500, {"description": "out of order"})] * 9)
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], job["attempts"], len(story.starts())) == ("failed", 5, 5)
    assert job["errors"][0]["detail"] == "backup could not be completed: out of order"


async def test_it_does_not_count_waiting_for_a_busy_broker_as_attempts(
    story: Story, engine_of: Callable[..., Any]
) -> None:
    story.broker.starts.extend([(422, {"error": "ConcurrencyError"})] * 9)
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], job["attempts"], job["waits"]) == ("succeeded", 1, 9)


async def test_it_loses_patience_with_a_busy_broker(
    make_settings: Callable[..., Settings], broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    story = Story(make_settings(**(QUICK | {"busy_patience_s": 0.05})), broker)
    broker.starts.extend([(422, {"error": "ConcurrencyError", "description": "updating"})] * 99)
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], job["errors"][0]["code"], job["errors"][0]["detail"]) == ("failed", 270018, "updating")


async def test_it_keeps_polling_whatever_a_poll_is_answered_with(story: Story, engine_of: Callable[..., Any]) -> None:
    troubles = [(500, {}), (404, {}), (410, {}), (200, b"{"), (200, {"state": "odd"}), (400, {}), _cut, _hang]
    story.broker.polls.extend(troubles)
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert job["state"] == "succeeded"
    # aiohttp itself repeats a GET whose kept connection turns out to be cut, within the same poll.
    assert job["polls"] in {len(troubles), len(troubles) + 1}
    assert not story.broker.polls


async def test_it_ends_a_job_at_its_deadline(story: Story, engine_of: Callable[..., Any]) -> None:
    story.broker.polls_until_done = 10**9
    await story.accept(deadline_s=0.5)
    async with engine_of(story.settings):
        job = await story.end()
    assert job["state"] == "failed"
    assert job["errors"] == [{"code": 290006, "title": "CF-JobTimeout", "detail": "The job execution has timed out."}]
    assert story.steps()[-1] == ("poll", "in progress")  # a last look


async def test_it_counts_claims_so_that_a_job_that_kills_workers_ends(
    story: Story, engine_of: Callable[..., Any]
) -> None:
    await story.accept()
    rows(story.url, "update jobs set attempts = 5")
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], story.broker.calls) == ("failed", [])
    assert "could not be started in 5 attempts" in job["errors"][0]["detail"]


async def test_it_ends_a_job_over_which_workers_keep_dying(story: Story, engine_of: Callable[..., Any]) -> None:
    request = await story.accept()
    rows(story.url, "update jobs set state = 'poll'")
    async with Database(story.settings, size=1, name="test") as database:
        for _ in range(story.settings.lost_steps_max):
            assert (await Jobs(database, story.settings).claim([request.guid], owner="dead", lease_s=60)).claims
            rows(story.url, "update jobs set lease_until = now(), next_hint_at = now()")
    async with engine_of(story.settings):
        job = await story.end()
        assert (job["state"], job["lost_steps"], story.steps()) == ("failed", 0, [("none", "attempts exhausted")])
        assert "10 workers in a row did not come back" in job["errors"][0]["detail"]
        await story.cleaned_up()
    assert [call.method for call in story.broker.calls] == ["DELETE"]


async def test_it_completes_a_backup_whose_details_cannot_be_read(
    story: Story, engine_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.broker.client.BODY_BYTES_MAX", 60)  # too little for the backup, enough for a poll
    await story.accept()
    async with engine_of(story.settings):
        job = await story.end()
    assert job["state"] == "succeeded"
    assert rows(story.url, "select size_bytes from backups") == [{"size_bytes": None}]


async def test_it_survives_wrong_keys_and_tells_nothing(
    make_settings: Callable[..., Settings], broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    story = Story(make_settings(**QUICK), broker)
    await story.accept()
    wrong = story.settings.model_copy(update={"secret_keys": make_settings(secret_keys=generate_key()).secret_keys})
    async with engine_of(wrong):
        job = await story.end()
    assert job["state"] == "failed"
    assert "password does not open" in job["errors"][0]["detail"]
    assert broker.calls == []


async def test_it_gives_back_at_once_what_it_cannot_finish_when_told_to_stop(
    make_settings: Callable[..., Settings], broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    story = Story(make_settings(**(QUICK | {"broker_timeout_s": 60, "lease_s": 300})), broker)
    broker.starts.append(_hang)
    await story.accept()
    async with engine_of(story.settings, "first"):
        await eventually(lambda: len(story.starts()) == 1)
    job = story.job()
    assert (job["lease_owner"], job["lease_until"]) == (None, None)
    async with engine_of(story.settings, "second"):
        job = await story.end()
    assert (job["state"], job["attempts"]) == ("succeeded", 2)


async def test_it_lets_another_worker_go_on_when_the_lease_is_over(story: Story, engine_of: Callable[..., Any]) -> None:
    request = await story.accept()
    async with Database(story.settings, size=1, name="test") as database:
        found = await Jobs(database, story.settings).claim([request.guid], owner="dead", lease_s=0.3)
        assert found.claims
    async with engine_of(story.settings):
        job = await story.end()
    assert (job["state"], job["attempts"], job["fence"]) == ("succeeded", 2, 3)


async def test_it_does_many_jobs_at_once_and_each_once(
    make_settings: Callable[..., Settings], broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    story = Story(make_settings(**QUICK), broker)
    for number in range(50):
        await story.accept(f"i-{number}")
    async with engine_of(story.settings, "one"), engine_of(story.settings, "two"):
        await eventually(
            lambda: rows(story.url, "select count(*) as n from jobs where completed_at is null")[0]["n"] == 0
        )
    assert rows(story.url, "select distinct state from jobs") == [{"state": "succeeded"}]
    assert len(broker.made) == len(story.starts()) == 50


async def test_it_comes_back_to_a_poll_that_is_due_soon_without_another_hint(
    make_settings: Callable[..., Settings], broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    broker.polls_until_done = 3
    story = Story(make_settings(**QUICK | {"dispatch_interval_s": 3600}), broker)
    async with engine_of(story.settings) as engine:
        request = await story.accept()
        await asyncio.to_thread(engine.take, [str(request.guid)])
        assert (await story.end())["polls"] == 3


async def test_it_leaves_a_poll_that_is_due_soon_to_others_when_it_stops(
    make_settings: Callable[..., Settings], broker: ScriptedBroker, engine_of: Callable[..., Any]
) -> None:
    story = Story(make_settings(**QUICK | {"poll_interval_s": 1.0}), broker)
    await story.accept()
    async with engine_of(story.settings, "one"):
        await eventually(lambda: story.job()["state"] == "poll")
    async with engine_of(story.settings, "two"):
        assert (await story.end())["state"] == "succeeded"
    assert {row["worker"] for row in rows(story.url, "select worker from job_steps")} == {"one", "two"}


async def test_it_drops_words_that_are_no_guids(story: Story, engine_of: Callable[..., Any]) -> None:
    await story.accept()
    async with engine_of(story.settings) as engine:
        await asyncio.to_thread(engine.take, ["", "x", None, 7, str(uuid.uuid4())])
        assert (await story.end())["state"] == "succeeded"


async def test_it_waits_for_a_database_that_is_not_migrated_yet(story: Story, engine_of: Callable[..., Any]) -> None:
    rows(story.url, "alter table schema_migrations rename to hidden")

    async def show() -> None:
        await asyncio.sleep(0)
        rows(story.url, "alter table hidden rename to schema_migrations")

    showing = asyncio.create_task(show())
    await story.accept()
    async with engine_of(story.settings):
        assert (await story.end())["state"] == "succeeded"
    await showing
