"""`safekeep worker`: a worker process, put together from its parts."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from deploy.cli.garbage import settle
from shared.observability.logging import configure_logging, get_logger
from worker.celery_app import CeleryHints, run_worker
from worker.engine import Engine
from worker.hooks import pass_by
from worker.watchdog import EXIT_CODE, Watchdog

if TYPE_CHECKING:
    from shared.settings import Settings
    from worker.hooks import Hook

_log = get_logger(__name__)

#: How long stopping may take beyond the grace for steps in hand: the time-outs of the queue's threads.
STOP_S: Final = 20


def run_worker_process(settings: Settings, at: Hook = pass_by) -> int:
    """Work until SIGTERM or SIGINT, then finish what is in hand; the exit code. Raises SettingsError."""
    configure_logging(settings, "worker")
    name = f"{socket.gethostname()}:{os.getpid()}"
    hints = CeleryHints(settings)
    engine = Engine(settings, hints, name, at)
    watchdog = Watchdog(
        lambda: hints.send_pulse(name),
        engine,
        deaf_s=settings.worker_deaf_s,
        grace_s=settings.worker_grace_s + STOP_S,
    )

    def announce() -> None:
        settle()
        _log.info("worker is up", worker=name)
        watchdog.start()

    engine.start()
    try:
        code = run_worker(settings, engine.take, announce, on_pulse=watchdog.hear, name=name)
    finally:
        engine.stop()
        watchdog.stop()
        hints.close()
        _log.info("worker has stopped", worker=name)
    return EXIT_CODE if watchdog.has_barked else code
