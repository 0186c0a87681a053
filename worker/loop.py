"""The base of everything that a worker does again and again: run, log what went wrong, pause, until told to stop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress

from shared.errors import StoreUnavailableError
from shared.observability.logging import get_logger

_log = get_logger(__name__)


class Loop(ABC):
    """Runs `tick` every `interval_s` seconds on an event loop, or sooner when woken."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._woken = asyncio.Event()
        self._is_stopped = False

    @abstractmethod
    async def tick(self) -> None:
        """Do one round."""

    def wake(self) -> None:
        """Let the next round begin at once."""
        self._woken.set()

    def stop(self) -> None:
        """Let `run` return after the round that is under way."""
        self._is_stopped = True
        self.wake()

    async def run(self) -> None:
        """Run rounds until told to stop. One that fails is logged, and the next comes at its time."""
        while not self._is_stopped:
            self._woken.clear()
            try:
                await self.tick()
            except StoreUnavailableError:
                pass  # logged where it happened; the next round tries again
            except Exception:  # noqa: BLE001 - the outermost loop: whatever a round raises, the next one must come
                _log.exception("a round failed", loop=type(self).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._interval_s)
