"""The API in one screen: its routes, its middlewares, its start and stop."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from aiohttp import web

from api.context import CONTEXT, Context
from api.handlers import backups, discovery, health, jobs, restores
from api.hints import HintPump
from api.middlewares.authentication import authentication
from api.middlewares.errors import errors
from api.middlewares.request_id import request_id
from shared.coalescer import Coalescer
from shared.directory.tables import TablesDirectory
from shared.store.backups import Backups
from shared.store.database import Database
from shared.store.jobs import Jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.hints import HintSender
    from shared.security.tokens import TokenVerifier
    from shared.settings import Settings

BODY_BYTES_MAX: Final = 64 * 1024


def create_app(settings: Settings, verifier: TokenVerifier, sender: HintSender) -> web.Application:
    """The API's application. `sender` takes the hints of new jobs to the queue."""
    app = web.Application(middlewares=[request_id, errors, authentication], client_max_size=BODY_BYTES_MAX)
    app.add_routes(
        [
            web.get("/", discovery.root),
            web.get("/v3", discovery.v3),
            web.get("/v3/info", discovery.info),
            web.get("/healthz", health.healthz),
            web.get("/readyz", health.readyz),
            web.get("/v3/jobs/{guid}", jobs.read_job),
            web.post("/v3/jobs/{guid}/actions/cancel", jobs.cancel_job),
            web.get("/v3/service_instances/{guid}/backups", backups.list_backups),
            web.post("/v3/service_instances/{guid}/backups", backups.create_backup),
            web.post("/v3/service_instances/{guid}/actions/restore", restores.create_restore),
        ]
    )

    async def live(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                Database(settings, size=settings.api_pool_size, name="safekeep-api")
            )
            store = Jobs(database, settings)
            app[CONTEXT] = Context(
                settings=settings,
                database=database,
                directory=TablesDirectory(database, staleness_s=settings.directory_staleness_s),
                verifier=await stack.enter_async_context(verifier),
                jobs=store,
                backups=Backups(database),
                accepts=Coalescer(store.accept),
                hints=await stack.enter_async_context(HintPump(sender, settings.hint_batch)),
            )
            yield

    app.cleanup_ctx.append(live)
    return app
