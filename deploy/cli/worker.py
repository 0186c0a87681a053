"""`safekeep worker`: a worker process, put together from its parts."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from shared.observability.logging import configure_logging, get_logger
from worker.celery_app import CeleryHints, run_worker
from worker.engine import Engine
from worker.hooks import pass_by

if TYPE_CHECKING:
    from shared.settings import Settings
    from worker.hooks import Hook

_log = get_logger(__name__)


def run_worker_process(settings: Settings, at: Hook = pass_by) -> int:
    """Work until SIGTERM or SIGINT, then finish what is in hand; the exit code. Raises SettingsError."""
    configure_logging(settings, "worker")
    name = f"{socket.gethostname()}:{os.getpid()}"
    engine = Engine(settings, CeleryHints(settings), name, at)
    engine.start()
    try:
        return run_worker(settings, engine.take, lambda: _log.info("worker is up", worker=name))
    finally:
        engine.stop()
        _log.info("worker has stopped", worker=name)
