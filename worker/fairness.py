"""Whose turn it is: the due jobs that a worker process knows of, in an order that is fair to brokers and to users.

Brokers take turns; of one broker, polls go before starts and restores before backups; and within these, users take
turns. So one user with ten thousand jobs, or one broker that hangs, delays nobody else.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from shared.records import Waiting

#: So many jobs of one user may wait here however many of others do.
SHARE: Final = 10


class _Lane:
    """The waiting jobs of one broker."""

    def __init__(self) -> None:
        self._users: dict[int, OrderedDict[str, deque[Waiting]]] = {}
        self.counts: Counter[str] = Counter()

    @property
    def size(self) -> int:
        return self.counts.total()

    def served(self) -> list[str]:
        return [user for user, count in self.counts.items() if count >= SHARE]

    def add(self, job: Waiting, *, is_first: bool) -> None:
        jobs = self._users.setdefault(job.priority, OrderedDict()).setdefault(job.user_guid, deque())
        if is_first:
            jobs.appendleft(job)
            self._users[job.priority].move_to_end(job.user_guid, last=False)
        else:
            jobs.append(job)
        self.counts[job.user_guid] += 1

    def pop(self) -> Waiting:
        priority = min(self._users)
        users = self._users[priority]
        user, jobs = next(iter(users.items()))
        job = jobs.popleft()
        self.counts[user] -= 1
        if not self.counts[user]:
            del self.counts[user]
        if jobs:
            users.move_to_end(user)
        else:
            del users[user]
            if not users:
                del self._users[priority]
        return job


class FairQueue:
    """Waiting jobs, each once, with at most `capacity` of one broker, beyond the share that each user has there."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lanes: OrderedDict[UUID, _Lane] = OrderedDict()
        self._held_back: set[UUID] = set()
        self._known: set[UUID] = set()

    def __len__(self) -> int:
        return len(self._known)

    def crowded(self) -> dict[UUID, list[str]]:
        """Brokers of which half as many jobs wait as there is room for, each with the users who have their share."""
        return {broker: lane.served() for broker, lane in self._lanes.items() if lane.size * 2 >= self._capacity}

    def add(self, jobs: Iterable[Waiting]) -> list[UUID]:
        """Let `jobs` wait; those for which there is no room are returned. One that waits already is not added again."""
        rejected = []
        for job in jobs:
            if job.guid in self._known:
                continue
            lane = self._lanes.setdefault(job.broker_guid, _Lane())
            if lane.size >= self._capacity and lane.counts[job.user_guid] >= SHARE:
                rejected.append(job.guid)
                continue
            lane.add(job, is_first=False)
            self._known.add(job.guid)
        return rejected

    def put_back(self, jobs: Iterable[Waiting]) -> None:
        """Let jobs that were popped wait again, before all others of their user."""
        for job in reversed(list(jobs)):
            if job.guid not in self._known:
                self._lanes.setdefault(job.broker_guid, _Lane()).add(job, is_first=True)
                self._known.add(job.guid)

    def pop(self, limit: int) -> list[Waiting]:
        """At most `limit` jobs whose turn it is, of brokers that are not held back."""
        jobs: list[Waiting] = []
        while len(jobs) < limit:
            broker = next((guid for guid in self._lanes if guid not in self._held_back), None)
            if broker is None:
                break
            lane = self._lanes[broker]
            job = lane.pop()
            self._known.discard(job.guid)
            jobs.append(job)
            if lane.size:
                self._lanes.move_to_end(broker)
            else:
                del self._lanes[broker]
        return jobs

    def hold_back(self, broker: UUID) -> None:
        """Let the broker's jobs wait until `let_go`."""
        self._held_back.add(broker)

    def let_go(self, broker: UUID) -> None:
        """Let the broker's jobs have their turns again."""
        self._held_back.discard(broker)

    def drain(self, broker: UUID | None = None) -> list[UUID]:
        """Take out all jobs, or those of one broker, and return their guids."""
        brokers = list(self._lanes) if broker is None else [broker]
        guids = []
        for guid in brokers:
            lane = self._lanes.pop(guid, None)
            while lane is not None and lane.size:
                guids.append(lane.pop().guid)
        self._known.difference_update(guids)
        return guids
