"""Counting the requests of everybody in windows of time, in Redis, so that all API processes count together.

Whom a request counts for, and what happens beyond a limit, is decided in the middleware. A Redis that is away, slow or
full lets every request through: what it protects is worth less than what it would keep from working.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Self

from shared.coalescer import Coalescer
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from redis.asyncio import Redis

    from shared.settings import Settings

_log = get_logger(__name__)

#: Longest that requests wait for being counted.
PATIENCE_S: Final = 0.5
#: After a failure nobody is counted, and nobody waits, for this long.
PAUSE_AFTER_FAILURE_S: Final = 5.0
#: How long a count outlives its window, for API processes whose clocks are behind.
SPARE_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What somebody has used of a window, this request included; times are in seconds since 1970."""

    limit: int
    used: int
    now_s: float
    resets_at_s: int

    @property
    def is_exceeded(self) -> bool:
        """Whether this request is one too many."""
        return self.used > self.limit

    @property
    def remaining(self) -> int:
        """What is left, rounded down to tenths of the limit, as Cloud Foundry does."""
        tenths = max(0, self.limit - self.used) * 10 // self.limit
        return tenths * self.limit // 10

    @property
    def rest_s(self) -> int:
        """Whole seconds until the window ends, at least one."""
        return max(1, math.ceil(self.resets_at_s - self.now_s))


class RateLimits:
    """Counts requests by the limits of `settings`, with one round trip each. Use it with `async with`."""

    def __init__(self, settings: Settings) -> None:
        self._window_s = settings.rate_limit_window_s
        self._prefix = f"{settings.queue_prefix}requests:"
        self._url = (settings.rate_limit_url or settings.queue_url).get_secret_value()
        self._is_on = settings.has_rate_limits
        self._redis: Redis | None = None
        self._rests_until_s = -math.inf
        self._counts = Coalescer[str, int | None](self._count_all)

    async def __aenter__(self) -> Self:
        if self._is_on:
            # Imported here: only an API that has limits needs it, and the others start sooner without.
            from redis.asyncio import Redis  # noqa: PLC0415
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415

            self._redis = Redis.from_url(
                self._url,
                socket_timeout=PATIENCE_S,
                socket_connect_timeout=PATIENCE_S,
                # Once more, at once: Redis may have closed a connection that was idle.
                retry=Retry(NoBackoff(), 1),
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def count(self, who: str, limit: int) -> Window | None:
        """Count one request of `who`, who has `limit` of them in a window; None when nobody can count at the moment.

        Windows of different people begin at different times, so that not all of them start over at once.
        """
        digest = blake2b(who.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        now_s = time.time()
        offset_s = int.from_bytes(digest[:8], "big") % self._window_s
        number = math.floor((now_s - offset_s) / self._window_s)
        used = await self._counts.submit(f"{self._prefix}{digest.hex()}:{number}")
        if used is None:
            return None
        return Window(limit=limit, used=used, now_s=now_s, resets_at_s=(number + 1) * self._window_s + offset_s)

    async def _count_all(self, keys: Sequence[str]) -> Sequence[int | None]:
        """The counts after one more request for each of `keys`, in one round trip; None for all when that fails."""
        nothing = [None] * len(keys)
        if self._redis is None or time.monotonic() < self._rests_until_s:
            return nothing
        from redis.exceptions import RedisError  # noqa: PLC0415 - as above

        try:
            async with asyncio.timeout(PATIENCE_S), self._redis.pipeline(transaction=True) as pipeline:
                for key in keys:
                    # The types speak of awaitables; in a pipeline nothing is sent before `execute`.
                    _ = pipeline.set(key, 0, ex=self._window_s + SPARE_S, nx=True)
                    _ = pipeline.incr(key)
                return [int(count) for count in (await pipeline.execute())[1::2]]
        except (RedisError, OSError, TimeoutError) as error:
            self._rests_until_s = time.monotonic() + PAUSE_AFTER_FAILURE_S
            # Its text may hold the address, and never the password.
            _log.warning("requests are not counted for a while", error=str(error) or type(error).__name__)
            return nothing
