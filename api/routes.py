"""Every operation of the API, by noun. To add one, see `endpoint.py`."""

from __future__ import annotations

from typing import Final

from api.handlers import audit_events, backups, discovery, health, jobs, openapi, restores

ENDPOINTS: Final = (
    discovery.root,
    discovery.v3,
    discovery.info,
    health.healthz,
    health.readyz,
    openapi.document,
    jobs.read_job,
    jobs.cancel_job,
    backups.list_backups,
    backups.create_backup,
    backups.read_backup,
    backups.delete_backup,
    restores.create_restore,
    audit_events.list_audit_events,
    audit_events.read_audit_event,
)
