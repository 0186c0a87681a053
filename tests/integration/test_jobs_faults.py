"""Jobs when the database fails under a statement of theirs: whatever is cut or locked, one truth afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from shared.errors import StoreUnavailableError
from shared.records import Claim, Step
from shared.states import Event
from shared.store.database import Database
from shared.store.jobs import Jobs
from shared.store.sql import load
from tests.faults import fails
from tests.support import accept_all, job_request, read_job, rows, seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.records import Job
    from shared.settings import Settings
    from tests.proxy import Proxy


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(database_timeout_s=2)


# ---------------------------------------------------------------- cut in a statement


class Story:
    """One job, by way of statements that may be cut; what is true is read past the proxy."""

    def __init__(self, url: str, settings: Settings, database: Database) -> None:
        self.url = url
        self.database = database
        self.jobs = Jobs(database, settings)
        self.settings = settings
        self.request = job_request(seed(settings).broker_guid)

    async def accept(self) -> list[bool]:
        return await accept_all(self.jobs, self.request)

    async def claim(self) -> list[Claim]:
        return (await self.jobs.claim([self.request.guid], owner="w", lease_s=60)).claims

    async def claimed(self) -> Claim:
        (claim,) = await self.claim()
        return claim

    async def record(self, claim: Claim) -> list[bool]:
        end = Step(claim=claim, worker="w", call="start", event=Event.SUCCEEDED, outcome="success", due_in_s=None)
        return await self.jobs.record([end])

    async def read(self) -> Job | None:
        return await read_job(self.database, self.request.guid)

    async def hint(self) -> list[str]:
        return [str(job.guid) for job in await self.jobs.hint_due()]

    def is_due(self) -> None:
        rows(self.url, "update jobs set next_hint_at = now(), due_at = now()")

    def leases_end(self) -> None:
        rows(self.url, "update jobs set lease_until = now(), next_hint_at = now() where lease_until is not null")

    async def run(self) -> None:
        """Take the job to its end, however far it is, as a worker would."""
        self.leases_end()
        if not rows(self.url, "select 1 as one from jobs where completed_at is not null"):
            assert await self.record(await self.claimed()) == [True]

    def check_one_truth(self) -> None:
        """One job, which ended once, with its backup."""
        assert rows(self.url, "select guid, state from jobs") == [{"guid": self.request.guid, "state": "succeeded"}]
        backup = {"guid": self.request.resource_guid, "state": "succeeded"}
        assert rows(self.url, "select guid, state from backups where completed_at is not null") == [backup]
        assert rows(self.url, "select call, event from job_steps") == [{"call": "start", "event": "succeeded"}]


@pytest.fixture
async def story(url: str, settings: Settings, database: Database) -> Story:
    return Story(url, settings, database)


async def test_it_stored_nothing_when_an_accept_was_cut_on_its_way(story: Story, proxy: Proxy) -> None:
    proxy.requests.cut_after_bytes = 0
    await fails(story.accept())
    assert rows(story.url, "select guid from jobs union select guid from backups") == []
    assert await story.accept() == [True]
    await story.run()
    story.check_one_truth()


async def test_it_stored_one_job_that_runs_when_the_answer_to_an_accept_was_cut(story: Story, proxy: Proxy) -> None:
    proxy.answers.cut_when_ready = True
    await fails(story.accept())
    assert await story.accept() == [False]
    assert rows(story.url, "select count(*) as n from jobs") == [{"n": 1}]
    await story.run()
    story.check_one_truth()


@pytest.mark.parametrize("cut", ["request", "answer"])
async def test_it_claims_again_when_a_claim_was_cut(story: Story, proxy: Proxy, cut: str) -> None:
    await story.accept()
    arm(proxy, cut)
    await fails(story.claim())
    # If it was executed, nobody knows of it, and the lease must end first.
    assert (await story.claim() == []) == (cut == "answer")
    await story.run()
    story.check_one_truth()


async def test_it_records_again_when_a_record_was_cut_on_its_way(story: Story, proxy: Proxy) -> None:
    await story.accept()
    claim = await story.claimed()
    proxy.requests.cut_after_bytes = 0
    await fails(story.record(claim))
    assert (
        rows(
            story.url,
            "select guid from jobs where completed_at is not null union select guid from backups b"
            " where b.completed_at is not null",
        )
        == []
    )
    assert await story.record(claim) == [True]
    story.check_one_truth()


async def test_it_records_once_when_the_answer_to_a_record_was_cut(story: Story, proxy: Proxy) -> None:
    await story.accept()
    claim = await story.claimed()
    proxy.answers.cut_when_ready = True
    await fails(story.record(claim))
    assert await story.record(claim) == [False]
    assert await story.claim() == []
    story.check_one_truth()


@pytest.mark.parametrize("cut", ["request", "answer"])
async def test_it_hints_later_when_the_look_for_due_jobs_was_cut(story: Story, proxy: Proxy, cut: str) -> None:
    await story.accept()
    story.is_due()
    arm(proxy, cut)
    await fails(story.hint())
    assert await story.hint() == [str(story.request.guid)]  # looking marks nothing
    await story.run()
    story.check_one_truth()


async def test_it_hints_later_when_nobody_knows_that_a_hint_was_marked(
    story: Story, proxy: Proxy, database: Database
) -> None:
    await story.accept()
    story.is_due()
    arm(proxy, "answer")
    marking = {"guids": [story.request.guid], "interval_s": 30, "interval_max_s": 600}
    await fails(database.fetch(load("jobs")["hint"], marking))
    assert await story.hint() == []
    story.is_due()
    assert await story.hint() == [str(story.request.guid)]
    await story.run()
    story.check_one_truth()


@pytest.mark.parametrize("cut", ["request", "answer"])
async def test_it_may_release_again_when_a_release_was_cut(story: Story, proxy: Proxy, cut: str) -> None:
    await story.accept()
    claim = await story.claimed()
    arm(proxy, cut)
    await fails(story.jobs.release([claim]))
    await story.jobs.release([claim])
    assert await story.record(claim) == [False]
    assert (await story.claimed()).fence == claim.fence + 1


@pytest.mark.parametrize("cut", ["request", "answer"])
async def test_it_finds_the_job_after_a_read_was_cut(story: Story, proxy: Proxy, cut: str) -> None:
    await story.accept()
    arm(proxy, cut)
    await fails(story.read())
    assert await story.read()


def arm(proxy: Proxy, cut: str) -> None:
    if cut == "request":
        proxy.requests.cut_after_bytes = 0
    else:
        proxy.answers.cut_when_ready = True


@pytest.mark.parametrize("is_answer", [False, True])
async def test_it_has_one_truth_wherever_a_record_is_cut(story: Story, proxy: Proxy, *, is_answer: bool) -> None:
    await story.accept()
    claim = await story.claimed()
    way = proxy.answers if is_answer else proxy.requests
    recorded = None
    for cut_after in range(0, 20_000, 5 if is_answer else 601):
        await story.read()  # so that it is the record that is cut, and not a new connection
        cuts, way.cut_after_bytes = proxy.cuts, cut_after
        try:
            recorded = await story.record(claim)
        except StoreUnavailableError:
            # Half of a statement is no statement, and half of an answer says nothing.
            assert proxy.cuts == cuts + 1
            continue
        assert proxy.cuts == cuts
        break
    way.cut_after_bytes = None
    assert proxy.cuts > 5
    assert recorded == [not is_answer]
    story.check_one_truth()


# ---------------------------------------------------------------- locks


async def test_it_does_not_wait_for_ever_behind_a_locked_table(
    through: Callable[..., Settings], url: str, story: Story
) -> None:
    await story.accept()
    async with Database(through(database_timeout_s=0.6), size=1, name="test") as database:
        jobs = Jobs(database, story.settings)
        with psycopg.connect(url) as other:
            other.execute("lock table jobs in access exclusive mode")
            await fails(jobs.accept([story.request]))
            await fails(jobs.claim([story.request.guid], owner="w", lease_s=60))
            await fails(read_job(database, story.request.guid))
            await fails(jobs.hint_due())
        with psycopg.connect(url) as other:
            other.execute("select from jobs for update")
            # Claims pass over a row that somebody else has; that is how workers share.
            assert await jobs.claim([story.request.guid], owner="w", lease_s=60) == ([], [])
            assert await read_job(database, story.request.guid)
    await story.run()
    story.check_one_truth()


async def test_it_leaves_a_record_to_its_claim_while_the_row_is_locked(
    through: Callable[..., Settings], url: str, story: Story
) -> None:
    await story.accept()
    claim = await story.claimed()
    async with Database(through(database_timeout_s=0.6), size=1, name="test") as database:
        story.jobs = Jobs(database, story.settings)
        with psycopg.connect(url) as other:
            other.execute("select from jobs for update")
            await fails(story.record(claim))
        assert await story.record(claim) == [True]
    story.check_one_truth()
