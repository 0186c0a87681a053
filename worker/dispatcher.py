"""From due rows to hints: outbox relay, scheduler, retry timer and recovery sweep in one.

Runs in every worker; any number of them need no leader, since each row is taken by one of them (SKIP LOCKED).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final
from uuid import UUID

from shared.errors import HintError, QueueLengthError
from shared.hints import QUEUE_OF_STATE
from shared.observability.logging import get_logger
from shared.records import Hint
from worker.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from shared.hints import HintSender
    from shared.settings import Settings
    from shared.store.jobs import DueJob, Jobs

_log = get_logger(__name__)

#: How long the queue is not tried again after it took no hint: trying may take seconds.
QUEUE_PAUSE_S: Final = 5.0
#: From so many hinted jobs on, there may soon be more.
CROWD: Final = 50


class Dispatcher(Loop):
    """Hints due jobs through `sender`, grouped by queue and broker.

    While the queue takes none, or is long enough, jobs go straight to `take`, this process's own engine: then workers
    share the work by what each of them finds first. `crowded` names brokers of which enough jobs wait in this process
    already, each with the users who have their share of them.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        sender: HintSender,
        take: Callable[[Collection[UUID]], Awaitable[None]],
        crowded: Callable[[], Mapping[UUID, Collection[str]]],
    ) -> None:
        super().__init__(settings.dispatch_interval_s)
        self._settings = settings
        self._jobs = jobs
        self._sender = sender
        self._take = take
        self._crowded = crowded
        # Sending blocks, so it has a thread of its own; one, because hints need no order but also no crowd.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hints")
        self._without_queue_until: float | None = None

    async def tick(self) -> None:
        """Hint what is due."""
        due = await self._jobs.hint_due(crowded=self._crowded())
        for hint in group(due, self._settings.hint_batch):
            await self._send(hint)
        if len(due) >= CROWD:
            self.wake()  # there may be more

    async def _send(self, hint: Hint) -> None:
        loop = asyncio.get_running_loop()
        if self._without_queue_until is None or loop.time() >= self._without_queue_until:
            try:
                await loop.run_in_executor(self._thread, self._sender.send, hint)
            except QueueLengthError:
                pass  # it is in order, and holds enough
            except HintError as error:
                if self._without_queue_until is None:
                    _log.warning("the queue takes no hints; working from the database alone", error=str(error))
                self._without_queue_until = loop.time() + QUEUE_PAUSE_S
            else:
                if self._without_queue_until is not None:
                    _log.info("the queue takes hints again")
                self._without_queue_until = None
                return
        await self._take([UUID(guid) for guid in hint.job_guids])


def group(due: Sequence[DueJob], batch: int) -> Iterator[Hint]:
    """Hints for `due`, each with at most `batch` jobs of one queue and one broker, oldest first."""
    groups: dict[tuple[str, UUID], list[str]] = {}
    for job in due:
        groups.setdefault((QUEUE_OF_STATE[job.state], job.broker_guid), []).append(str(job.guid))
    for (queue, _), guids in groups.items():
        for first in range(0, len(guids), batch):
            yield Hint(queue, tuple(guids[first : first + batch]))
