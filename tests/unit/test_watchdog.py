"""A worker process that lives and does nothing is noticed; one that cannot know better is left alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from shared.errors import HintError
from worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Engine:
    is_standing = False

    def ping(self, timeout_s: float) -> bool:
        assert timeout_s > 0
        return not self.is_standing


class Watch:
    """A watchdog whose pulses go where the test wants, and whose looks are counted."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.ended = threading.Event()
        self.looked = threading.Semaphore(0)
        self.deliver: Callable[[], None] = lambda: None
        self.dog = Watchdog(self.send, self.engine, deaf_s=0.06, grace_s=1, end=self.ended.set)

    def send(self) -> None:
        self.deliver()
        self.looked.release()

    def wait_for_looks(self, count: int) -> None:
        for _ in range(count):
            assert self.looked.acquire(timeout=20)


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.dog.stop()


def refuse() -> None:
    raise HintError("away")


def test_it_ends_a_worker_that_receives_nothing(watch: Watch) -> None:
    watch.dog.start()
    assert watch.ended.wait(20)
    assert watch.dog.has_barked


def test_it_leaves_a_worker_alone_that_receives(watch: Watch) -> None:
    watch.deliver = watch.dog.hear
    watch.dog.start()
    watch.wait_for_looks(40)
    assert not watch.ended.is_set()


def test_it_does_not_blame_the_worker_for_a_queue_that_is_away(watch: Watch) -> None:
    looks = threading.Semaphore(0)

    def away() -> None:
        looks.release()
        refuse()

    watch.deliver = away
    watch.dog.start()
    for _ in range(40):
        assert looks.acquire(timeout=20)
    assert not watch.ended.is_set()
    watch.deliver = lambda: None  # it is back, and the worker does not notice
    assert watch.ended.wait(20)


def test_it_ends_a_worker_whose_engine_stands_still(watch: Watch) -> None:
    watch.deliver = watch.dog.hear
    watch.engine.is_standing = True
    watch.dog.start()
    assert watch.ended.wait(20)


def test_it_no_longer_watches_once_told_so(watch: Watch) -> None:
    watch.dog.stop()
    watch.dog.start()
    watch.dog._thread.join(20)
    assert not watch.ended.is_set()
