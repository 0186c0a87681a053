"""From due rows to hints: outbox relay, scheduler, retry timer and recovery sweep in one.

Runs in every worker; any number of them need no leader, since each row is taken by one of them (SKIP LOCKED).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shared.errors import HintError
from shared.hints import QUEUE_OF_STATE
from shared.observability.logging import get_logger
from shared.records import Hint
from worker.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from shared.hints import HintSender
    from shared.settings import Settings
    from shared.store.jobs import DueJob, Jobs

_log = get_logger(__name__)


class Dispatcher(Loop):
    """Hints due jobs through `sender`, grouped by queue and broker."""

    def __init__(self, settings: Settings, jobs: Jobs, sender: HintSender) -> None:
        super().__init__(settings.dispatch_interval_s)
        self._settings = settings
        self._jobs = jobs
        self._sender = sender
        # Sending blocks, so it has a thread of its own; one, because hints need no order but also no crowd.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hints")
        self._is_degraded = False

    async def tick(self) -> None:
        """Hint what is due. Jobs whose hint the queue did not take are due for another one at the next round."""
        due = await self._jobs.hint_due(self._settings)
        hints = list(group(due, self._settings.hint_batch))
        for sent, hint in enumerate(hints):
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._sender.send, hint)
            except HintError as error:
                if not self._is_degraded:
                    _log.warning("the queue takes no hints; jobs wait in the database", error=str(error))
                self._is_degraded = True
                await self._jobs.take_back_hints([guid for left in hints[sent:] for guid in left.job_guids])
                return
        if hints and self._is_degraded:
            _log.info("the queue takes hints again")
            self._is_degraded = False
        if len(due) == self._settings.dispatch_batch:
            self.wake()  # there may be more than one batch


def group(due: Sequence[DueJob], batch: int) -> Iterator[Hint]:
    """Hints for `due`, each with at most `batch` jobs of one queue and one broker, oldest first."""
    groups: dict[tuple[str, UUID], list[str]] = {}
    for job in due:
        groups.setdefault((QUEUE_OF_STATE[job.state], job.broker_guid), []).append(str(job.guid))
    for (queue, _), guids in groups.items():
        for first in range(0, len(guids), batch):
            yield Hint(queue, tuple(guids[first : first + batch]))
