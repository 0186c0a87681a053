"""What handlers share: the things that live as long as the application, and what belongs to one request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from shared.security.callers import Caller

if TYPE_CHECKING:
    from api.hints import HintPump
    from api.job_reads import JobReads
    from api.job_watch import JobWatch
    from api.rate_limits import RateLimits
    from shared.coalescer import Coalescer
    from shared.directory.directory import Directory, Reading
    from shared.records import Acceptance, JobRequest
    from shared.security.callers import TokenVerifier
    from shared.settings import Settings
    from shared.store.audit_events import AuditEvents
    from shared.store.backups import Backups
    from shared.store.database import Database
    from shared.store.idempotency_keys import IdempotencyKeys
    from shared.store.job_lists import JobLists
    from shared.store.jobs import Jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts that an application is put together from."""

    settings: Settings
    database: Database
    directory: Directory
    reading: Reading
    verifier: TokenVerifier
    rate_limits: RateLimits
    jobs: Jobs
    job_lists: JobLists
    job_reads: JobReads  #: reads single jobs; those that meet share one statement
    watch: JobWatch  #: who waits for changes of jobs
    backups: Backups
    keys: IdempotencyKeys
    audit_events: AuditEvents
    accepts: Coalescer[JobRequest, Acceptance]  #: stores requests; those that meet share one statement
    hints: HintPump


CONTEXT: Final = web.AppKey("context", Context)
DOCUMENT: Final = web.AppKey[Callable[[], bytes]]("document")  #: /openapi.json, made when it is first asked for
CALLER: Final = web.RequestKey("caller", Caller)
REQUEST_ID: Final = web.RequestKey("request_id", str)
