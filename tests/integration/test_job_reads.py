"""Many readers of single jobs: who meets shares a statement, nobody pays for another, and nothing is rendered twice."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from api.job_reads import JobReads
from shared.errors import StoreError
from shared.store.database import Database
from shared.store.job_lists import JobLists
from shared.store.jobs import Jobs
from shared.store.sql import load
from tests.integration.conftest import HintLog, client_of
from tests.support import accept_all, bearer, eventually, job_request, rows, seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from shared.settings import Settings
    from tests.integration.conftest import Client
    from tests.proxy import Proxy

INSTANCES = [f"i-{number}" for number in range(5)]
#: The names of the statements that read jobs, and the fields by which they take guids.
NAMES = {statement: name for name, statement in load("job_lists").items()}


@pytest.fixture
async def guids(settings: Settings) -> list[UUID]:
    """Open jobs."""
    broker_guid = seed(settings, instances=INSTANCES).broker_guid
    requests = [job_request(broker_guid, instance) for instance in INSTANCES]
    async with Database(settings, size=1, name="test") as database:
        assert all(await accept_all(Jobs(database, settings), *requests))
    return [request.guid for request in requests]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[UUID]]]:
    """The statements that read jobs, with the guids that each asked for, as they are made."""
    noted: list[tuple[str, Sequence[UUID]]] = []
    fetch = Database.fetch

    async def note(self: Database, statement: Any, parameters: Any = None) -> Any:
        if name := NAMES.get(statement):
            noted.append((name, parameters.get("guids") or [parameters["guid"]]))
        return await fetch(self, statement, parameters)

    monkeypatch.setattr(Database, "fetch", note)
    return noted


async def read(client: Client, settings: Settings, guid: object, etag: str | None = None) -> tuple[int, str, bytes]:
    """Status, ETag and body of the answer."""
    headers = bearer(settings) | ({"If-None-Match": etag} if etag else {})
    async with client.get(f"/v3/jobs/{guid}", headers=headers) as response:
        return response.status, response.headers.get("ETag", ""), await response.read()


async def test_it_reads_jobs_that_are_asked_for_at_once_in_one_statement(
    settings: Settings, guids: list[UUID], asked: list[tuple[str, Sequence[UUID]]]
) -> None:
    unknown = uuid.uuid4()
    wanted = [*guids, unknown, *guids, guids[0]]
    async with Database(settings, size=1, name="test") as database:
        reads = JobReads(JobLists(database), "https://safekeep.example")
        found = await asyncio.gather(*(reads.find(guid) for guid in wanted))
        versions = await asyncio.gather(*(reads.find_version(guid) for guid in wanted))
    assert [job and job.guid for job in found] == [guid if guid != unknown else None for guid in wanted]
    assert [version and version.guid for version in versions] == [job and job.guid for job in found]
    assert [(name, sorted(of)) for name, of in asked] == [
        (name, sorted([*guids, unknown])) for name in ("read", "versions")
    ]


async def test_it_answers_each_of_those_who_ask_at_once_with_their_own_job(
    client: Client, settings: Settings, guids: list[UUID]
) -> None:
    wanted = [*guids, uuid.uuid4()] * 8
    answers = await asyncio.gather(*(read(client, settings, guid) for guid in wanted))
    for guid, (status, _, body) in zip(wanted, answers, strict=True):
        assert status == (200 if guid in guids else 404)
        assert (str(guid).encode() in body) == (guid in guids)


async def test_it_lets_no_job_of_a_newer_version_harm_the_others(
    client: Client, settings: Settings, url: str, guids: list[UUID]
) -> None:
    rows(url, "alter table jobs drop constraint jobs_operation_check, disable trigger user")
    rows(url, "update jobs set operation = 'service_instance.of_the_future' where guid = %s", guids[1])
    answers = await asyncio.gather(*(read(client, settings, guid) for guid in guids))
    assert [status for status, _, _ in answers] == [200, 500, 200, 200, 200]
    async with Database(settings, size=1, name="test") as database:
        found = await asyncio.gather(
            *map(JobReads(JobLists(database), "https://x").find, guids), return_exceptions=True
        )
    assert [isinstance(job, StoreError) for job in found] == [False, True, False, False, False]


async def test_it_fails_everybody_cleanly_while_the_database_is_away(
    through: Callable[..., Settings], proxy: Proxy, guids: list[UUID]
) -> None:
    settings = through(database_timeout_s=0.5)
    async with client_of(settings, HintLog()) as client:
        seen = await asyncio.gather(*(read(client, settings, guid) for guid in guids))
        proxy.refuse()
        proxy.cut()
        with_etags = [read(client, settings, guid, etag) for guid, (_, etag, _) in zip(guids, seen, strict=True)]
        without = [read(client, settings, guid) for guid in [*guids, uuid.uuid4()]]
        answers = await asyncio.gather(*with_etags, *without)
        assert {status for status, _, _ in answers} == {503}
        await proxy.listen()
        await eventually(lambda: _all_are_read(client, settings, guids))


async def _all_are_read(client: Client, settings: Settings, guids: list[UUID]) -> bool:
    return {status for status, _, _ in await asyncio.gather(*(read(client, settings, guid) for guid in guids))} == {200}


async def test_it_reads_and_renders_nothing_for_who_has_the_job_as_it_is(
    client: Client, settings: Settings, url: str, guids: list[UUID], asked: list[tuple[str, Sequence[UUID]]]
) -> None:
    guid = guids[0]
    headers = bearer(settings) | {"If-None-Match": '"1"'}  # of every job that has just been accepted
    async with client.get(f"/v3/jobs/{guid}", headers=headers) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["Retry-After"]
    assert asked == [("version_of_one", [guid])]
    rows(url, "update jobs set version = version + 1, broker_description = 'half done'")
    status, etag, body = await read(client, settings, guid, '"1"')
    assert (status, etag) == (200, '"2"')
    assert b"half done" in body
    assert [name for name, _ in asked[1:]] == ["version_of_one", "read_one"]


async def test_it_shows_what_it_has_rendered_only_as_long_as_the_job_is_so(
    client: Client, settings: Settings, url: str, guids: list[UUID], asked: list[tuple[str, Sequence[UUID]]]
) -> None:
    guid = guids[0]
    first = await read(client, settings, guid)
    assert await read(client, settings, guid) == first
    assert [name for name, _ in asked] == ["read_one", "version_of_one"]
    for change, words in (
        ("update jobs set version = version + 1, broker_description = 'half done'", b"half done"),
        ("update broker_states set retry_at = now() + interval '1 hour'", b"waiting for service broker"),
        ("delete from service_instances", b'"warnings"'),
        (
            "update jobs set state = 'succeeded', due_at = null, completed_at = now(), version = version + 1",
            b"COMPLETE",
        ),
    ):
        rows(url, change)
        before, first = first, await read(client, settings, guid)
        assert first[1:] != before[1:]
        assert words in first[2]
    assert await read(client, settings, guid, first[1]) == (304, first[1], b"")


async def test_it_keeps_a_bounded_number_of_rendered_jobs(
    settings: Settings, guids: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.job_reads.BODIES_MAX", 3)
    async with Database(settings, size=1, name="test") as database:
        reads = JobReads(JobLists(database), "https://x")
        jobs = [job for job in [await reads.find(guid) for guid in guids] if job is not None]
    for job in jobs[:3]:
        reads.render(job)
    assert reads.body_of(guids[0], "1")  # read last
    for job in jobs[3:]:
        reads.render(job)
    assert Counter(map(reads.has_body, guids)) == {True: 3, False: 2}
    assert reads.has_body(guids[0])
    monkeypatch.setattr("api.job_reads.BODY_BYTES_MAX", 10)
    assert reads.render(jobs[1])
    assert not reads.has_body(guids[1])
