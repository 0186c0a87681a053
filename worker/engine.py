"""The heart of a worker process: one event loop in a thread of its own, on which steps of many jobs run at once.

Celery's threads hand job guids over with `take` and are free again as soon as these fit under the limit; a slow
broker therefore holds a place on the loop and never a slot of Celery's.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final
from uuid import UUID

from shared.coalescer import Coalescer
from shared.errors import SchemaError, StoreError
from shared.observability.logging import get_logger
from shared.security.secrets import Sealer
from shared.store.database import Database
from shared.store.jobs import Jobs
from shared.store.migrate import check_schema
from worker.broker.client import BrokerClient
from worker.dispatcher import Dispatcher
from worker.hooks import Hook, Point, pass_by
from worker.steps.step import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.hints import HintSender
    from shared.records import Claim, Step
    from shared.settings import Settings

_log = get_logger(__name__)

SCHEMA_PAUSE_S: Final = 0.2


class Engine:
    """Claims, takes and records steps. `worker` names the process in leases and records; `at` is for tests."""

    def __init__(self, settings: Settings, sender: HintSender, worker: str, at: Hook = pass_by) -> None:
        self._settings = settings
        self._sender = sender
        self._worker = worker
        self._at = at
        self._sealer = Sealer([key.get_secret_value() for key in settings.secret_keys])
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._room: asyncio.Semaphore
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[UUID, Claim] = {}

    def start(self) -> None:
        """Start the loop; returns when it can take jobs, which waits for the database. Raises SettingsError."""
        self._thread.start()
        self._ready.result()

    def take(self, guids: Iterable[str]) -> None:
        """Take hinted jobs, from any thread; returns once all of them are under way. Words that are no guids drop."""
        wanted = []
        for guid in guids:
            with suppress(ValueError, AttributeError, TypeError):
                wanted.append(UUID(guid))
        asyncio.run_coroutine_threadsafe(self._admit(wanted), self._loop).result()

    def stop(self) -> None:
        """Finish the steps in hand within the grace, give the others back, and end the loop."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            if self._ready.done():
                _log.exception("the engine stopped")
                raise
            self._ready.set_exception(error)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._room = asyncio.Semaphore(self._settings.calls_in_flight)
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                Database(self._settings, size=self._settings.worker_pool_size, name="safekeep-worker")
            )
            client = await stack.enter_async_context(BrokerClient(self._settings, self._sealer))
            await self._wait_for_schema(database)
            self._jobs = Jobs(database)
            self._claims: Coalescer[UUID, Claim | None] = Coalescer(self._claim)
            self._records: Coalescer[Step, bool] = Coalescer(self._jobs.record)
            self._steps = Steps(self._settings, client, self._worker, self._at)
            dispatching = asyncio.create_task(Dispatcher(self._settings, self._jobs, self._sender).run())
            self._ready.set_result(None)
            await self._stopping.wait()
            dispatching.cancel()
            await self._drain()

    async def _wait_for_schema(self, database: Database) -> None:
        """Return once the database can be worked with; a worker may be started before it is up, or migrated."""
        is_told = False
        while True:
            try:
                return await check_schema(database)
            except (StoreError, SchemaError) as error:
                if not is_told:
                    _log.warning("waiting for the database", error=str(error))
                is_told = True
            await asyncio.sleep(SCHEMA_PAUSE_S)

    async def _claim(self, guids: Iterable[UUID]) -> list[Claim | None]:
        return await self._jobs.claim(list(guids), owner=self._worker, lease_s=self._settings.lease_s)

    async def _admit(self, guids: Iterable[UUID]) -> None:
        for guid in guids:
            await self._room.acquire()
            task = asyncio.create_task(self._take_step(guid))
            self._tasks.add(task)
            task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()):
            # A bug of ours. The lease ends, another worker tries, and the attempts and the deadline bound it.
            _log.error("a step failed", exc_info=error)

    async def _take_step(self, guid: UUID) -> None:
        try:
            claim = await self._claims.submit(guid)
            if claim is None:
                return  # not due, taken or ended: the hint was late or repeated
            self._held[guid] = claim
            step = await self._steps.take(claim)
            self._at(Point.BEFORE_RECORD, claim)
            is_recorded = await self._records.submit(step)
            self._at(Point.AFTER_RECORD, claim)
            del self._held[guid]
        except StoreError as error:
            self._held.pop(guid, None)
            # Nothing is decided without the database; the lease ends and the step is taken again.
            _log.warning("a step was left to its lease", job=str(guid), error=str(error))
            return
        _log.info(
            "step" if is_recorded else "late step, fenced off",
            job=str(guid),
            operation=claim.operation.value,
            state=claim.state.value,
            found=step.event.value,
            outcome=str(step.outcome),
            http_status=step.http_status,
            fence=claim.fence,
            attempt=claim.attempts,
            broker=claim.broker.name,
            duration_s=round(step.duration_s, 3),
            request_id=claim.request_id,
        )

    async def _drain(self) -> None:
        """Wait for the steps in hand; those that do not finish in time are due again at once, for another worker."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._settings.worker_grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
                _log.warning("steps cut off after the grace", steps=len(late))
        if self._held:
            with suppress(StoreError):  # then their leases end by themselves
                await self._jobs.release(list(self._held.values()))
