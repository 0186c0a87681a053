"""Whose turn it is, among the jobs that a process knows of."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from shared.records import Waiting
from worker.fairness import FairQueue

if TYPE_CHECKING:
    from uuid import UUID

BROKERS = [uuid.uuid5(uuid.NAMESPACE_DNS, f"broker {number}") for number in range(3)]


def job(broker: UUID = BROKERS[0], user: str = "ann", priority: int = 2) -> Waiting:
    return Waiting(uuid.uuid4(), broker, user, priority)


def test_it_lets_brokers_take_turns() -> None:
    queue = FairQueue(100)
    queue.add([job(BROKERS[0]) for _ in range(50)] + [job(BROKERS[1]) for _ in range(3)])
    assert [each.broker_guid for each in queue.pop(6)] == [BROKERS[0], BROKERS[1]] * 3


def test_it_lets_users_of_a_broker_take_turns() -> None:
    queue = FairQueue(2000)
    queue.add([job(user="ann") for _ in range(1000)])
    queue.add([job(user="bob")])
    assert "bob" in {each.user_guid for each in queue.pop(2)}


def test_it_lets_polls_go_before_starts_and_restores_before_backups() -> None:
    queue = FairQueue(100)
    queue.add([job(priority=priority) for priority in (3, 2, 1, 0)])
    assert [each.priority for each in queue.pop(4)] == [0, 1, 2, 3]


def test_it_passes_over_brokers_that_are_held_back() -> None:
    queue = FairQueue(100)
    queue.add([job(BROKERS[0]), job(BROKERS[1])])
    queue.hold_back(BROKERS[0])
    assert [each.broker_guid for each in queue.pop(9)] == [BROKERS[1]]
    queue.let_go(BROKERS[0])
    assert [each.broker_guid for each in queue.pop(9)] == [BROKERS[0]]


def test_it_puts_jobs_back_before_the_others_of_their_user() -> None:
    queue = FairQueue(100)
    jobs = [job() for _ in range(4)]
    queue.add(jobs)
    queue.put_back(queue.pop(2))
    assert queue.pop(4) == jobs


def test_it_has_room_for_so_many_jobs_of_one_broker() -> None:
    queue = FairQueue(12)
    jobs = [job() for _ in range(15)]
    assert queue.add(jobs) == [each.guid for each in jobs[12:]]
    assert queue.crowded() == {BROKERS[0]: ["ann"]}
    assert queue.add([job(BROKERS[1])]) == []


def test_it_keeps_room_for_users_who_have_no_job_there_yet() -> None:
    queue = FairQueue(30)
    assert len(queue.add([job(user="ann") for _ in range(50)])) == 20
    assert queue.crowded() == {BROKERS[0]: ["ann"]}
    assert queue.add([job(user="bob")]) == []


def test_it_keeps_a_job_once() -> None:
    queue = FairQueue(100)
    one = job()
    assert queue.add([one, one]) == []
    queue.put_back([one])
    assert (queue.pop(9), len(queue)) == ([one], 0)


def test_it_gives_out_what_it_no_longer_keeps() -> None:
    queue = FairQueue(100)
    jobs = [job(BROKERS[0]), job(BROKERS[1])]
    queue.add(jobs)
    assert queue.drain(BROKERS[0]) == [jobs[0].guid]
    assert queue.drain() == [jobs[1].guid]
    assert len(queue) == 0


@given(
    st.lists(st.tuples(st.sampled_from(BROKERS), st.sampled_from("abcd"), st.integers(0, 3)), max_size=60),
    st.integers(1, 7),
)
def test_it_loses_no_job_and_lets_nobody_wait_twice_while_another_waits(
    wanted: list[tuple[UUID, str, int]], batch: int
) -> None:
    queue = FairQueue(1000)
    jobs = [job(*each) for each in wanted]
    queue.add(jobs)
    popped = []
    while turn := queue.pop(batch):
        popped += turn
    assert Counter(popped) == Counter(jobs)
    # Between two turns of one user of a broker, every other one who waits there with the same urgency has had one.
    for broker in BROKERS:
        for priority in range(4):
            users = [each.user_guid for each in popped if (each.broker_guid, each.priority) == (broker, priority)]
            for number, user in enumerate(users):
                rest = users[number + 1 :]
                if user in rest:
                    assert set(rest[: rest.index(user)]) >= set(rest) - {user}
