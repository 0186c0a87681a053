"""Waiting for changes of jobs: one look at the database for all who wait in this process, none while nobody does."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

from api.presenters.jobs import job_etag
from shared.errors import StoreError, StoreUnavailableError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from uuid import UUID

    from aiohttp import web

    from shared.lists import JobVersion
    from shared.records import Job
    from shared.store.job_lists import JobLists

_log = get_logger(__name__)

#: Pause after a look that failed. Those who wait go on doing so until their time is up.
PAUSE_AFTER_FAILURE_S: Final = 1.0
#: Jobs up to which every look compares all of them. Of more, each compares those of which workers recorded something,
#: and in turn a part of the others, for what changes by the clock or in the directory.
FEW: Final = 200
#: Looks after which each job has had its turn, and after which those who have left are let go.
ROUND: Final = 20
#: How far each look goes back before the one before it. A step is recorded as of the beginning of its transaction, and
#: seen after its end; one that takes longer is found in the job's turn.
OVERLAP_S: Final = 1.0
#: Jobs that are read and told at once, so that others get a word in.
PORTION: Final = 200


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that waits until its job has another ETag than the one it knows."""

    request: web.Request
    hear: Callable[[Job], None] | None
    woken: asyncio.Future[Job | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def wake(self, job: Job | None) -> None:
        if not self.woken.done():
            self.woken.set_result(job)

    @property
    def has_left(self) -> bool:
        """Whether the client is gone. Nobody tells a handler; its connection knows."""
        return self.request.transport is None


class JobWatch:
    """Looks every `interval_s` seconds at the jobs that at most `seats` requests wait for. Use it with `async with`.

    A waiter costs no connection and no statement of its own: what it is woken with was read once for all that wait for
    the same job. It sees the latest state; of several changes between two looks, only what came of them.
    """

    def __init__(self, jobs: JobLists, *, interval_s: float, seats: int) -> None:
        self._jobs = jobs
        self._interval_s = interval_s
        self._free_seats = seats
        #: Who waits, by job and by the ETag that they know.
        self._waiters: dict[UUID, dict[str, set[_Waiter]]] = {}
        self._queue: list[UUID] = []  # jobs that have their turn before all have had it
        self._looking: asyncio.Task[None] | None = None
        self._looked_at: float | None = None
        self._is_stopping = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._looking:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    @property
    def is_stopping(self) -> bool:
        """Whether nobody waits any more, because the process ends."""
        return self._is_stopping

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(waiters) for of_job in self._waiters.values() for waiters in of_job.values())

    def stop(self) -> None:
        """Wake everybody, for good."""
        self._is_stopping = True
        for waiter in self._all():
            waiter.wake(None)

    @contextmanager
    def seat(self) -> Iterator[bool]:
        """A place among those who may wait, as long as the block runs; False when there is none."""
        if self._is_stopping or self._free_seats <= 0:
            yield False
            return
        self._free_seats -= 1
        try:
            yield True
        finally:
            self._free_seats += 1

    async def wait(
        self,
        request: web.Request,
        job: Job | JobVersion,
        *,
        timeout_s: float,
        hear: Callable[[Job], None] | None = None,
    ) -> Job | None:
        """`job` as it is once its readers see something else, for a request that has a seat.

        None: after `timeout_s` seconds without a change, when the client is gone, or when the process ends. `hear` is
        told before anybody is woken: many can be told in the time that it takes to wake a few.
        """
        if self._is_stopping:
            return None
        waiter, etag = _Waiter(request, hear), job_etag(job)
        of_job = self._waiters.setdefault(job.guid, {})
        waiters = of_job.setdefault(etag, set())
        waiters.add(waiter)
        if self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking())
        timer = asyncio.get_running_loop().call_later(timeout_s, waiter.wake, None)
        try:
            return await waiter.woken
        finally:
            timer.cancel()
            waiters.discard(waiter)
            if not waiters and of_job.get(etag) is waiters:
                del of_job[etag]
            if not of_job and self._waiters.get(job.guid) is of_job:
                del self._waiters[job.guid]

    async def _keep_looking(self) -> None:
        """Look for as long as somebody waits."""
        looks = 0
        try:
            while self._waiters:
                await asyncio.sleep(self._interval_s)
                looks += 1
                if looks % ROUND == 0:
                    self._release_those_who_left()
                try:
                    await self._look()
                except StoreError as error:
                    if not isinstance(error, StoreUnavailableError):
                        _log.error("the jobs that are waited for cannot be read", error=str(error))
                    await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        finally:
            self._looking = self._looked_at = None
            self._queue.clear()

    def _all(self) -> Iterator[_Waiter]:
        for of_job in self._waiters.values():
            for waiters in of_job.values():
                yield from waiters

    def _release_those_who_left(self) -> None:
        for waiter in self._all():
            if waiter.has_left:
                waiter.wake(None)

    async def _look(self) -> None:
        guids = list(self._waiters) if len(self._waiters) <= FEW else await self._those_that_may_have_changed()
        for portion in _portions(guids):
            versions = await self._jobs.read_versions(portion)
            changed = [version.guid for version in versions if self._is_new(version)]
            if changed:
                for job in await self._jobs.read(changed):
                    # Read again, so compared again: somebody may wait by now who knows more than the versions did.
                    await self._tell(job)

    async def _those_that_may_have_changed(self) -> Sequence[UUID]:
        """Of many jobs those of which workers recorded something since the last look, and some whose turn it is."""
        now = asyncio.get_running_loop().time()
        if self._looked_at is None:
            self._looked_at = now - self._interval_s
        recorded = await self._jobs.recorded_since(now - self._looked_at + OVERLAP_S)
        self._looked_at = now
        if not self._queue:
            self._queue = list(self._waiters)
        share = max(FEW, len(self._waiters) // ROUND)
        turn, self._queue = self._queue[:share], self._queue[share:]
        # In this order: what was recorded is what somebody waits for.
        return [guid for guid in dict.fromkeys([*recorded, *turn]) if guid in self._waiters]

    def _is_new(self, job: Job | JobVersion) -> bool:
        """Whether anybody who waits for the job knows it otherwise."""
        of_job = self._waiters.get(job.guid)
        return of_job is not None and (len(of_job) > 1 or job_etag(job) not in of_job)

    async def _tell(self, job: Job) -> None:
        """Tell and wake those who know the job otherwise."""
        news = job_etag(job)
        told = [
            waiter
            for etag, waiters in self._waiters.get(job.guid, {}).items()
            if etag != news
            for waiter in waiters
            if not waiter.woken.done()
        ]
        for waiter in told:
            if waiter.hear is not None:
                waiter.hear(job)
        for number, waiter in enumerate(told, start=1):
            waiter.wake(job)
            if number % PORTION == 0:
                await asyncio.sleep(0)


def _portions(guids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    rest = iter(guids)
    while portion := list(islice(rest, PORTION)):
        yield portion
