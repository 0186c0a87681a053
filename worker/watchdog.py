"""Notices a worker process that lives and does nothing: one that no longer receives, or whose engine stands still.

Such a process looks well from outside, and jobs go on without it, slower. It ends itself, so that whoever started it
starts it anew.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from shared.errors import HintError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

_log = get_logger(__name__)

#: Looks within the time after which a silent process is taken for deaf.
LOOKS: Final = 6
EXIT_CODE: Final = 1


class Watched(Protocol):
    """What is watched besides the queue."""

    def ping(self, timeout_s: float) -> bool:
        """Whether it reacts within `timeout_s` seconds."""
        ...


class Watchdog:
    """Sends pulses through the queue to its own process, and calls `end` when none arrives for `deaf_s` seconds.

    Time in which the queue took no pulse does not count: without a queue, nothing can be received. `end` is called
    once, and by default stops the process as SIGTERM would; one that does not stop within `grace_s` is ended hard.
    """

    def __init__(
        self,
        send_pulse: Callable[[], None],
        engine: Watched,
        *,
        deaf_s: float,
        grace_s: float,
        end: Callable[[], None] | None = None,
    ) -> None:
        self._send_pulse = send_pulse
        self._engine = engine
        self._deaf_s = deaf_s
        self._grace_s = grace_s
        self._end = end or self._end_process
        self._stopped = threading.Event()
        self._heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.has_barked = False

    def start(self) -> None:
        """Begin to watch; from when the queue is consumed on."""
        self._heard_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def hear(self) -> None:
        """Note that a pulse has arrived; from any thread."""
        self._heard_at = time.monotonic()

    def _run(self) -> None:
        while not self._stopped.wait(self._deaf_s / LOOKS):
            if trouble := self._find_trouble():
                self.has_barked = True
                _log.error("this worker ends itself, to be started anew", trouble=trouble)
                self._end()
                return

    def _find_trouble(self) -> str | None:
        if not self._engine.ping(self._deaf_s):
            return "its engine stands still"
        silent_s = time.monotonic() - self._heard_at
        try:
            self._send_pulse()
        except HintError:
            self.hear()
            return None
        if silent_s > self._deaf_s:
            return f"it has received nothing for {silent_s:.0f} s, though the queue takes messages"
        return None

    def _end_process(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._stopped.wait(self._grace_s):
            os._exit(EXIT_CODE)
