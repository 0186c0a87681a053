"""Deleting jobs that ended long ago. Any number of workers may do it at once; each takes what the others have not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.observability.logging import get_logger
from worker.loop import Loop

if TYPE_CHECKING:
    from shared.settings import Settings
    from shared.store.jobs import Jobs

_log = get_logger(__name__)

#: Jobs in one statement: few enough that nobody waits for its locks.
BATCH: Final = 500


class Pruning(Loop):
    """Deletes finished jobs after the configured retention, in batches."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        super().__init__(settings.prune_interval_s)
        self._retention_s = settings.retention_s
        self._jobs = jobs

    async def tick(self) -> None:
        """Delete one batch, and come back at once while there is more."""
        count = await self._jobs.prune(retention_s=self._retention_s, limit=BATCH)
        if count:
            _log.info("old jobs deleted", jobs=count)
        if count == BATCH:
            self.wake()
