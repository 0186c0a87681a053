"""Group commit: who meets shares a batch, and nobody pays for another's mistake."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.coalescer import Coalescer
from shared.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence


async def test_it_puts_what_arrives_during_a_write_into_the_next_one() -> None:
    batches: list[list[int]] = []
    started, release = asyncio.Event(), asyncio.Event()

    async def flush(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        started.set()
        await release.wait()
        return [item * 10 for item in items]

    coalescer = Coalescer(flush)
    first = asyncio.create_task(coalescer.submit(1))
    await started.wait()
    others = [asyncio.create_task(coalescer.submit(item)) for item in (2, 3, 4)]
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert batches == [[1], [2, 3, 4]]


async def test_it_bounds_a_batch() -> None:
    sizes: list[int] = []

    async def flush(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return list(items)

    coalescer = Coalescer(flush, limit=4)
    await asyncio.gather(*(coalescer.submit(item) for item in range(10)))
    assert max(sizes) <= 4


async def test_it_lets_one_bad_item_harm_no_other() -> None:
    async def flush(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise StoreError("three is bad")
        return list(items)

    coalescer = Coalescer(flush)
    results = await asyncio.gather(*(coalescer.submit(item) for item in range(5)), return_exceptions=True)
    assert [result for result in results if not isinstance(result, StoreError)] == [0, 1, 2, 4]


async def test_it_fails_everybody_once_when_the_store_is_away() -> None:
    calls = 0

    async def flush(_items: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        raise StoreUnavailableError

    coalescer = Coalescer(flush)
    results = await asyncio.gather(*(coalescer.submit(item) for item in range(5)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert calls == 1


async def test_it_works_on_after_a_failure() -> None:
    answers: list[Exception | None] = [StoreUnavailableError(), None]

    async def flush(items: Sequence[int]) -> list[int]:
        if error := answers.pop(0):
            raise error
        return list(items)

    coalescer = Coalescer(flush)
    with pytest.raises(StoreUnavailableError):
        await coalescer.submit(1)
    assert await coalescer.submit(2) == 2


async def test_it_goes_on_when_a_caller_has_left() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def flush(items: Sequence[int]) -> list[int]:
        started.set()
        await release.wait()
        return list(items)

    coalescer = Coalescer(flush)
    gone = asyncio.create_task(coalescer.submit(1))
    await started.wait()
    stays = asyncio.create_task(coalescer.submit(2))
    gone.cancel()
    release.set()
    assert await stays == 2
