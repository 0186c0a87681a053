"""Does to the stack what the schedule says, from the main thread. The waiting in here is the faults themselves."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import redis

from shared.errors import HintError
from shared.records import Hint
from tests.chaos.faults import LASTS_S, Fault, Kind
from tests.chaos.stack import LEASE_S, QUEUE_PREFIX
from worker.celery_app import QUEUES, CeleryHints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.local.processes import ChildProcess
    from tests.chaos.clients import Clients
    from tests.chaos.crashes import CrashPlan
    from tests.chaos.proxy import Proxy
    from tests.chaos.stack import ChaosStack

    Action = Callable[[Fault], None]

TICK_S: Final = 0.1
DELAY_S: Final = (0.05, 0.4)
HINT_COPIES: Final = 3
JUNK: Final = ("junk", "{}", "null", '{"body": "!!", "headers": {}, "properties": {}}')
HINTED_JOBS: Final = 20
#: How long a worker sleeps that froze itself: until another one has certainly taken over.
FROZEN_S: Final = LEASE_S + 1.5


class Injector:
    """Goes through `plan`, keeps the workers at their number, and wakes those that froze themselves."""

    def __init__(
        self, stack: ChaosStack, clients: Clients, plan: list[Fault], crashes: CrashPlan, *, seed: int
    ) -> None:
        self._stack = stack
        self._clients = clients
        self._crashes = crashes
        self._awake: set[tuple[int, float]] = set()
        self._rng = random.Random(f"hints {seed}")
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Fault, bool]] = []
        for fault in plan:
            self._put(fault.at_s, fault, is_begin=True)
        self._hints = CeleryHints(stack.settings)
        self._late_hints = CeleryHints(stack.settings.model_copy(update={"hint_interval_s": 0.001}))
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="hints")
        self._kept: list[Hint] = []
        self._actions = self._table()
        self.injected: Counter[Kind] = Counter()
        self.times: list[float] = []  #: when each began, in Unix seconds
        self.late_s = 0.0  #: the longest that one began after its time; more than a few seconds spoil the schedule

    def run(self, is_over: Callable[[], bool]) -> None:
        """Go through the plan until `is_over`, which is asked again and again; then everything is whole again."""
        started = time.monotonic()
        while not is_over() or self._agenda:
            self._stack.tend()
            self._wake_frozen()
            now_s = time.monotonic() - started
            if not self._agenda or self._agenda[0][0] > now_s:
                time.sleep(min(TICK_S, self._agenda[0][0] - now_s) if self._agenda else TICK_S)
                continue
            _, _, fault, is_begin = heapq.heappop(self._agenda)
            self._act(fault, now_s, is_begin=is_begin)
        while not self._wake_frozen():
            time.sleep(TICK_S)
        self._sending.shutdown(cancel_futures=True)

    def _act(self, fault: Fault, now_s: float, *, is_begin: bool) -> None:
        begin, end = self._actions[fault.kind]
        if not is_begin:
            if end is not None:
                end(fault)
        elif self._is_busy(fault):
            self._put(now_s + TICK_S, fault, is_begin=True)
        else:
            self.times.append(time.time())
            self.late_s = max(self.late_s, now_s - fault.at_s)
            self.injected[fault.kind] += 1
            begin(fault)
            if fault.kind in LASTS_S:
                self._put(now_s + fault.lasts_s, fault, is_begin=False)

    def _put(self, at_s: float, fault: Fault, *, is_begin: bool) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), fault, is_begin))

    def _is_busy(self, fault: Fault) -> bool:
        """Whether something is being done to the same part already; the second one then comes after it."""
        part = _part(fault)
        return part not in {"hints", "worker"} and any(
            not is_begin and _part(other) == part for _, _, other, is_begin in self._agenda
        )

    def _wake_frozen(self) -> bool:
        """Wake the workers whose time has come; whether none sleeps."""
        sleeping = self._crashes.frozen() - self._awake
        for pid, since in sleeping:
            if time.time() - since > FROZEN_S:
                self._awake.add((pid, since))
                for worker in self._stack.workers:
                    if worker.pid == pid:
                        worker.signal(signal.SIGCONT)
        return not sleeping

    def _table(self) -> dict[Kind, tuple[Action, Action | None]]:
        """How each fault begins, and how it ends."""
        stack = self._stack
        return {
            Kind.KILL_WORKER: (lambda fault: self._worker(fault).kill(), None),
            Kind.FREEZE_WORKER: (
                lambda fault: self._worker(fault).signal(signal.SIGSTOP),
                lambda fault: self._worker(fault).signal(signal.SIGCONT),
            ),
            Kind.KILL_API: (lambda _: stack.api.kill(), lambda _: stack.api.start()),
            Kind.KILL_BROKER: (lambda _: stack.broker.kill(), lambda _: stack.broker.start()),
            Kind.FLUSH_QUEUE: (lambda _: self._flush(), None),
            Kind.KILL_QUEUE: (lambda _: stack.valkey.kill(), lambda _: stack.valkey.start()),
            Kind.FREEZE_QUEUE: (
                lambda _: stack.valkey.signal(signal.SIGSTOP),
                lambda _: stack.valkey.signal(signal.SIGCONT),
            ),
            Kind.JUNK_QUEUE: (self._push_junk, None),
            Kind.CRASH_POSTGRES: (lambda _: stack.postgres.crash(), lambda _: stack.postgres.start()),
            Kind.CUT_POSTGRES: (lambda fault: self._proxy(fault).cut(), None),
            Kind.CUT_QUEUE: (lambda fault: self._proxy(fault).cut(), None),
            Kind.CUT_BROKER: (lambda fault: self._proxy(fault).cut(), None),
            Kind.REFUSE_POSTGRES: (partial(self._refuse, is_on=True), partial(self._refuse, is_on=False)),
            Kind.REFUSE_BROKER: (partial(self._refuse, is_on=True), partial(self._refuse, is_on=False)),
            Kind.DELAY_POSTGRES: (partial(self._delay, is_on=True), partial(self._delay, is_on=False)),
            Kind.DELAY_QUEUE: (partial(self._delay, is_on=True), partial(self._delay, is_on=False)),
            Kind.DELAY_BROKER: (partial(self._delay, is_on=True), partial(self._delay, is_on=False)),
            Kind.REPEAT_HINTS: (lambda _: self._send(self._hints, *list(self._draw_hints()) * HINT_COPIES), None),
            Kind.LATE_HINTS: (lambda _: self._keep(), lambda _: self._send(self._hints, *self._kept)),
            Kind.BAD_HINTS: (lambda _: self._send_bad(), None),
        }

    def _flush(self) -> None:
        with redis.Redis.from_url(self._stack.valkey.url(), socket_timeout=5) as queue:
            queue.flushall()

    def _push_junk(self, fault: Fault) -> None:
        """What no client of Celery would send; a worker may end over it, and another one must go on."""
        with redis.Redis.from_url(self._stack.valkey.url(), socket_timeout=5) as queue:
            queue.lpush(f"{QUEUE_PREFIX}{QUEUES[fault.place % len(QUEUES)]}", JUNK[fault.place % len(JUNK)])

    def _refuse(self, fault: Fault, *, is_on: bool) -> None:
        self._proxy(fault).refuses = is_on
        if is_on:
            self._proxy(fault).cut()

    def _delay(self, fault: Fault, *, is_on: bool) -> None:
        low, high = DELAY_S
        self._proxy(fault).delay_s = low + fault.strength * (high - low) if is_on else 0.0

    def _worker(self, fault: Fault) -> ChildProcess:
        return self._stack.workers[fault.place % len(self._stack.workers)]

    def _proxy(self, fault: Fault) -> Proxy:
        return self._stack.proxies[_part(fault)]

    def _draw_hints(self) -> Iterator[Hint]:
        """Hints for open jobs of the moment, in each queue without regard to where the job is."""
        guids = self._clients.open_guids
        chosen = self._rng.sample(guids, min(HINTED_JOBS, len(guids)))
        for queue in QUEUES:
            yield Hint(queue, tuple(chosen))

    def _keep(self) -> None:
        self._kept = list(self._draw_hints())

    def _send_bad(self) -> None:
        for hint in self._draw_hints():
            self._send(self._late_hints, hint)
            self._send(self._hints, replace(hint, job_guids=("", "no guid", "\0", str(uuid4()))))

    def _send(self, sender: CeleryHints, *hints: Hint) -> None:
        """Send from a thread of its own: it takes seconds while the queue is frozen, which only this thread can end."""
        for hint in hints:
            self._sending.submit(_try_to_send, sender, hint)


def _try_to_send(sender: CeleryHints, hint: Hint) -> None:
    with suppress(HintError):  # the queue is away, by another fault
        sender.send(hint)


def _part(fault: Fault) -> str:
    """What of the stack the fault is done to: the last word of its name."""
    return fault.kind.name.rpartition("_")[2].lower()
