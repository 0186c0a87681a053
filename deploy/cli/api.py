"""`safekeep api`: an API process, put together from its parts."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from api.app import create_app
from api.server import Runner
from shared.observability.logging import configure_logging, get_logger
from shared.security.verifier import create_verifier
from worker.celery_app import CeleryHints

if TYPE_CHECKING:
    from shared.settings import Settings

_log = get_logger(__name__)


def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT. Raises SettingsError, before it listens."""
    configure_logging(settings, "api")
    app = create_app(settings, create_verifier(settings), CeleryHints(settings))
    with suppress(asyncio.CancelledError):
        asyncio.run(_serve(app, settings))


async def _serve(app: web.Application, settings: Settings) -> None:
    """Serve until this task is cancelled, which the signals do; then let what is in hand come to its end."""
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    runner = Runner(app, settings)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.listen_host, settings.listen_port).start()
        _log.info("api is up", host=settings.listen_host, port=settings.listen_port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
