"""What is done to the stack from outside, when, and by which seed. The waiting in here is the faults themselves."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import redis

from shared.errors import HintError
from shared.records import Hint
from tests.chaos.stack import LEASE_S
from worker.celery_app import QUEUES, CeleryHints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.local.processes import ChildProcess
    from tests.chaos.clients import Clients
    from tests.chaos.stack import ChaosStack

GAP_S: Final = 2.2
TICK_S: Final = 0.1
DELAY_S: Final = (0.05, 0.4)
HINT_COPIES: Final = 3
HINTED_JOBS: Final = 20


class Kind(StrEnum):
    """A fault. The values are what the report says."""

    KILL_WORKER = "SIGKILL of a worker"
    FREEZE_WORKER = "SIGSTOP of a worker for longer than a lease"
    KILL_API = "SIGKILL of the API"
    KILL_BROKER = "SIGKILL of the broker"
    FLUSH_QUEUE = "FLUSHALL of the queue"
    KILL_QUEUE = "SIGKILL of the queue"
    FREEZE_QUEUE = "SIGSTOP of the queue"
    CRASH_POSTGRES = "crash of PostgreSQL"
    CUT_POSTGRES = "connections to PostgreSQL cut"
    CUT_QUEUE = "connections to the queue cut"
    CUT_BROKER = "connections to the broker cut"
    REFUSE_POSTGRES = "PostgreSQL not to be reached"
    REFUSE_BROKER = "broker not to be reached"
    DELAY_POSTGRES = "PostgreSQL slow"
    DELAY_QUEUE = "queue slow"
    DELAY_BROKER = "broker slow"
    REPEAT_HINTS = "hints repeated"
    LATE_HINTS = "hints delayed"
    BAD_HINTS = "expired and senseless hints"


#: How long each lasts, in seconds, from and to; those that are not here are over at once.
LASTS_S: Final = {
    Kind.FREEZE_WORKER: (LEASE_S + 0.5, LEASE_S + 1.5),
    Kind.KILL_API: (0.0, 0.5),
    Kind.KILL_BROKER: (0.2, 1.0),
    Kind.KILL_QUEUE: (0.5, 2.0),
    Kind.FREEZE_QUEUE: (1.0, 3.0),
    Kind.CRASH_POSTGRES: (0.2, 1.0),
    Kind.REFUSE_POSTGRES: (0.5, 2.0),
    Kind.REFUSE_BROKER: (0.5, 2.0),
    Kind.DELAY_POSTGRES: (1.0, 2.0),
    Kind.DELAY_QUEUE: (1.0, 3.0),
    Kind.DELAY_BROKER: (1.0, 3.0),
    Kind.LATE_HINTS: (1.0, 3.0),
}


@dataclass(frozen=True)
class Fault:
    """One fault: `at_s` seconds after the clients began. `place` chooses among several workers."""

    at_s: float
    kind: Kind
    lasts_s: float
    place: int
    strength: float  #: from 0 to 1

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s  {self.kind.value}{lasts}"


def plan_faults(seed: int, duration_s: float) -> list[Fault]:
    """A schedule: every kind once before any comes again, evenly over `duration_s` seconds, with some jitter."""
    rng = random.Random(f"faults {seed}")
    rounds = max(1, round(duration_s / GAP_S / len(Kind)))
    kinds = [kind for _ in range(rounds) for kind in rng.sample(list(Kind), len(Kind))]
    gap_s = duration_s / len(kinds)
    return [
        Fault(
            at_s=(number + rng.random()) * gap_s,
            kind=kind,
            lasts_s=rng.uniform(*LASTS_S[kind]) if kind in LASTS_S else 0.0,
            place=rng.randrange(1000),
            strength=rng.random(),
        )
        for number, kind in enumerate(kinds)
    ]


class Injector:
    """Does to `stack` what `plan` says, from the main thread, and keeps the workers at their number meanwhile."""

    def __init__(self, stack: ChaosStack, clients: Clients, plan: list[Fault], seed: int) -> None:
        self._stack = stack
        self._clients = clients
        self._rng = random.Random(f"hints {seed}")
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Fault, bool]] = []
        for fault in plan:
            self._put(fault.at_s, fault, is_begin=True)
        self._hints = CeleryHints(stack.settings)
        self._late_hints = CeleryHints(stack.settings.model_copy(update={"hint_interval_s": 0.001}))
        self._kept: list[Hint] = []
        self.injected: Counter[Kind] = Counter()
        self.times: list[float] = []  #: when each began, in Unix seconds

    def run(self, is_over: Callable[[], bool]) -> None:
        """Go through the plan until `is_over`, which is asked again and again; then everything is whole again."""
        started = time.monotonic()
        while not is_over() or self._agenda:
            self._stack.tend()
            now_s = time.monotonic() - started
            if not self._agenda or self._agenda[0][0] > now_s:
                left_s = self._agenda[0][0] - now_s if self._agenda else TICK_S
                time.sleep(min(TICK_S, left_s))
                continue
            _, _, fault, is_begin = heapq.heappop(self._agenda)
            if not is_begin:
                self._end(fault)
                continue
            if self._is_busy(fault):
                self._put(now_s + TICK_S, fault, is_begin=True)
                continue
            self.times.append(time.time())
            self.injected[fault.kind] += 1
            self._begin(fault)
            if fault.kind in LASTS_S:
                self._put(now_s + fault.lasts_s, fault, is_begin=False)

    def _put(self, at_s: float, fault: Fault, *, is_begin: bool) -> None:
        heapq.heappush(self._agenda, (at_s, next(self._order), fault, is_begin))

    def _is_busy(self, fault: Fault) -> bool:
        """Whether something is being done to the same part already; the second one then comes after it."""
        part = fault.kind.name.rpartition("_")[2]
        return part not in {"HINTS", "WORKER"} and any(
            not is_begin and other.kind.name.rpartition("_")[2] == part for _, _, other, is_begin in self._agenda
        )

    def _begin(self, fault: Fault) -> None:
        stack = self._stack
        match fault.kind:
            case Kind.KILL_WORKER:
                self._worker(fault).kill()
            case Kind.FREEZE_WORKER:
                self._worker(fault).signal(signal.SIGSTOP)
            case Kind.KILL_API:
                stack.api.kill()
            case Kind.KILL_BROKER:
                stack.broker.kill()
            case Kind.FLUSH_QUEUE:
                with redis.Redis.from_url(stack.valkey.url(), socket_timeout=5) as queue:
                    queue.flushall()
            case Kind.KILL_QUEUE:
                stack.valkey.kill()
            case Kind.FREEZE_QUEUE:
                stack.valkey.signal(signal.SIGSTOP)
            case Kind.CRASH_POSTGRES:
                stack.postgres.crash()
            case Kind.CUT_POSTGRES | Kind.CUT_QUEUE | Kind.CUT_BROKER:
                stack.proxies[_part(fault)].cut()
            case Kind.REFUSE_POSTGRES | Kind.REFUSE_BROKER:
                stack.proxies[_part(fault)].refuses = True
                stack.proxies[_part(fault)].cut()
            case Kind.DELAY_POSTGRES | Kind.DELAY_QUEUE | Kind.DELAY_BROKER:
                low, high = DELAY_S
                stack.proxies[_part(fault)].delay_s = low + fault.strength * (high - low)
            case Kind.REPEAT_HINTS:
                for hint in self._draw_hints():
                    for _ in range(HINT_COPIES):
                        self._send(self._hints, hint)
            case Kind.LATE_HINTS:
                self._kept = list(self._draw_hints())
            case Kind.BAD_HINTS:
                for hint in self._draw_hints():
                    self._send(self._late_hints, hint)
                    self._send(self._hints, replace(hint, job_guids=("", "no guid", "\0", str(uuid4()))))

    def _end(self, fault: Fault) -> None:
        stack = self._stack
        match fault.kind:
            case Kind.FREEZE_WORKER:
                self._worker(fault).signal(signal.SIGCONT)
            case Kind.KILL_API:
                stack.api.start()
            case Kind.KILL_BROKER:
                stack.broker.start()
            case Kind.KILL_QUEUE:
                stack.valkey.start()
            case Kind.FREEZE_QUEUE:
                stack.valkey.signal(signal.SIGCONT)
            case Kind.CRASH_POSTGRES:
                stack.postgres.start()
            case Kind.REFUSE_POSTGRES | Kind.REFUSE_BROKER:
                stack.proxies[_part(fault)].refuses = False
            case Kind.DELAY_POSTGRES | Kind.DELAY_QUEUE | Kind.DELAY_BROKER:
                stack.proxies[_part(fault)].delay_s = 0.0
            case Kind.LATE_HINTS:
                for hint in self._kept:
                    self._send(self._hints, hint)

    def _worker(self, fault: Fault) -> ChildProcess:
        return self._stack.workers[fault.place % len(self._stack.workers)]

    def _draw_hints(self) -> Iterator[Hint]:
        """Hints for open jobs of the moment, each queue without regard to where the job is."""
        guids = self._clients.open_guids
        chosen = self._rng.sample(guids, min(HINTED_JOBS, len(guids)))
        for queue in QUEUES:
            yield Hint(queue, tuple(chosen))

    def _send(self, sender: CeleryHints, hint: Hint) -> None:
        with suppress(HintError):  # the queue is away, by another fault
            sender.send(hint)


def _part(fault: Fault) -> str:
    return fault.kind.name.rpartition("_")[2].lower()
