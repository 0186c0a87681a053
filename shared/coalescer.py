"""Sharing round trips: what is submitted while a write is under way goes out together in the next one.

At idle nothing waits; under load one statement serves many callers, each with an outcome of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from shared.errors import SafekeepError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


class Coalescer(Generic[T, R]):
    """Collects items for `flush`, which takes a batch of at most `limit` and returns one result per item, in order.

    When a batch fails because of its content, its items are flushed one by one, so that a bad one harms no other;
    when the store is away, all of them fail with StoreUnavailableError. While many meet, those that come within
    `gathering_s` seconds go together; who comes alone never waits.
    """

    def __init__(
        self, flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, limit: int = 200, gathering_s: float = 0.001
    ) -> None:
        self._flush = flush
        self._limit = limit
        self._gathering_s = gathering_s
        self._pending: list[tuple[T, asyncio.Future[R]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """The result for `item`. Raises what `flush` raised for it."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await future

    async def _write(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending[: self._limit], self._pending[self._limit :]
                await self._settle(batch)
                if len(self._pending) < self._limit:
                    await asyncio.sleep(self._gathering_s if len(batch) > 1 else 0)
        finally:
            self._writer = None

    async def _settle(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._flush([item for item, _ in batch])
        except StoreUnavailableError as error:
            _fail(batch, error)
        except SafekeepError as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for entry in batch:
                await self._settle([entry])
        except BaseException as error:
            # Nobody may wait for ever on a future that no one will settle, whatever went wrong.
            _fail(batch, error)
            raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: Sequence[tuple[object, asyncio.Future[R]]], error: BaseException) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
