"""Every operation of the API, by noun. To add one, see `endpoint.py`."""

from __future__ import annotations

from typing import Final

from api.handlers import backups, discovery, health, job_events, jobs, openapi, restores

ENDPOINTS: Final = (
    discovery.root,
    discovery.v3,
    discovery.info,
    health.healthz,
    health.readyz,
    openapi.document,
    jobs.list_jobs,
    jobs.read_job,
    job_events.watch_job,
    jobs.cancel_job,
    backups.list_backups,
    backups.create_backup,
    restores.create_restore,
)
