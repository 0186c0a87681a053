"""Asking brokers which backups they have, and mending where our table differs. What differs is said by `reconcile.py`.

Our rows are read before and after a broker is asked, and looked at again by the statement that mends, so that whatever
ends meanwhile is left alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from uuid import uuid4

from shared.errors import SecretsError
from worker.broker.backup_list import read_backup_list
from worker.broker.client import NotReceivedError, Origin, UnclearError
from worker.maintenance.reconcile import Finding, Fix, Kind, compare

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from shared.records import BackedUpInstance, KnownBackup
    from shared.settings import Settings
    from shared.store.backups import Backups
    from shared.store.jobs import Jobs
    from worker.broker.backup_list import BackupList
    from worker.broker.client import Answer, BrokerClient

LIST_LIMIT: Final = 1000
#: Calls at once, in all and to one broker; a broker's own limit may be lower.
CALLS_IN_FLIGHT: Final = 8
#: Instances of which our rows are read at once.
BATCH: Final = 200
_NO_LONGER_THERE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


@dataclass(slots=True)
class Report:
    """What came of one instance. `error`: why it could not be compared, or not all of it."""

    instance: BackedUpInstance
    findings: list[Finding] = field(default_factory=list)
    malformed: int = 0
    error: str | None = None


class _NoAnswerError(Exception):
    """A broker gave no answer, and why, in words for people."""


class Reconciliation:
    """Compares, and mends when asked to. `client` is used on the loop that it was opened on."""

    def __init__(self, settings: Settings, backups: Backups, jobs: Jobs, client: BrokerClient) -> None:
        self._settings = settings
        self._backups = backups
        self._jobs = jobs
        self._client = client
        self._calls = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._calls_of_broker: dict[UUID, asyncio.Semaphore] = {}
        self._silences: Counter[UUID] = Counter()  # calls in a row that a broker did not answer

    async def compare(self, instances: Sequence[BackedUpInstance]) -> list[Report]:
        """A report for each of `instances`, in order. Raises StoreError; never for anything that a broker does."""
        reports = []
        for start in range(0, len(instances), BATCH):
            batch = instances[start : start + BATCH]
            guids = [instance.guid for instance in batch]
            before = await self._backups.list_known(guids)
            lists = await asyncio.gather(*(self._list(instance) for instance in batch))
            after = _by_instance(await self._backups.list_known(guids))
            settled = set(before)
            for instance, theirs in zip(batch, lists, strict=True):
                if isinstance(theirs, str):
                    reports.append(Report(instance, error=theirs))
                    continue
                findings = compare(after[instance.guid], theirs, settled)
                reports.append(Report(instance, findings, theirs.malformed))
            await asyncio.gather(*(self._confirm(report) for report in reports[start:]))
        return reports

    async def mend(self, finding: Finding) -> tuple[bool, str]:
        """Mend a finding that has a fix: whether that was done, and in words, what. Raises StoreError."""
        ours = finding.backup
        if ours is None or finding.fix is None:
            raise ValueError("there is nothing to mend")
        done = ""
        if finding.fix is Fix.MARK_DELETED and await self._backups.mark_deleted(ours):
            done = "marked as deleted"
        elif finding.fix is Fix.MARK_SUCCEEDED and await self._backups.mark_succeeded_again(ours):
            done = "offered again"
        elif finding.fix is Fix.BEGIN_CLEAN_UP and ours.job_guid:
            clean_up = await self._jobs.begin_clean_up(ours.job_guid)
            done = f"clean-up {clean_up} begun" if clean_up else ""
        return bool(done), done or "it has changed meanwhile"

    async def _list(self, instance: BackedUpInstance) -> BackupList | str:
        """The broker's list, or in words why there is none."""
        try:
            answer = await self._ask(instance, "", {"limit": str(LIST_LIMIT)})
        except _NoAnswerError as error:
            return str(error)
        if answer.status != HTTPStatus.OK:
            return f"the service broker answered with status {answer.status}"
        return read_backup_list(answer.body, LIST_LIMIT) or "the service broker answered without a list of backups"

    async def _confirm(self, report: Report) -> None:
        """Keep of what the list leaves out only what the broker, asked for that very backup, does not have either.

        A broker may cap its lists without saying so, and then has what it does not list.
        """
        missing = [each for each in report.findings if each.kind is Kind.GONE and each.theirs is None]
        verdicts = await asyncio.gather(*(self._is_gone(report.instance, finding) for finding in missing))
        for finding, verdict in zip(missing, verdicts, strict=True):
            if verdict is not None:
                report.findings.remove(finding)
                report.error = verdict

    async def _is_gone(self, instance: BackedUpInstance, finding: Finding) -> str | None:
        """None when it is; else in words why that is not certain."""
        try:
            answer = await self._ask(instance, f"/{finding.backup_id}", {})
        except _NoAnswerError as error:
            return str(error)
        if answer.status in _NO_LONGER_THERE:
            return None
        if answer.status == HTTPStatus.OK:
            return f"the service broker does not list backup {finding.backup_id}, and yet has it"
        return f"the service broker does not list backup {finding.backup_id} and answered with status {answer.status}"

    async def _ask(self, instance: BackedUpInstance, suffix: str, query: dict[str, str]) -> Answer:
        """GET below the instance's backups. Raises _NoAnswerError when there is no answer."""
        broker = instance.broker
        limit = min(CALLS_IN_FLIGHT, instance.calls_in_flight or self._settings.broker_calls_in_flight)
        own = self._calls_of_broker.setdefault(broker.guid, asyncio.Semaphore(limit))
        path = f"/v2/service_instances/{quote(instance.guid, safe='')}/backups{suffix}"
        origin = Origin(job_guid=str(uuid4()), request_id=str(uuid4()), traceparent=None, user_guid=None)
        async with own, self._calls:
            if self._silences[broker.guid] >= self._settings.breaker_failures:
                text = f"was not asked, since it left the last {self._settings.breaker_failures} calls unanswered"
                raise _NoAnswerError(f"the service broker {text}")
            try:
                answer = await self._client.call(broker, "GET", path, query=query, origin=origin)
            except (NotReceivedError, UnclearError) as error:
                self._silences[broker.guid] += 1
                raise _NoAnswerError(f"the service broker {error}") from error
            except SecretsError as error:
                text = "was not called: its stored password does not open with the configured keys"
                raise _NoAnswerError(f"the service broker {text}") from error
        self._silences[broker.guid] = 0
        return answer


def _by_instance(backups: Sequence[KnownBackup]) -> defaultdict[str, list[KnownBackup]]:
    found: defaultdict[str, list[KnownBackup]] = defaultdict(list)
    for backup in backups:
        found[backup.service_instance_guid].append(backup)
    return found
