"""Jobs in a real PostgreSQL: who is first, who may write, what never changes."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from shared.errors import StoreUnavailableError
from shared.records import Claim, JobError, JobRequest, Step
from shared.states import Event, JobState
from shared.store.backups import Backups
from shared.store.database import Database
from shared.store.jobs import Jobs
from shared.store.sql import load
from tests.support import Seeded, accept_all, eventually, job_request, read_job, rows, seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.settings import Settings

FAILURE = (JobError(10009, "CF-UnableToPerform", "it broke"),)


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
def seeded(settings: Settings) -> Seeded:
    return seed(settings)


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    async with Database(settings, size=4, name="test") as database:
        yield database


@pytest.fixture
def jobs(database: Database, settings: Settings) -> Jobs:
    return Jobs(database, settings)


def request_for(seeded: Seeded, instance: str = "i-1", **values: Any) -> JobRequest:
    return job_request(seeded.broker_guid, instance, **values)


async def claimed(jobs: Jobs, seeded: Seeded, **values: Any) -> Claim:
    request = request_for(seeded, **values)
    assert await accept_all(jobs, request) == [True]
    claim = await claim_one(jobs, request.guid)
    assert claim
    return claim


async def claim_one(jobs: Jobs, guid: uuid.UUID, owner: str = "w") -> Claim | None:
    found = await jobs.claim([guid], owner=owner, lease_s=60)
    return found.claims[0] if found.claims else None


def step(claim: Claim, event: Event, **values: Any) -> Step:
    is_end = event in {Event.SUCCEEDED, Event.FAILED, Event.EXPIRED, Event.GIVEN_UP}
    defaults: dict[str, Any] = {"due_in_s": None if is_end else 5, "call": "start"}
    if is_end and event is not Event.SUCCEEDED:
        defaults["errors"] = FAILURE
    return Step(claim=claim, worker="w", event=event, outcome="test", **(defaults | values))


async def test_it_accepts_one_operation_at_a_time_on_an_instance(jobs: Jobs, seeded: Seeded) -> None:
    requests = [request_for(seeded) for _ in range(3)] + [request_for(seeded, "i-2")]
    assert await accept_all(jobs, *requests) == [True, False, False, True]
    assert await accept_all(jobs, request_for(seeded)) == [False]


async def test_it_stores_nothing_for_a_request_that_came_second(jobs: Jobs, seeded: Seeded, database_url: str) -> None:
    await jobs.accept([request_for(seeded), request_for(seeded)])
    counts = rows(database_url, "select (select count(*) from jobs) as jobs, (select count(*) from backups) as backups")
    assert counts == [{"jobs": 1, "backups": 1}]


async def test_it_lets_the_database_decide_among_many_connections(jobs: Jobs, seeded: Seeded) -> None:
    results = await asyncio.gather(*(accept_all(jobs, request_for(seeded)) for _ in range(20)))
    assert sum(result == [True] for result in results) == 1


async def test_it_frees_the_instance_when_the_job_ends(jobs: Jobs, seeded: Seeded) -> None:
    claim = await claimed(jobs, seeded)
    assert await accept_all(jobs, request_for(seeded)) == [False]
    assert await jobs.record([step(claim, Event.SUCCEEDED)]) == [True]
    assert await accept_all(jobs, request_for(seeded)) == [True]


async def test_it_gives_a_job_to_one_of_many_claimers(jobs: Jobs, seeded: Seeded) -> None:
    request = request_for(seeded)
    await jobs.accept([request])
    claims = await asyncio.gather(*(claim_one(jobs, request.guid, f"w{n}") for n in range(20)))
    assert sum(claim is not None for claim in claims) == 1


async def test_it_gives_a_guid_that_was_handed_in_twice_to_one(jobs: Jobs, seeded: Seeded) -> None:
    request = request_for(seeded)
    await jobs.accept([request])
    found = await jobs.claim([request.guid, request.guid], owner="w", lease_s=60)
    assert [claim.job_guid for claim in found.claims] == [request.guid]
    assert found.refusals == []


async def test_it_knows_no_claim_on_what_is_not_due_unknown_or_ended(jobs: Jobs, seeded: Seeded) -> None:
    claim = await claimed(jobs, seeded)
    await jobs.record([step(claim, Event.ACCEPTED)])  # due in 5 s
    other = await claimed(jobs, seeded, instance="i-2")
    await jobs.record([step(other, Event.SUCCEEDED)])
    assert await jobs.claim([claim.job_guid, other.job_guid, uuid.uuid4()], owner="w", lease_s=60) == ([], [])


async def test_it_fences_off_who_comes_back_after_the_lease(jobs: Jobs, seeded: Seeded, database_url: str) -> None:
    late = await claimed(jobs, seeded)
    rows(database_url, "update jobs set lease_until = now() - interval '1 s'")
    current = await claim_one(jobs, late.job_guid, "other")
    assert current
    assert (current.fence, current.attempts) == (2, 2)
    assert await jobs.record([step(late, Event.FAILED)]) == [False]
    assert await jobs.record([step(current, Event.ACCEPTED)]) == [True]
    assert await jobs.record([step(current, Event.FAILED)]) == [False]  # one claim, one step


async def test_it_records_each_step_of_a_batch_by_its_own_fence(jobs: Jobs, seeded: Seeded) -> None:
    one, two = await claimed(jobs, seeded), await claimed(jobs, seeded, instance="i-2")
    steps = [step(replace(one, fence=7), Event.FAILED), step(two, Event.SUCCEEDED)]
    assert await jobs.record(steps) == [False, True]


async def test_it_ends_job_backup_and_errors_in_one_statement(
    jobs: Jobs, seeded: Seeded, database: Database, database_url: str
) -> None:
    claim = await claimed(jobs, seeded)
    await jobs.record([step(claim, Event.FAILED)])
    job = await read_job(database, claim.job_guid)
    assert job
    assert job.state is JobState.FAILED
    assert job.errors == ({"code": 10009, "title": "CF-UnableToPerform", "detail": "it broke"},)
    assert job.due_in_s is None
    assert rows(database_url, "select state, completed_at is not null as ended from backups") == [
        {"state": "failed", "ended": True}
    ]


async def test_it_lists_only_backups_that_succeeded_newest_first(
    jobs: Jobs, seeded: Seeded, database: Database
) -> None:
    expected: list[uuid.UUID] = []
    for event in (Event.SUCCEEDED, Event.FAILED, Event.SUCCEEDED):
        claim = await claimed(jobs, seeded)
        await jobs.record([step(claim, event, facts={"size_bytes": 5})])
        if event is Event.SUCCEEDED:
            expected.insert(0, claim.resource_guid)
    await claimed(jobs, seeded)  # still open
    listed = await Backups(database).list_newest("i-1", 10)
    assert [backup.guid for backup in listed] == expected
    assert listed[0].size_bytes == 5
    assert [backup.guid for backup in await Backups(database).list_newest("i-1", 1)] == expected[:1]


async def test_it_changes_the_version_only_when_a_client_would_see_it(
    jobs: Jobs, seeded: Seeded, database: Database
) -> None:
    claim = await claimed(jobs, seeded)
    found = [await read_job(database, claim.job_guid)]
    await jobs.record([step(claim, Event.TRY_AGAIN, due_in_s=0)])
    found.append(await read_job(database, claim.job_guid))
    claim2 = await claim_one(jobs, claim.job_guid)
    assert claim2
    await jobs.record([step(claim2, Event.ACCEPTED, due_in_s=0)])
    found.append(await read_job(database, claim.job_guid))
    claim3 = await claim_one(jobs, claim.job_guid)
    assert claim3
    await jobs.record([step(claim3, Event.IN_PROGRESS, call="poll")])
    found.append(await read_job(database, claim.job_guid))
    assert [job.version for job in found if job] == [1, 1, 2, 2]


async def test_it_never_plans_a_step_beyond_the_deadline(jobs: Jobs, seeded: Seeded, database_url: str) -> None:
    claim = await claimed(jobs, seeded, deadline_s=100)
    await jobs.record([step(claim, Event.ACCEPTED, due_in_s=3600)])
    assert rows(database_url, "select due_at = deadline_at and next_hint_at = deadline_at as capped from jobs") == [
        {"capped": True}
    ]


async def test_it_does_not_count_a_wait_as_an_attempt(jobs: Jobs, seeded: Seeded) -> None:
    claim = await claimed(jobs, seeded)
    await jobs.record([step(claim, Event.TRY_AGAIN, due_in_s=0, is_wait=True)])
    again = await claim_one(jobs, claim.job_guid)
    assert again
    assert (again.attempts, again.waits) == (1, 1)


async def test_it_gives_back_what_a_stopping_worker_holds(jobs: Jobs, seeded: Seeded) -> None:
    claim = await claimed(jobs, seeded)
    await jobs.release([claim])
    again = await claim_one(jobs, claim.job_guid)
    assert again
    await jobs.release([claim])  # the old claim gives back nothing of the new one's
    assert await claim_one(jobs, claim.job_guid) is None


async def test_it_hints_each_due_job_once_per_interval_and_ever_later(
    jobs: Jobs, seeded: Seeded, database_url: str
) -> None:
    request = request_for(seeded)
    await jobs.accept([request])
    assert await jobs.hint_due() == []  # the API's own hint goes first
    pauses = []
    for _ in range(8):
        rows(database_url, "update jobs set next_hint_at = now()")
        both = await asyncio.gather(jobs.hint_due(), jobs.hint_due())
        assert sorted(map(len, both)) == [0, 1]
        found = rows(database_url, "select round(extract(epoch from next_hint_at - now())) as pause from jobs")
        pauses.append(int(found[0]["pause"]))
    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600]
    await jobs.claim([request.guid], owner="w", lease_s=60)
    assert rows(database_url, "select hint_count from jobs") == [{"hint_count": 0}]


async def test_it_waits_for_another_dispatcher_and_locks_no_job_meanwhile(
    jobs: Jobs, seeded: Seeded, database_url: str
) -> None:
    one, two = request_for(seeded), request_for(seeded, instance="i-2")
    await accept_all(jobs, one, two)
    rows(database_url, "update jobs set next_hint_at = now()")
    waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
    with psycopg.connect(database_url) as other:
        other.execute(load("jobs")["lock_hints"])
        late = asyncio.create_task(jobs.hint_due())
        await eventually(lambda: rows(database_url, waiting) != [])
        assert await claim_one(jobs, one.guid)
        other.execute("update jobs set next_hint_at = now() + interval '1 minute' where guid = %s", [two.guid])
        other.commit()
        assert await late == []


async def test_it_hints_again_at_once_what_the_queue_did_not_take(
    jobs: Jobs, seeded: Seeded, database_url: str
) -> None:
    await jobs.accept([request_for(seeded)])
    rows(database_url, "update jobs set next_hint_at = now()")
    (due,) = await jobs.hint_due()
    await jobs.take_back_hints([due.guid])
    assert [job.guid for job in await jobs.hint_due()] == [due.guid]
    assert rows(database_url, "select hint_count from jobs") == [{"hint_count": 1}]


async def test_it_hints_a_job_whose_worker_died_as_soon_as_the_lease_is_over(
    jobs: Jobs, seeded: Seeded, database_url: str
) -> None:
    claim = await claimed(jobs, seeded)
    assert await jobs.hint_due() == []
    rows(database_url, "update jobs set lease_until = now(), next_hint_at = now()")
    assert [job.guid for job in await jobs.hint_due()] == [claim.job_guid]


@pytest.mark.parametrize(
    "change",
    [
        "state = 'start'",
        "errors = '[]'",
        "due_at = now()",
        "completed_at = null",
        "version = version + 1",
        "fence = fence + 1",
        "service_instance_guid = 'i-2'",
    ],
)
async def test_it_refuses_every_change_of_an_ended_job(
    jobs: Jobs, seeded: Seeded, database_url: str, change: str
) -> None:
    await jobs.record([step(await claimed(jobs, seeded), Event.FAILED)])
    with pytest.raises(psycopg.IntegrityError):
        rows(database_url, f"update jobs set {change}")


@pytest.mark.parametrize(
    "change",
    [
        "due_at = null",
        "completed_at = now()",
        "state = 'succeeded'",
        "state = 'failed', due_at = null, completed_at = now(), lease_until = null, lease_owner = null",
        "state = 'nonsense'",
        "errors = '[{}]'",
        "lease_owner = null",
        "fence = fence - 1",
        "deadline_at = null",
    ],
)
async def test_it_refuses_states_that_make_no_sense(jobs: Jobs, seeded: Seeded, database_url: str, change: str) -> None:
    await claimed(jobs, seeded)
    with pytest.raises(psycopg.IntegrityError):
        rows(database_url, f"update jobs set {change}")


async def test_it_says_that_the_database_is_away(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(database_url="postgresql://u@127.0.0.1:1/d", database_timeout_s=0.2)
    async with Database(settings, size=1, name="test") as database:
        with pytest.raises(StoreUnavailableError):
            await database.fetch("select 1")
