"""What is kept of an answer from elsewhere: asked for again when it is old or does not fit, seldom, by one at a time.

However many requests want a newer answer, at most one is on its way, and none begins within a pause after the last one
ended. A failure leaves what is kept as it is.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from shared.errors import ApiError, UaaUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

#: How long a request waits for a newer answer while an old one is there.
PATIENCE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Version(Generic[T]):
    """A value, told from an equal one that was fetched later by its number."""

    value: T
    number: int


class Source(Protocol[T]):
    """Where a value comes from."""

    async def current(self) -> Version[T]:
        """The value to go by. Raises an ApiError when there is none."""
        ...

    async def newer_than(self, seen: Version[T]) -> Version[T] | None:
        """The value that came after `seen`, which did not fit; None when there is none for now."""
        ...


class Fixed(Generic[T]):
    """A value from settings, which never changes."""

    def __init__(self, value: T) -> None:
        self._version = Version(value, 0)

    async def current(self) -> Version[T]:
        """The value."""
        return self._version

    async def newer_than(self, seen: Version[T]) -> Version[T] | None:  # noqa: ARG002 - part of the protocol
        """None: nothing comes after it."""
        return None


class Kept(Generic[T]):
    """A value that `fetch` gives, or raises an ApiError.

    `age_max_s`: after so many seconds it is fetched again, while what is kept stays in use. `pause_s`: no fetch begins
    within so many seconds after the end of another.
    """

    def __init__(self, fetch: Callable[[], Awaitable[T]], *, age_max_s: float, pause_s: float) -> None:
        self._fetch = fetch
        self._age_max_s = age_max_s
        self._pause_s = pause_s
        self._version: Version[T] | None = None
        self._failure: type[ApiError] = UaaUnavailableError
        self._fetched_at = self._begun_at = self._ended_at = -math.inf
        self._fetching: asyncio.Task[None] | None = None

    async def current(self) -> Version[T]:
        """The value to go by; one that is too old is waited for briefly. Raises what `fetch` last raised."""
        if self._version is None:
            await self._refresh(math.inf)
        elif time.monotonic() - self._fetched_at >= self._age_max_s:
            await self._refresh(PATIENCE_S)
        if self._version is None:
            rest_s = self._ended_at + self._pause_s - time.monotonic()
            raise self._failure(retry_after_s=max(1, math.ceil(rest_s)))
        return self._version

    async def newer_than(self, seen: Version[T]) -> Version[T] | None:
        """The value after `seen`, fetched unless that was done just now; None when there is none for now."""
        if self._version is not None and self._version.number == seen.number:
            await self._refresh(math.inf)
        return None if self._version is None or self._version.number == seen.number else self._version

    async def close(self) -> None:
        """Give up a fetch that is on its way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _refresh(self, patience_s: float) -> None:
        """Take part in the fetch that is on its way, or begin one if it is time; wait until it is `patience_s` old."""
        now = time.monotonic()
        if self._fetching is None or self._fetching.done():
            if now - self._ended_at < self._pause_s:
                return
            self._begun_at = now
            self._fetching = asyncio.create_task(self._fetch_once())
        rest_s = None if math.isinf(patience_s) else max(0.0, self._begun_at + patience_s - now)
        # Not awaited directly: a request that is cancelled leaves the fetch to the others.
        done, _ = await asyncio.wait({self._fetching}, timeout=rest_s)
        for task in done:
            await task

    async def _fetch_once(self) -> None:
        try:
            value = await self._fetch()
        except ApiError as error:
            self._failure = type(error)
            return
        finally:
            self._ended_at = time.monotonic()
        number = 0 if self._version is None else self._version.number + 1
        self._version = Version(value, number)
        self._fetched_at = time.monotonic()
