"""Hints for jobs that were just accepted: sent after the commit, in a thread of their own, never in a request's way.

They only make a job start sooner. When the queue is away or slow they are dropped, and the dispatcher hints instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from shared.errors import HintError, QueueLengthError
from shared.hints import QUEUE_OF_STATE
from shared.observability.logging import get_logger
from shared.records import Hint
from shared.states import JobState

if TYPE_CHECKING:
    from types import TracebackType
    from uuid import UUID

    from shared.hints import HintSender

_log = get_logger(__name__)

WAITING_MAX: Final = 1000
CHECK_BUDGET_S: Final = 1.0
#: Least time from one hint to the next. Sending one keeps the interpreter from requests for one to two milliseconds;
#: jobs that come meanwhile share the next hint, and who comes alone never waits.
PAUSE_S: Final = 0.01
#: After a failure nothing is sent for this long: the dispatcher is at work, and the thread is not kept in time-outs.
PAUSE_AFTER_FAILURE_S: Final = 2.0


class HintPump:
    """Sends hints for new jobs through `sender`. Use it with `async with`, on the API's loop."""

    def __init__(self, sender: HintSender, batch: int) -> None:
        self._sender = sender
        self._batch = batch
        self._waiting: deque[tuple[UUID, UUID]] = deque()
        self._offered = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hints")
        self._check_thread = ThreadPoolExecutor(1, thread_name_prefix="queue-check")
        self._pumping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._pumping = asyncio.create_task(self._pump())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pumping:
            self._pumping.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._check_thread.shutdown(wait=False, cancel_futures=True)

    def offer(self, job_guid: UUID, broker_guid: UUID) -> None:
        """Have a new job of that broker hinted soon; returns at once, and drops the hint when too many wait."""
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append((broker_guid, job_guid))
            self._offered.set()

    async def is_queue_reachable(self) -> bool:
        """Whether the queue answers within a second."""
        checking = asyncio.get_running_loop().run_in_executor(self._check_thread, self._sender.check)
        try:
            await asyncio.wait_for(checking, CHECK_BUDGET_S)
        except (HintError, TimeoutError):
            return False
        return True

    async def _pump(self) -> None:
        while True:
            await self._offered.wait()
            self._offered.clear()
            while self._waiting:
                began_at = asyncio.get_running_loop().time()
                pause_s = await self._send(self._next_hint())
                await asyncio.sleep(began_at + pause_s - asyncio.get_running_loop().time())

    async def _send(self, hint: Hint) -> float:
        """Send `hint`; after how many seconds from its beginning the next may be sent."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._sender.send, hint)
        except QueueLengthError:
            # Workers have enough to do; from here on the dispatcher sees to it that users take turns.
            self._waiting.clear()
        except HintError as error:
            _log.warning("new jobs are left to the dispatcher", error=str(error))
            self._waiting.clear()
            return PAUSE_AFTER_FAILURE_S
        return PAUSE_S

    def _next_hint(self) -> Hint:
        """One hint for waiting jobs of the broker whose job has waited longest."""
        broker_guid = self._waiting[0][0]
        guids: list[str] = []
        others = []
        for broker, guid in self._waiting:
            if broker == broker_guid and len(guids) < self._batch:
                guids.append(str(guid))
            else:
                others.append((broker, guid))
        self._waiting = deque(others)
        return Hint(QUEUE_OF_STATE[JobState.START], tuple(guids))
