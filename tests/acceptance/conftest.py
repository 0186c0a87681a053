"""A whole stack for acceptance tests: real processes, the reference broker, real dumps, over HTTP only."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from deploy.local.stack import DATABASE_VARIABLE, QUEUE_VARIABLE, Stack
from deploy.local.valkey import ValkeyServer
from tests.acceptance.user import User

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

#: Recovery is a matter of leases and hint intervals; short ones show it in seconds.
SHORT = {
    "SAFEKEEP_LEASE_S": "3",
    "SAFEKEEP_BROKER_TIMEOUT_S": "1.4",
    "SAFEKEEP_HINT_INTERVAL_S": "1",
    "SAFEKEEP_HINT_INTERVAL_MAX_S": "2",
    "SAFEKEEP_START_BACKOFF_S": "0.2",
    "SAFEKEEP_POLL_INTERVAL_S": "0.2",
    "SAFEKEEP_POLL_INTERVAL_MAX_S": "1",
    "SAFEKEEP_WORKER_GRACE_S": "1",
    "SAFEKEEP_BREAKER_PAUSE_S": "0.5",
    "SAFEKEEP_BREAKER_PAUSE_MAX_S": "1",
    "SAFEKEEP_CLEAN_UP_BACKOFF_S": "0.5",
}


@contextmanager
def stack_on(postgres_url: str, queue_url: str, directory: Path, **settings: str) -> Iterator[Stack]:
    """A stack of its own on these servers."""
    os.environ[DATABASE_VARIABLE], os.environ[QUEUE_VARIABLE] = postgres_url, queue_url
    try:
        with Stack(directory, is_scratch=True, settings=SHORT | settings) as stack:
            yield stack
    finally:
        del os.environ[DATABASE_VARIABLE], os.environ[QUEUE_VARIABLE]


@pytest.fixture
def start_stack(postgres_url: str, queue_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Starts stacks on the servers of the test run, or on those that a test has instead."""

    def start(**settings: str) -> Any:
        return stack_on(postgres_url, queue_url, tmp_path_factory.mktemp("stack"), **settings)

    return start


@pytest.fixture
def stack(start_stack: Callable[..., Any]) -> Iterator[Stack]:
    with start_stack() as stack:
        yield stack


@pytest.fixture
async def user(stack: Stack) -> AsyncIterator[User]:
    async with aiohttp.ClientSession() as session:
        yield User(stack, session)


@pytest.fixture
def own_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("own-valkey")) as server:
        yield server


@pytest.fixture
def stack_on_own_queue(start_stack: Callable[..., Any], own_queue: Any) -> Iterator[Stack]:
    with start_stack(**{QUEUE_VARIABLE: own_queue.url()}) as stack:
        yield stack
