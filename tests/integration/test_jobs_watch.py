"""Waiting for a job over real HTTP: by `Prefer: wait`, and as a stream of events. Who waits costs next to nothing."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, TCPConnector

from api.context import CONTEXT
from api.job_watch import FEW
from shared.records import Step
from shared.states import Event
from shared.store.database import Database
from shared.store.job_lists import JobLists
from shared.store.jobs import Jobs
from shared.store.sql import load
from tests.integration.conftest import HintLog, client_of
from tests.support import bearer, eventually, job_request, rows, seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from uuid import UUID

    from aiohttp import ClientResponse

    from api.job_watch import JobWatch
    from shared.settings import Settings
    from tests.integration.conftest import Client
    from tests.proxy import Proxy

#: Longer than any test: who waits as long as this is woken by something else.
LONG = "wait=50"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(external_url="https://safekeep.example", job_watch_interval_s=0.02)


@pytest.fixture
async def guid(settings: Settings) -> UUID:
    """An open job."""
    return (await accepted(settings, ["i-1"]))[0]


async def accepted(settings: Settings, instances: Sequence[str]) -> list[UUID]:
    broker_guid = seed(settings, instances=instances).broker_guid
    requests = [job_request(broker_guid, instance) for instance in instances]
    async with Database(settings, size=1, name="test") as database:
        assert all(await Jobs(database, settings).accept(requests))
    return [request.guid for request in requests]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    async with client_of(settings, HintLog(), connector=TCPConnector(limit=0)) as client:
        client.session.headers.update(bearer(settings))
        yield client


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Client]:
    async with serving(settings) as client:
        yield client


def watch_of(client: Client) -> JobWatch:
    app = client.app
    assert app is not None
    return app[CONTEXT].watch


async def waiters(client: Client, count: int) -> None:
    """Return when so many requests wait."""
    await eventually(lambda: watch_of(client).waiting == count)


async def nobody_waits(client: Client, settings: Settings) -> None:
    """Return when nothing is left of any waiter: no seat is taken, nothing is looked for."""
    watch = watch_of(client)
    await waiters(client, 0)
    await eventually(lambda: watch._free_seats == settings.job_watchers_max)
    await eventually(lambda: watch._looking is None)
    assert watch._waiters == {}


def tell(url: str, words: str) -> None:
    """Have the broker say something about every open job."""
    rows(url, "update jobs set version = version + 1, broker_description = %s where completed_at is null", words)


def end(url: str) -> None:
    rows(
        url,
        "update jobs set state = 'succeeded', due_at = null, completed_at = now(), updated_at = now(),"
        " version = version + 1, broker_description = null where completed_at is null",
    )


def ask(client: Client, guid: UUID, prefer: str | None = LONG, etag: str | None = None) -> asyncio.Task[ClientResponse]:
    """Ask for a job in a task of its own."""
    headers = {"Prefer": prefer} if prefer is not None else {}
    if etag is not None:
        headers["If-None-Match"] = etag

    async def get() -> ClientResponse:
        async with client.get(f"/v3/jobs/{guid}", headers=headers) as response:
            await response.read()
            return response

    return asyncio.create_task(get())


async def etag_of(client: Client, guid: UUID) -> str:
    return (await ask(client, guid, None)).headers["ETag"]


# ---------------------------------------------------------------- waiting for an answer


@pytest.mark.parametrize(
    "change",
    [
        "update jobs set version = version + 1, state = 'poll'",
        "update jobs set version = version + 1, broker_description = 'half done'",
        "update broker_states set retry_at = now() + interval '1 hour'",
        "delete from service_instances",
        "update jobs set version = version + 1, state = 'succeeded', due_at = null, completed_at = now()",
    ],
)
@pytest.mark.parametrize("knows", [True, False])
async def test_it_answers_as_soon_as_a_reader_would_see_a_change(
    api: Client, url: str, guid: UUID, change: str, *, knows: bool
) -> None:
    etag = await etag_of(api, guid)
    asked = ask(api, guid, etag=etag if knows else None)
    await waiters(api, 1)
    rows(url, change)
    answer = await asked
    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == LONG
    assert answer.headers["Vary"] == "Prefer"
    assert answer.headers["ETag"] != etag
    plain = await ask(api, guid, None)
    assert (await answer.json(), answer.headers["ETag"]) == (await plain.json(), plain.headers["ETag"])


async def test_it_answers_at_the_end_of_the_wait_that_nothing_has_changed(
    api: Client, settings: Settings, url: str, guid: UUID
) -> None:
    etag = await etag_of(api, guid)
    asked = ask(api, guid, "wait=1", etag), ask(api, guid, "wait=1")
    await waiters(api, 2)
    rows(url, "update jobs set attempts = attempts + 1, fence = fence + 1")  # which no reader sees
    known, unknown = await asyncio.gather(*asked)
    assert (known.status, unknown.status) == (304, 200)
    for answer in (known, unknown):
        assert answer.headers["ETag"] == etag
        assert answer.headers["Preference-Applied"] == "wait=1"
        assert answer.headers["Vary"] == "Prefer"
        assert answer.headers["Retry-After"]
    await nobody_waits(api, settings)


async def test_it_answers_at_once_when_there_is_news(api: Client, url: str, guid: UUID) -> None:
    etag = await etag_of(api, guid)
    tell(url, "half done")
    answer = await ask(api, guid, LONG, etag)
    assert (answer.status, answer.headers["Preference-Applied"]) == (200, LONG)
    end(url)
    ended = await ask(api, guid, LONG)
    assert (await ended.json())["state"] == "COMPLETE"
    assert (await ask(api, guid, LONG, ended.headers["ETag"])).status == 304


async def test_it_waits_no_longer_than_it_is_set_to(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(job_wait_max_s=1)
    (guid,) = await accepted(settings, ["i-1"])
    async with serving(settings) as api:
        answer = await ask(api, guid, "wait=86400", await etag_of(api, guid))
    assert (answer.status, answer.headers["Preference-Applied"]) == (304, "wait=1")


@pytest.mark.parametrize(
    "prefer", [None, "", "wait", "wait=soon", "wait=-1", "respond-async", 'x="wait=9', ";;=,", "wait=0"]
)
async def test_it_answers_at_once_whoever_does_not_ask_it_to_wait(api: Client, guid: UUID, prefer: str | None) -> None:
    answer = await ask(api, guid, prefer)
    assert answer.status == 200
    assert answer.headers.get("Preference-Applied") == ("wait=0" if prefer == "wait=0" else None)
    assert answer.headers["Vary"] == "Prefer"


async def test_it_does_not_hold_back_more_answers_than_it_is_set_to(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(job_watchers_max=1, job_watch_interval_s=0.02)
    url = settings.database_url.get_secret_value()
    (guid,) = await accepted(settings, ["i-1"])
    async with serving(settings) as api:
        first = ask(api, guid)
        await waiters(api, 1)
        second = await ask(api, guid)
        assert second.status == 200
        assert "Preference-Applied" not in second.headers
        async with api.get(f"/v3/jobs/{guid}/events") as refused:
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            (error,) = (await refused.json())["errors"]
            assert (error["code"], error["title"]) == (10015, "CF-ServiceUnavailable")
        end(url)
        assert (await first).headers["Preference-Applied"] == LONG
        await nobody_waits(api, settings)


async def test_it_forgets_a_client_that_has_left(api: Client, settings: Settings, guid: UUID) -> None:
    tasks = len(asyncio.all_tasks())
    async with ClientSession(headers=bearer(settings)) as leaving:
        asked = asyncio.create_task(leaving.get(api.make_url(f"/v3/jobs/{guid}"), headers={"Prefer": LONG}))
        stream = await leaving.get(api.make_url(f"/v3/jobs/{guid}/events"))
        assert stream.status == 200
        await waiters(api, 2)
        stream.close()
        asked.cancel()
    await nobody_waits(api, settings)
    await eventually(lambda: len(asyncio.all_tasks()) == tasks)


async def test_it_lets_everybody_go_when_it_stops(settings: Settings, guid: UUID) -> None:
    async with serving(settings) as api:
        etag = await etag_of(api, guid)
        asked = [ask(api, guid), ask(api, guid, etag=etag)]
        async with api.get(f"/v3/jobs/{guid}/events") as stream:
            await waiters(api, 3)
            await api.server.close()
            answers = await asyncio.gather(*asked)
            assert [answer.status for answer in answers] == [200, 304]
            events = await read_events(stream)
        assert [event["id"] for event in events] == [etag.strip('"')]


async def test_it_goes_on_waiting_while_the_database_is_away(
    through: Callable[..., Settings], proxy: Proxy, guid: UUID, url: str
) -> None:
    settings = through(database_timeout_s=0.5)
    async with serving(settings) as api:
        impatient, patient = ask(api, guid, "wait=1"), ask(api, guid)
        async with api.get(f"/v3/jobs/{guid}/events") as stream:
            await waiters(api, 3)
            proxy.refuse()
            proxy.cut()
            answer = await impatient
            assert answer.status == 503
            assert (await answer.json())["errors"][0]["code"] == 10015
            await proxy.listen()
            end(url)
            assert (await (await patient).json())["state"] == "COMPLETE"
            assert (await read_events(stream))[-1]["data"]["state"] == "COMPLETE"
        await nobody_waits(api, settings)


async def test_it_holds_one_thousand_two_hundred_waiters_on_one_connection(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One connection in all: did a waiter hold one, nobody else would get through.
    settings = make_settings(job_watchers_max=2000, api_pool_size=1, job_watch_interval_s=0.05)
    url = settings.database_url.get_secret_value()
    popular, *others = await accepted(settings, [f"i-{number}" for number in range(201)])
    names = {statement: name for noun in ("jobs", "job_lists") for name, statement in load(noun).items()}
    asked: Counter[str] = Counter()
    fetch = Database.fetch

    async def note(self: Database, statement: Any, parameters: Any = None) -> Any:
        asked[names[statement]] += 1
        return await fetch(self, statement, parameters)

    async with serving(settings) as api:
        many = [ask(api, popular) for _ in range(1000)]
        few = [ask(api, guid) for guid in others]
        await waiters(api, 1200)
        with monkeypatch.context() as patch:
            patch.setattr(Database, "fetch", note)
            await eventually(lambda: asked.total() >= 3)
            # Of so many, a part of the versions for every look, and what workers have recorded.
            assert set(asked) == {"recorded_since", "versions"}
            rows(url, "update jobs set version = version + 1 where guid = %s", popular)
            answers = await asyncio.gather(*many)
            assert {answer.status for answer in answers} == {200}
            # The job was read once for all who waited for it.
            assert (asked["read"], asked["read_one"], asked["version_of_one"]) == (1, 0, 0)
            await waiters(api, 200)
            backends = rows(
                url,
                "select count(*) as n from pg_stat_activity"
                " where datname = current_database() and application_name = 'safekeep-api'",
            )
            assert backends == [{"n": 1}]
            end(url)
            answers = await asyncio.gather(*few)
            assert {(await answer.json())["state"] for answer in answers} == {"COMPLETE"}
            await nobody_waits(api, settings)
            asked.clear()
            assert (await ask(api, popular)).status == 200  # which has ended
            assert asked == {"version_of_one": 1, "read_one": 1}  # since it was shown before, as it was
            assert (await ask(api, others[0])).status == 200
            assert asked == {"version_of_one": 2, "read_one": 1}  # as it is


async def test_it_wakes_once_who_waits_for_a_job_that_a_worker_ends_among_many(settings: Settings, url: str) -> None:
    guids = await accepted(settings, [f"i-{number}" for number in range(FEW + 50)])
    async with serving(settings) as api, Database(settings, size=1, name="test") as database:
        etags = [await etag_of(api, guids[0])] * len(guids)  # all of them have just been accepted
        asked = [ask(api, guid, etag=etag) for guid, etag in zip(guids, etags, strict=True)]
        await waiters(api, len(guids))
        jobs = Jobs(database, settings)
        (claim,) = (await jobs.claim([guids[7]], owner="w", lease_s=60)).claims
        step = Step(claim=claim, worker="w", call="start", event=Event.SUCCEEDED, outcome="done")
        assert await jobs.record([step]) == [True]
        assert await JobLists(database).recorded_since(60) == [guids[7]]
        assert (await (await asked[7]).json())["state"] == "COMPLETE"
        await waiters(api, len(guids) - 1)
        end(url)
        answers = await asyncio.gather(*asked)
        assert [(await answer.json())["guid"] for answer in answers] == list(map(str, guids))
        assert {answer.headers["Preference-Applied"] for answer in answers} == {LONG}
        await nobody_waits(api, settings)


async def test_it_answers_who_has_waited_as_it_answers_anybody(settings: Settings, url: str, guid: UUID) -> None:
    own = {"Date", "X-VCAP-Request-ID", "Preference-Applied"}
    async with client_of(settings, HintLog(), connector=TCPConnector(limit=1)) as api:
        api.session.headers.update(bearer(settings))
        for number in range(3):  # on one connection, which stays in order
            asked = ask(api, guid)
            await waiters(api, 1)
            tell(url, f"{number} of 3")
            held, plain = await asked, await ask(api, guid, None)
            assert own <= set(held.headers)
            heads = [{name: answer.headers[name] for name in set(answer.headers) - own} for answer in (held, plain)]
            assert heads[0] == heads[1]
            assert await held.json() == await plain.json()
        await nobody_waits(api, settings)


@pytest.mark.parametrize("how", [b"HEAD %b HTTP/1.1", b"GET %b HTTP/1.1\r\nConnection: close", b"GET %b HTTP/1.0"])
async def test_it_answers_who_has_waited_in_any_other_way(api: Client, url: str, guid: UUID, how: bytes) -> None:
    reader, writer = await asyncio.open_connection(api.host, api.port)
    token = api.session.headers["Authorization"]
    head = how % f"/v3/jobs/{guid}".encode()
    writer.write(head + f"\r\nHost: x\r\nAuthorization: {token}\r\nPrefer: {LONG}\r\n\r\n".encode())
    await waiters(api, 1)
    end(url)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 OK\r\n" in answer
    assert answer.count(b"HTTP/1.") == 1
    if how.startswith(b"GET"):
        assert b"COMPLETE" in await reader.read()  # to the end of the connection
    writer.close()
    await writer.wait_closed()


# ---------------------------------------------------------------- a stream of events


async def read_event(stream: ClientResponse) -> dict[str, Any]:
    """The next event, after any number of comments; none at the end."""
    event: dict[str, Any] = {}
    while line := await stream.content.readline():
        if line == b"\n" and set(event) - {"retry"}:
            break
        name, colon, value = line.decode().rstrip("\n").partition(": ")
        if colon and name:
            event[name] = json.loads(value) if name == "data" else value
    return event


async def read_events(stream: ClientResponse) -> list[dict[str, Any]]:
    """All events until the stream ends."""
    events = []
    while event := await read_event(stream):
        events.append(event)
    return events


async def test_it_streams_every_change_until_the_job_has_ended(
    api: Client, settings: Settings, url: str, guid: UUID
) -> None:
    async with api.get(f"/v3/jobs/{guid}/events") as stream:
        assert stream.status == 200
        assert stream.content_type == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-store"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert stream.headers["X-VCAP-Request-ID"]
        assert stream.headers["X-USER-GUID"]
        assert "Content-Encoding" not in stream.headers
        first = await read_event(stream)
        assert first.pop("retry") == "2000"
        seen = [first]
        for number in range(3):
            await waiters(api, 1)
            tell(url, f"{number}\nof 3")
            seen.append(await read_event(stream))
            plain = await ask(api, guid, None)
            assert seen[-1] == {"id": plain.headers["ETag"].strip('"'), "event": "job", "data": await plain.json()}
        await waiters(api, 1)
        end(url)
        seen += await read_events(stream)
    assert [event["data"]["state"] for event in seen] == ["PROCESSING"] * 4 + ["COMPLETE"]
    assert [event["data"]["warnings"] for event in seen[1:4]] == [
        [{"detail": f"the service broker says: {number}\nof 3"}] for number in range(3)
    ]
    assert len({event["id"] for event in seen}) == len(seen)
    await nobody_waits(api, settings)


async def test_it_does_not_repeat_what_a_returning_client_has_seen(api: Client, url: str, guid: UUID) -> None:
    known = (await etag_of(api, guid)).strip('"')
    path = f"/v3/jobs/{guid}/events"
    async with api.get(path, headers={"Last-Event-ID": known}) as stream:
        await waiters(api, 1)
        tell(url, "half done")
        event = await read_event(stream)
    assert event["data"]["warnings"]
    end(url)
    async with api.get(path, headers={"Last-Event-ID": event["id"]}) as stream:
        (last,) = await read_events(stream)
    assert last["data"]["state"] == "COMPLETE"
    async with api.get(path, headers={"Last-Event-ID": last["id"]}) as stream:
        assert (stream.status, await stream.read()) == (204, b"")
    async with api.get(path, headers={"Last-Event-ID": "something else"}) as stream:
        assert [event["id"] for event in await read_events(stream)] == [last["id"]]


async def test_it_shows_that_a_quiet_stream_lives_and_ends_it_in_the_end(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings(job_ping_s=0.05, job_stream_s=0.5)
    (guid,) = await accepted(settings, ["i-1"])
    async with serving(settings) as api:
        async with api.get(f"/v3/jobs/{guid}/events") as stream:
            text = (await stream.read()).decode()
        await nobody_waits(api, settings)
    assert text.count("event: job") == 1
    assert text.count("\n: ") > 1
    assert text.endswith("\n\n")


async def test_it_does_not_stream_to_who_asks_for_the_head(api: Client, settings: Settings, guid: UUID) -> None:
    async with api.head(f"/v3/jobs/{guid}/events") as head:
        assert (head.status, head.content_type) == (200, "text/event-stream")
    await nobody_waits(api, settings)
