"""The API in one screen: its middlewares, its start and stop. Its routes are in `routes.py`."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from functools import cache, partial
from typing import TYPE_CHECKING

from aiohttp import web

from api.context import CONTEXT, DOCUMENT, Context
from api.hints import HintPump
from api.job_reads import JobReads
from api.job_watch import JobWatch
from api.middlewares.authentication import authentication, name_caller
from api.middlewares.errors import errors
from api.middlewares.framing import framing
from api.middlewares.rate_limit import rate_limit, show_window
from api.middlewares.request_id import put_request_id, request_id
from api.middlewares.scopes import scopes
from api.payloads.body import BODY_BYTES_MAX
from api.presenters.discovery import own_version
from api.rate_limits import RateLimits
from api.routes import ENDPOINTS
from api.server import name_server
from shared.coalescer import Coalescer
from shared.directory.reading import TablesReading
from shared.directory.tables import TablesDirectory
from shared.store.audit_events import AuditEvents
from shared.store.backups import Backups
from shared.store.database import Database
from shared.store.idempotency_keys import IdempotencyKeys
from shared.store.job_lists import JobLists
from shared.store.jobs import Jobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.hints import HintSender
    from shared.security.callers import TokenVerifier
    from shared.settings import Settings


def create_app(settings: Settings, verifier: TokenVerifier, sender: HintSender) -> web.Application:
    """The API's application. `sender` takes the hints of new jobs to the queue."""
    middlewares = [request_id, errors, framing, authentication, rate_limit, scopes]
    app = web.Application(middlewares=middlewares, client_max_size=BODY_BYTES_MAX)
    app.on_response_prepare.extend([put_request_id, name_server, name_caller, show_window])
    app.add_routes([operation.route() for operation in ENDPOINTS])
    document: Callable[[], bytes] = cache(partial(_document, settings.external_url))
    app[DOCUMENT] = document

    async def live(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                Database(settings, size=settings.api_pool_size, name="safekeep-api")
            )
            store = Jobs(database, settings)
            job_lists = JobLists(database)
            app[CONTEXT] = Context(
                settings=settings,
                database=database,
                directory=TablesDirectory(database, staleness_s=settings.directory_staleness_s),
                reading=TablesReading(database),
                verifier=await stack.enter_async_context(verifier),
                rate_limits=await stack.enter_async_context(RateLimits(settings)),
                jobs=store,
                job_lists=job_lists,
                job_reads=JobReads(job_lists, settings.external_url),
                watch=await stack.enter_async_context(
                    JobWatch(job_lists, interval_s=settings.job_watch_interval_s, seats=settings.job_watchers_max)
                ),
                backups=Backups(database),
                keys=IdempotencyKeys(database),
                audit_events=AuditEvents(database),
                accepts=Coalescer(store.accept),
                hints=await stack.enter_async_context(HintPump(sender, settings.hint_batch)),
            )
            yield

    async def stop(app: web.Application) -> None:
        app[CONTEXT].watch.stop()

    app.cleanup_ctx.append(live)
    app.on_shutdown.append(stop)
    return app


def _document(external_url: str) -> bytes:
    # Imported here: only who asks for the document needs it.
    from api.openapi import build_document  # noqa: PLC0415

    return json.dumps(build_document(ENDPOINTS, external_url=external_url, version=own_version())).encode()
