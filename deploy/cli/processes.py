"""Putting an API or a worker process together from its parts, and running it until it is told to stop."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from api.app import create_app
from shared.observability.logging import configure_logging, get_logger
from shared.security.tokens import DevelopmentTokens
from worker.celery_app import CeleryHints, run_worker
from worker.engine import Engine

if TYPE_CHECKING:
    from shared.settings import Settings

_log = get_logger(__name__)


def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT."""
    configure_logging(settings, "api")
    app = create_app(settings, DevelopmentTokens(settings), CeleryHints(settings))

    async def announce(_app: web.Application) -> None:
        _log.info("api is up", host=settings.listen_host, port=settings.listen_port)

    app.on_startup.append(announce)
    web.run_app(app, host=settings.listen_host, port=settings.listen_port, print=None, access_log=None)


def run_worker_process(settings: Settings) -> int:
    """Work until SIGTERM or SIGINT, then finish what is in hand; the exit code."""
    configure_logging(settings, "worker")
    name = f"{socket.gethostname()}:{os.getpid()}"
    engine = Engine(settings, CeleryHints(settings), name)
    engine.start()
    try:
        return run_worker(settings, engine.take, lambda: _log.info("worker is up", worker=name))
    finally:
        engine.stop()
        _log.info("worker has stopped", worker=name)
