"""Jobs as Cloud Foundry's clients know them: eight keys, four states, errors and warnings always arrays."""

from __future__ import annotations

import math
from datetime import UTC
from typing import TYPE_CHECKING

from shared.states import PUBLIC_STATES

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from shared.records import Job, Json

RETRY_AFTER_MAX_S = 60


def job_url(external_url: str, guid: UUID) -> str:
    """Where a job is read; what `Location` says."""
    return f"{external_url}/v3/jobs/{guid}"


def present_job(job: Job, external_url: str) -> Json:
    """The job's JSON."""
    links = {"self": {"href": job_url(external_url, job.guid)}}
    if job.instance_exists:
        links["service_instances"] = {"href": f"{external_url}/v3/service_instances/{job.service_instance_guid}"}
    return {
        "guid": str(job.guid),
        "created_at": _timestamp(job.created_at),
        "updated_at": _timestamp(job.updated_at),
        "operation": job.operation,
        "state": PUBLIC_STATES[job.state],
        "errors": list(job.errors),
        "warnings": list(job.warnings),
        "links": links,
    }


def job_etag(job: Job) -> str:
    """A value that changes exactly when the job's JSON does."""
    return f"{job.version}" if job.instance_exists else f"{job.version}-alone"


def retry_after_s(job: Job) -> int | None:
    """Whole seconds after which looking again may be worth it; None once the job has ended."""
    if job.due_in_s is None:
        return None
    return min(max(1, math.ceil(job.due_in_s)), RETRY_AFTER_MAX_S)


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
