"""What users see of faults of the queue: nothing. Every job ends well with one dump, and the API answers as always."""

from __future__ import annotations

import signal
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import redis

from tests.acceptance.user import User, dumps_made, provision
from tests.support import eventually, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from deploy.local.processes import ChildProcess
    from deploy.local.stack import Stack
    from deploy.local.valkey import ValkeyServer

pytestmark = pytest.mark.timeout(180)

CLIENT_TIMEOUT_S = 2
LISTS = ("start", "poll")
#: What kombu's Redis transport may keep besides its lists.
OTHER_KEYS = ("_kombu.binding.start", "_kombu.binding.poll", "unacked", "unacked_index", "unacked_mutex")


@pytest.fixture
def client(own_queue: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_queue.url(), socket_timeout=2) as client:
        yield client


@pytest.fixture
async def user(stack_on_own_queue: Stack) -> AsyncIterator[User]:
    """A user who does not wait for long."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_S)) as session:
        yield User(stack_on_own_queue, session)


async def assert_it_loses_nothing(
    user: User,
    *,
    begin: Callable[[], None],
    end: Callable[[], None],
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Accept jobs before, during and after a fault, look at them meanwhile, and find all of them done once."""
    stack = user.stack
    guids = [str(uuid.uuid4()) for _ in range(6)]
    provision(stack, guids)
    before, during, after = guids[:2], guids[2:4], guids[4:]
    locations = [await user.accepted(instance=guid) for guid in before]
    try:
        begin()
        locations += [await user.accepted(instance=guid) for guid in during]
        for location in locations:
            assert (await user.get(location))["state"] != "FAILED"
        if meanwhile:
            await meanwhile()
    finally:
        end()
    locations += [await user.accepted(instance=guid) for guid in after]
    jobs = await user.follow(*locations)
    assert {job["state"] for job in jobs} == {"COMPLETE"}
    resources = rows(stack.database_url, "select resource_guid::text as guid from jobs")
    assert dumps_made(stack) == {row["guid"]: 1 for row in resources}
    assert len(resources) == len(guids)
    # And the workers are still the same processes.
    assert [child.exit_code for child in workers(stack)] == [None, None]


def workers(stack: Stack) -> list[ChildProcess]:
    return [child for name, child in stack.children.items() if name.startswith("worker")]


async def assert_hints_arrive(user: User, client: redis.Redis) -> None:
    """The queue is in use again: a hint for the next job is put in it and taken out by a worker."""
    key = f"{user.stack.settings.queue_prefix}start"
    pushed, popped = calls(client, "lpush"), calls(client, "brpop")
    await user.follow(await user.accepted())
    await eventually(lambda: calls(client, "lpush") > pushed and calls(client, "brpop") > popped)
    await eventually(lambda: client.llen(key) == 0)


def calls(client: redis.Redis, command: str) -> int:
    statistics: Any = client.info("commandstats")  # Any: asynchronous or not
    return int(statistics.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_it_survives_a_restart_of_the_queue(user: User, own_queue: ValkeyServer, client: redis.Redis) -> None:
    await assert_it_loses_nothing(user, begin=own_queue.stop, end=own_queue.start)
    await assert_hints_arrive(user, client)


async def test_it_survives_a_killed_queue(user: User, own_queue: ValkeyServer, client: redis.Redis) -> None:
    await assert_it_loses_nothing(user, begin=own_queue.kill, end=own_queue.start)
    await assert_hints_arrive(user, client)


async def test_it_survives_a_flushed_queue(user: User, client: redis.Redis) -> None:
    def flush() -> None:
        client.flushall()

    await assert_it_loses_nothing(user, begin=flush, end=flush)
    await assert_hints_arrive(user, client)


async def test_it_survives_keys_of_a_wrong_type(user: User, client: redis.Redis) -> None:
    """Nobody takes the keys away: what stands where our lists belong is deleted, and nothing else is."""
    prefix = user.stack.settings.queue_prefix

    def damage() -> None:
        for name in (*LISTS, *OTHER_KEYS):
            client.set(prefix + name, "nonsense")
        client.set("somebody-elses", "treasure")

    await assert_it_loses_nothing(user, begin=damage, end=damage)
    await assert_hints_arrive(user, client)
    assert client.get("somebody-elses") == b"treasure"


async def test_it_survives_a_queue_without_memory(user: User, client: redis.Redis) -> None:
    def fill() -> None:
        client.config_set("maxmemory", 1)

    def free() -> None:
        client.config_set("maxmemory", 0)

    await assert_it_loses_nothing(user, begin=fill, end=free)
    await assert_hints_arrive(user, client)


async def test_it_answers_while_the_queue_hangs(user: User, own_queue: ValkeyServer, client: redis.Redis) -> None:
    """It accepts connections and never says a word; every answer of the API is there within the client's patience."""
    stack = user.stack

    async def is_noticed() -> bool:
        # Asked again and again while every thread that sends hints hangs, in the API and in the workers.
        assert len(await user.backups()) == 0
        state = (await user.get(f"{stack.api_url}/readyz"))["status"]
        return state == "degraded" and has_logged(stack, "api", "left to the dispatcher")

    await assert_it_loses_nothing(
        user,
        begin=lambda: own_queue.signal(signal.SIGSTOP),
        meanwhile=lambda: eventually(is_noticed, 60),
        end=lambda: own_queue.signal(signal.SIGCONT),
    )
    await assert_hints_arrive(user, client)


def has_logged(stack: Stack, process: str, words: str) -> bool:
    return words in (stack.directory / f"{process}.log").read_text(encoding="utf-8")
