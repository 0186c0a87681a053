"""`safekeep api`: an API process, put together from its parts."""

from __future__ import annotations

import asyncio
import resource
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.app import create_app
from api.server import Runner
from deploy.cli.garbage import settle
from shared.observability.logging import configure_logging, get_logger
from shared.security.verifier import create_verifier
from worker.celery_app import CeleryHints

if TYPE_CHECKING:
    from shared.settings import Settings

_log = get_logger(__name__)


#: Connections that may wait to be accepted: after a restart, all who wait for jobs come back at once.
BACKLOG: Final = 1024


def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT. Raises SettingsError, before it listens."""
    configure_logging(settings, "api")
    _allow_connections(settings)
    app = create_app(settings, create_verifier(settings), CeleryHints(settings))
    with suppress(asyncio.CancelledError):
        asyncio.run(_serve(app, settings))


def _allow_connections(settings: Settings) -> None:
    """Take as many open files as this process may have: each request that waits for a job is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a system that has a limit of its own below this one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < settings.job_watchers_max + settings.api_pool_size:
        _log.warning("fewer files may be open than requests may wait", allowed=allowed, wait=settings.job_watchers_max)


async def _serve(app: web.Application, settings: Settings) -> None:
    """Serve until this task is cancelled, which the signals do; then let what is in hand come to its end."""
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    runner = Runner(app, settings)
    try:
        await runner.setup()
        settle()
        await web.TCPSite(runner, settings.listen_host, settings.listen_port, backlog=BACKLOG).start()
        _log.info("api is up", host=settings.listen_host, port=settings.listen_port)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
