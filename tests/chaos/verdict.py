"""Whether anything was lost, stuck, doubled or contradicting: what clients saw, what database and broker have.

Three witnesses that do not know each other: the clients know the public API, the database its rows, and the broker's
ledger is the only one that says what was really begun.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from shared.states import Operation
from tests.support import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.chaos.clients import Seen
    from tests.chaos.ledger import Memory

CREATE: Final = "service_instance.create_backup"
CLEAN_UP: Final = "service_instance.clean_up_backup"
#: Once Safekeep cleans up, what it left at the broker is its fault; before that it is only counted.
CLEANS_UP: Final = CLEAN_UP in {operation.value for operation in Operation}

JOBS: Final = """
select jobs.guid::text, jobs.operation, jobs.state, jobs.resource_guid::text, jobs.completed_at is not null as is_over,
       jobs.errors, backups.state as backup_state
from jobs left join backups on backups.guid = jobs.resource_guid
"""
OPEN: Final = "select count(*) as open from jobs where completed_at is null"
CLEAN_UPS: Final = "select state, count(*) as count from jobs where operation = %s group by state"
STEPS: Final = "select extract(epoch from recorded_at)::float8 as at from job_steps order by recorded_at"


class Wrong(StrEnum):
    """What must not be."""

    LOST = "lost"
    STUCK = "stuck"
    DOUBLED = "doubled"
    CONTRADICTING = "contradicting"


@dataclass
class Verdict:
    """What was found; `is_good` only with none of what must not be."""

    found: dict[Wrong, list[str]] = field(default_factory=lambda: {kind: [] for kind in Wrong})
    left_at_broker: list[str] = field(default_factory=list)  #: live backups of failed jobs, where nothing cleans up

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.found.values())

    def add(self, kind: Wrong, *texts: str) -> None:
        """Note something that must not be."""
        self.found[kind].extend(texts)


def count_open(database_url: str) -> int:
    """How many jobs have not ended, clean-ups included."""
    return int(rows(database_url, OPEN)[0]["open"])


def count_clean_ups(database_url: str) -> Counter[str]:
    """Clean-up jobs by their state."""
    return Counter({row["state"]: row["count"] for row in rows(database_url, CLEAN_UPS, CLEAN_UP)})


def read_step_times(database_url: str) -> list[float]:
    """When each step was recorded, in Unix seconds, in order."""
    return [row["at"] for row in rows(database_url, STEPS)]


def judge_clients(verdict: Verdict, seen: Sequence[Seen]) -> None:
    """What the clients alone can tell."""
    for job in seen:
        name = f"job {job.guid}" if job.guid else f"a POST for {job.instance}"
        if job.is_missing:
            verdict.add(Wrong.LOST, f"{name} was accepted and is answered with 404")
        elif job.is_stuck:
            verdict.add(Wrong.STUCK, f"{name} was last seen {job.state or 'not accepted'} after {job.took_s:.0f} s")
        verdict.add(Wrong.CONTRADICTING, *(f"{name} {problem}" for problem in job.problems))
    shared = (guid for guid, count in Counter(job.guid for job in seen if job.guid).items() if count > 1)
    verdict.add(Wrong.LOST, *(f"job {guid} was the answer to more than one POST" for guid in shared))


def judge_stack(verdict: Verdict, seen: Sequence[Seen], unknown_posts: int, database_url: str, memory: Memory) -> None:
    """What the rows and the broker's ledger tell, of themselves and of what the clients saw."""
    jobs = {row["guid"]: row for row in rows(database_url, JOBS)}
    followed = {job.guid: job for job in seen if job.guid}
    verdict.add(Wrong.LOST, *(f"job {guid} was accepted and has no row" for guid in followed.keys() - jobs.keys()))
    verdict.add(
        Wrong.STUCK,
        *(f"{row['operation']} {row['guid']} has not ended" for row in jobs.values() if not row["is_over"]),
    )
    strangers = [row for row in jobs.values() if row["operation"] == CREATE and row["guid"] not in followed]
    if len(strangers) > unknown_posts:
        verdict.add(Wrong.CONTRADICTING, f"{len(strangers)} jobs of {unknown_posts} POSTs without an answer")
    for guid, job in followed.items():
        public = {"COMPLETE": "succeeded", "FAILED": "failed"}.get(job.state)
        if guid in jobs and public is not None and jobs[guid]["state"] != public:
            verdict.add(Wrong.CONTRADICTING, f"job {guid} was seen {job.state} and its row is {jobs[guid]['state']}")
    created = [row for row in jobs.values() if row["operation"] == CREATE]
    verdict.add(Wrong.CONTRADICTING, *_rows_against_ledger(created, memory))
    _judge_ledger(verdict, created, memory)


def _rows_against_ledger(created: Sequence[dict[str, Any]], memory: Memory) -> Iterator[str]:
    now = time.time()
    for row in created:
        if row["is_over"] and row["backup_state"] != row["state"]:
            yield f"job {row['guid']} is {row['state']} and its backup's row {row['backup_state']}"
        if (row["state"] == "failed") != bool(row["errors"]):
            yield f"job {row['guid']} is {row['state']} with the errors {row['errors']}"
        backup = memory.backups.get(row["resource_guid"])
        at_broker = backup.state(now) if backup else "unknown"
        if row["state"] == "succeeded" and at_broker != "succeeded":
            yield f"job {row['guid']} succeeded and its backup is {at_broker} at the broker"


def _judge_ledger(verdict: Verdict, created: Sequence[dict[str, Any]], memory: Memory) -> None:
    now = time.time()
    twice = (f"backup {guid} was begun {count} times" for guid, count in memory.begins.items() if count > 1)
    verdict.add(Wrong.DOUBLED, *twice)
    for job, guids in memory.ids_of_job.items():
        live = [guid for guid in guids if memory.backups[guid].is_live(now)]
        if len(live) > 1:
            verdict.add(Wrong.DOUBLED, f"job {job} has {len(live)} live backups")
    verdict.add(Wrong.DOUBLED, *(f"backup {guid} came with two different requests" for guid in memory.conflicts))
    job_of = {row["resource_guid"]: row for row in created}
    for guid, backup in memory.backups.items():
        row = job_of.get(guid)
        if row is None:
            verdict.add(Wrong.CONTRADICTING, f"backup {guid} was begun for no job")
        elif row["guid"] != backup.job:
            verdict.add(Wrong.CONTRADICTING, f"backup {guid} of job {row['guid']} was begun for job {backup.job}")
        elif row["state"] == "failed" and backup.is_live(now):
            text = f"job {row['guid']} failed and its backup is {backup.state(now)} at the broker"
            if CLEANS_UP:
                verdict.add(Wrong.CONTRADICTING, text)
            else:
                verdict.left_at_broker.append(text)


def count_ends(seen: Sequence[Seen]) -> Counter[str]:
    """Followed jobs by how they ended, with the title of the first error."""
    return Counter(
        " ".join([job.ended["state"], *(error["title"] for error in job.ended["errors"][:1])])
        for job in seen
        if job.ended
    )
