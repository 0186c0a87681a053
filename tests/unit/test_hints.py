"""Hints of new jobs: the first goes out at once, those that follow it share the next, and none is in anybody's way."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from api.hints import HintPump
from shared.errors import QueueLengthError
from tests.support import eventually

if TYPE_CHECKING:
    from shared.records import Hint


class Queue:
    """Takes hints; when it is full, not the next one."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.hints: list[Hint] = []
        self.is_full = is_full
        self.has_one = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def send(self, hint: Hint) -> None:
        was_full, self.is_full = self.is_full, False
        self.hints.append(hint)
        self._loop.call_soon_threadsafe(self.has_one.set)
        if was_full:
            raise QueueLengthError("enough")

    def check(self) -> None:
        pass

    async def next(self) -> Hint:
        await self.has_one.wait()
        self.has_one.clear()
        return self.hints[-1]


async def test_it_sends_the_first_alone_and_those_that_follow_together() -> None:
    queue, broker = Queue(), uuid.uuid4()
    guids = [uuid.uuid4() for _ in range(6)]
    async with HintPump(queue, 50) as pump:
        pump.offer(guids[0], broker)
        assert (await queue.next()).job_guids == (str(guids[0]),)
        for guid in guids[1:]:
            pump.offer(guid, broker)
        assert (await queue.next()).job_guids == tuple(map(str, guids[1:]))


async def test_it_gives_every_broker_hints_of_its_own() -> None:
    queue = Queue()
    jobs = [(uuid.uuid4(), broker) for broker in (uuid.uuid4(), uuid.uuid4()) for _ in range(2)]
    async with HintPump(queue, 50) as pump:
        for guid, broker in jobs:
            pump.offer(guid, broker)
        sent = [await queue.next(), await queue.next()]
    assert [hint.job_guids for hint in sent] == [
        tuple(str(guid) for guid, _ in jobs[:2]),
        tuple(str(guid) for guid, _ in jobs[2:]),
    ]


async def test_it_leaves_jobs_to_the_dispatcher_when_the_queue_has_enough() -> None:
    queue, broker = Queue(is_full=True), uuid.uuid4()
    first, *others, last = (uuid.uuid4() for _ in range(4))
    async with HintPump(queue, 1) as pump:
        for guid in (first, *others):
            pump.offer(guid, broker)
        await queue.next()

        def is_sent() -> bool:
            pump.offer(last, broker)
            return any(hint.job_guids == (str(last),) for hint in queue.hints)

        await eventually(is_sent)
    assert {guid for hint in queue.hints for guid in hint.job_guids} == {str(first), str(last)}
