"""Deleting jobs that ended long ago, and what else has had its time.

Any number of workers may do it at once; each takes what the others have not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.observability.logging import get_logger
from worker.loop import Loop

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.store.audit_events import AuditEvents
    from shared.store.idempotency_keys import IdempotencyKeys
    from shared.store.jobs import Jobs

_log = get_logger(__name__)

#: Jobs in one statement: few enough that nobody waits for its locks.
BATCH: Final = 500


class Pruning(Loop):
    """Deletes finished jobs and audit events after the configured retention, in batches, and old idempotency keys."""

    def __init__(self, settings: Settings, jobs: Jobs, audit_events: AuditEvents, keys: IdempotencyKeys) -> None:
        super().__init__(settings.prune_interval_s)
        self._settings = settings
        self._jobs = jobs
        self._audit_events = audit_events
        self._keys = keys

    async def tick(self) -> None:
        """Delete one batch, and come back at once while there is more."""
        await self._keys.prune()
        jobs = await self._jobs.prune(retention_s=self._settings.retention_s, limit=BATCH)
        events = await self._audit_events.prune(retention_s=self._settings.audit_retention_s, limit=BATCH)
        if jobs or events:
            _log.info("old records deleted", jobs=jobs, audit_events=events)
        if BATCH in {jobs, events}:
            self.wake()
