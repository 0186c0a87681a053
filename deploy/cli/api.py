"""`safekeep api`: an API process, put together from its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from api.app import create_app
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

    async def announce(_app: web.Application) -> None:
        _log.info("api is up", host=settings.listen_host, port=settings.listen_port)

    app.on_startup.append(announce)
    web.run_app(app, host=settings.listen_host, port=settings.listen_port, print=None, access_log=None)
