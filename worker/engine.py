"""The heart of a worker process: one event loop in a thread of its own, on which steps of many jobs run at once.

Celery's threads hand job guids over with `take`. These wait here for their turns, in memory and bounded, since the
database knows them anyway; a slow broker therefore holds places on the loop, never a slot of Celery's or a place in the
queue before others.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from shared.coalescer import Coalescer
from shared.errors import SchemaError, StoreError, StoreUnavailableError
from shared.observability.logging import get_logger
from shared.records import Waiting
from shared.security.secrets import Sealer
from shared.store.audit_events import AuditEvents
from shared.store.database import Database
from shared.store.idempotency_keys import IdempotencyKeys
from shared.store.jobs import POLL_PRIORITY, Jobs, soon_s
from shared.store.migrate import check_schema
from worker.broker.client import BrokerClient
from worker.dispatcher import Dispatcher
from worker.fairness import FairQueue
from worker.hooks import Hook, Point, pass_by
from worker.maintenance.pruning import Pruning
from worker.steps.step import Steps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from shared.hints import HintSender
    from shared.records import Claim, Refusal, Step
    from shared.settings import Settings

_log = get_logger(__name__)

SCHEMA_PAUSE_S: Final = 0.2
#: How long claims and records wait before they try an unreachable database again.
STORE_PAUSE_S: Final = 0.2
#: Jobs of one broker that wait in a process for their turns; more of them are left to the database.
WAITING_MAX: Final = 500
CLAIM_BATCH: Final = 200
#: Least pause between two claims, and between two records, of a busy process: steps that meet in it share a statement.
GATHERING_S: Final = 0.002
#: Steps that a process may have in hand for each call that it may make: a step goes on until it is recorded.
STEPS_PER_CALL: Final = 2
#: Hints whose jobs are being looked at; a look takes a round trip.
LOOKS_MAX: Final = 200
#: A broker at its limit is looked at again after this, since its calls may be other workers'.
LIMIT_PAUSE_S: Final = 0.1
#: A broker that has to be left alone for longer than this keeps no jobs here: the dispatchers know when to come back.
PATIENCE_S: Final = 1.0


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
        self._woken: asyncio.Event
        self._queue = FairQueue(WAITING_MAX)
        self._looks: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Jobs that are being claimed, and claimed ones whose broker is being called: each of them takes a place.
        self._claiming = 0
        self._calling = 0
        self._held: dict[UUID, Claim] = {}
        #: Polls that are due soon, with the timers that let them wait for their turns.
        self._soon: dict[UUID, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Start the loop; returns when it can take jobs, which waits for the database. Raises SettingsError."""
        self._thread.start()
        self._ready.result()

    def take(self, guids: Iterable[object]) -> None:
        """Take hinted jobs, from any thread; returns at once. Words that are no guids drop."""
        wanted = []
        for guid in guids:
            with suppress(ValueError, AttributeError, TypeError):
                wanted.append(UUID(guid))  # type: ignore[arg-type] # whatever came in a message; no text is no guid
        asyncio.run_coroutine_threadsafe(self._offer(wanted), self._loop).result()

    def ping(self, timeout_s: float) -> bool:
        """Whether the loop takes a turn within `timeout_s` seconds; from any other thread."""
        try:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result(timeout_s)
        except (TimeoutError, RuntimeError):
            return False
        return True

    def stop(self) -> None:
        """Finish the steps in hand within the grace, give the others back, and end the loop."""
        with suppress(RuntimeError):  # it has ended by itself
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
        self._woken = asyncio.Event()
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                Database(self._settings, size=self._settings.worker_pool_size, name="safekeep-worker")
            )
            client = await stack.enter_async_context(BrokerClient(self._settings, self._sealer))
            await self._wait_for_schema(database)
            self._jobs = Jobs(database, self._settings)
            self._records: Coalescer[Step, bool] = Coalescer(self._jobs.record, gathering_s=GATHERING_S)
            self._steps = Steps(self._settings, client, self._worker, self._at)
            dispatcher = Dispatcher(self._settings, self._jobs, self._sender, self._offer, self._queue.crowded)
            working = asyncio.create_task(self._work())
            loops = (dispatcher, Pruning(self._settings, self._jobs, AuditEvents(database), IdempotencyKeys(database)))
            running = [asyncio.create_task(loop.run()) for loop in loops]
            self._ready.set_result(None)
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._stopping.wait()), working, *running]
            # None of them ends by itself; one that does is a bug, and the process must not live on without it.
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            self._woken.set()
            for loop in loops:
                loop.stop()
            # Not cancelled at once: what they ask of the database would be done, and nobody would know of it.
            _, late = await asyncio.wait([working, *running, *self._looks], timeout=self._settings.database_timeout_s)
            for task in late:
                task.cancel()
            await self._drain()
            for task in ended:
                task.result()

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

    async def _offer(self, guids: Collection[UUID]) -> None:
        """Have hinted jobs looked at. When too many hints wait for that, the database is away, and they come again."""
        if len(self._looks) < LOOKS_MAX:
            look = asyncio.create_task(self._admit(guids))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _admit(self, guids: Collection[UUID]) -> None:
        """Let hinted jobs wait for their turns; those for which there is no room are due for another hint."""
        rejected: Collection[UUID] = guids
        while not self._stopping.is_set():
            try:
                if not self._queue and len(guids) <= self._places:
                    # Nobody waits, so that there is no order to find.
                    await self._claim(guids)
                    return
                rejected = self._queue.add(await self._jobs.look(guids))
            except StoreUnavailableError:
                await asyncio.sleep(STORE_PAUSE_S)
            except StoreError as error:
                _log.error("hints could not be followed", jobs=len(guids), error=str(error))  # a bug of ours
                return
            else:
                self._woken.set()
                break
        await self._give_up_hints(rejected)

    def _continue(self, job: Waiting, pause_s: float) -> None:
        """Let the poll of a job whose step was just recorded wait for its turn, from when it is due."""

        def be_due() -> None:
            del self._soon[job.guid]
            # Without room it is left to the dispatcher, which comes to it after the grace.
            self._queue.add([job])
            self._woken.set()

        if not self._stopping.is_set():
            self._soon[job.guid] = asyncio.get_running_loop().call_later(pause_s, be_due)

    async def _give_up_hints(self, guids: Collection[UUID]) -> None:
        if guids:
            with suppress(StoreError):  # then their hints are repeated at their time
                await self._jobs.take_back_hints(guids)

    async def _work(self) -> None:
        """Claim jobs as places become free, and let their steps run."""
        while not self._stopping.is_set():
            await self._woken.wait()
            self._woken.clear()
            if self._is_busy():
                await asyncio.sleep(GATHERING_S)
            while not self._stopping.is_set() and self._places > 0:
                turn = self._queue.pop(min(self._places, CLAIM_BATCH))
                if not turn:
                    break
                try:
                    await self._claim([job.guid for job in turn])
                except StoreUnavailableError:
                    self._queue.put_back(turn)
                    await asyncio.sleep(STORE_PAUSE_S)
                    continue
                except StoreError as error:
                    # A bug of ours. The jobs are hinted again later; others must not wait for them.
                    _log.error("jobs could not be claimed", jobs=len(turn), error=str(error))

    @property
    def _places(self) -> int:
        """How many more steps may begin. Calls are limited, and so is what waits until the database has recorded it."""
        limit = self._settings.calls_in_flight
        return min(limit - self._calling, STEPS_PER_CALL * limit - len(self._tasks)) - self._claiming

    def _is_busy(self) -> bool:
        """Whether most places are taken, so that those that become free do so one by one."""
        return self._places < self._settings.calls_in_flight // 2

    async def _claim(self, guids: Collection[UUID]) -> None:
        """Claim jobs, for which there are places, and let their steps run. Raises StoreError."""
        self._claiming += len(guids)
        try:
            found = await self._jobs.claim(guids, owner=self._worker, lease_s=self._settings.lease_s)
        finally:
            self._claiming -= len(guids)
        self._calling += len(found.claims)
        for claim in found.claims:
            task = asyncio.create_task(self._take_step(claim))
            self._tasks.add(task)
            task.add_done_callback(self._finish)
        await self._wait_for_brokers(found.refusals)

    async def _wait_for_brokers(self, refusals: Collection[Refusal]) -> None:
        """Hold the brokers back that take no calls now, and their jobs with them unless that may take long."""
        self._queue.put_back(refusal.job for refusal in refusals)
        for broker, pause_s in {refusal.job.broker_guid: refusal.pause_s for refusal in refusals}.items():
            if pause_s is not None and pause_s > PATIENCE_S:
                await self._give_up_hints(self._queue.drain(broker))
                continue
            self._queue.hold_back(broker)
            asyncio.get_running_loop().call_later(max(pause_s or 0.0, LIMIT_PAUSE_S), self._let_go, broker)

    def _let_go(self, broker: UUID) -> None:
        self._queue.let_go(broker)
        self._woken.set()

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            # A bug of ours. The lease ends, another worker tries, and the attempts and the deadline bound it.
            _log.error("a step failed", exc_info=error)

    async def _take_step(self, claim: Claim) -> None:
        guid = claim.job_guid
        self._held[guid] = claim
        try:
            try:
                step = await self._steps.take(claim)
            finally:
                self._calling -= 1
                self._woken.set()
            self._at(Point.BEFORE_RECORD, claim)
            is_recorded = await self._record(step)
            self._at(Point.AFTER_RECORD, claim)
            del self._held[guid]
            self._queue.let_go(claim.broker.guid)
            if is_recorded and (pause_s := soon_s(step)) is not None:
                self._continue(Waiting(guid, claim.broker.guid, claim.user_guid, POLL_PRIORITY), pause_s)
        except (StoreError, TimeoutError) as error:
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
        if is_recorded and claim.operation.is_clean_up and step.errors:
            _log.error("a clean-up was given up: something may be left at the broker", job=str(guid))

    async def _record(self, step: Step) -> bool:
        """Record `step`, again and again while the database is away and the lease lasts; whether its fence fitted."""
        async with asyncio.timeout(self._settings.lease_s):
            while True:
                try:
                    return await self._records.submit(step)
                except StoreUnavailableError:
                    # Its answer may have been lost after it was recorded: then the fence no longer fits.
                    await asyncio.sleep(STORE_PAUSE_S)

    async def _drain(self) -> None:
        """Wait for the steps in hand; those that do not finish in time are due again at once, for another worker."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._settings.worker_grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
                _log.warning("steps cut off after the grace", steps=len(late))
        with suppress(StoreError):  # then their leases end by themselves
            if self._held:
                await self._jobs.release(list(self._held.values()))
        for timer in self._soon.values():
            timer.cancel()
        await self._give_up_hints([*self._queue.drain(), *self._soon])
