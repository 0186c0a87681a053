"""Waiting for changes of jobs: one look at the database for all who wait in this process, none while nobody does."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from api.presenters.jobs import job_etag
from shared.errors import StoreError, StoreUnavailableError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from uuid import UUID

    from aiohttp import web

    from shared.records import Job
    from shared.store.job_lists import JobLists

_log = get_logger(__name__)

#: Pause after a look that failed. Those who wait go on doing so until their time is up.
PAUSE_AFTER_FAILURE_S: Final = 1.0


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request that waits until its job has another ETag than the one it knows."""

    request: web.Request
    etag: str
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
        self._waiters: dict[UUID, set[_Waiter]] = {}
        self._looking: asyncio.Task[None] | None = None
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

    def stop(self) -> None:
        """Wake everybody, for good."""
        self._is_stopping = True
        for waiters in self._waiters.values():
            for waiter in waiters:
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

    async def wait(self, request: web.Request, job: Job, *, timeout_s: float) -> Job | None:
        """`job` as it is once its readers see something else, for a request that has a seat.

        None: after `timeout_s` seconds without a change, when the client is gone, or when the process ends.
        """
        if self._is_stopping:
            return None
        waiter = _Waiter(request, job_etag(job))
        waiters = self._waiters.setdefault(job.guid, set())
        waiters.add(waiter)
        if self._looking is None:
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            await asyncio.wait([waiter.woken], timeout=timeout_s)
            return waiter.woken.result() if waiter.woken.done() else None
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(job.guid, None)

    async def _keep_looking(self) -> None:
        """Look for as long as somebody waits."""
        try:
            while self._waiters:
                await asyncio.sleep(self._interval_s)
                self._release_those_who_left()
                try:
                    await self._look()
                except StoreError as error:
                    if not isinstance(error, StoreUnavailableError):
                        _log.error("the jobs that are waited for cannot be read", error=str(error))
                    await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        finally:
            self._looking = None

    def _release_those_who_left(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                if waiter.has_left:
                    waiter.wake(None)

    async def _look(self) -> None:
        guids = list(self._waiters)
        if not guids:
            return
        etags = {version.guid: job_etag(version) for version in await self._jobs.read_versions(guids)}
        changed = [guid for guid, etag in etags.items() if any(waiter.etag != etag for waiter in self._of(guid))]
        if not changed:
            return
        for job in await self._jobs.read(changed):
            # Read again, so compared again: somebody may wait by now who knows more than the versions did.
            etag = job_etag(job)
            for waiter in self._of(job.guid):
                if waiter.etag != etag:
                    waiter.wake(job)

    def _of(self, guid: UUID) -> set[_Waiter]:
        return self._waiters.get(guid, set())
