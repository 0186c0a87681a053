"""Every operation of the API, by noun. To add one, see `endpoint.py`."""

from __future__ import annotations

from typing import Final

from api.handlers import (
    audit_events,
    backups,
    discovery,
    health,
    job_events,
    jobs,
    openapi,
    organizations,
    restores,
    roles,
    service_brokers,
    service_instances,
    service_offerings,
    service_plans,
    spaces,
)

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
    backups.read_backup,
    backups.delete_backup,
    restores.create_restore,
    audit_events.list_audit_events,
    audit_events.read_audit_event,
    service_instances.list_service_instances,
    service_instances.read_service_instance,
    service_instances.read_permissions,
    service_offerings.list_service_offerings,
    service_offerings.read_service_offering,
    service_plans.list_service_plans,
    service_plans.read_service_plan,
    service_brokers.list_service_brokers,
    service_brokers.read_service_broker,
    spaces.list_spaces,
    spaces.read_space,
    organizations.list_organizations,
    organizations.read_organization,
    roles.list_roles,
    roles.read_role,
)
