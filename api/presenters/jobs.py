"""Jobs as Cloud Foundry's clients know them: eight keys, four states, errors and warnings always arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from api.presenters.common import LinkJson, Timestamp, present_timestamp
from api.presenters.errors import ErrorJson
from api.presenters.pages import PaginationJson
from shared.states import PUBLIC_STATES, Operation, PublicState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from shared.lists import JobVersion
    from shared.records import Job

RETRY_AFTER_MAX_S = 60


class WarningJson(TypedDict):
    """Something that a reader of the job should know."""

    detail: str


class JobLinksJson(TypedDict):
    """What belongs to a job."""

    self: LinkJson
    service_instances: NotRequired[Annotated[LinkJson, Field(description="While the instance exists.")]]
    clean_up: NotRequired[
        Annotated[LinkJson, Field(description="The job that removes what this one may have left at the broker.")]
    ]


class JobJson(TypedDict):
    """A job, in Cloud Foundry's eight keys. `COMPLETE` and `FAILED` are final; a failed job has at least one error."""

    guid: str
    created_at: Timestamp
    updated_at: Timestamp
    operation: Operation
    state: PublicState
    errors: list[ErrorJson]
    warnings: list[WarningJson]
    links: JobLinksJson


class JobListJson(TypedDict):
    """A page of jobs, each as it is read by itself."""

    pagination: PaginationJson
    resources: list[JobJson]


def job_url(external_url: str, guid: UUID) -> str:
    """Where a job is read; what `Location` says."""
    return f"{external_url}/v3/jobs/{guid}"


def present_job(job: Job, external_url: str) -> JobJson:
    """The job's JSON."""
    links: JobLinksJson = {"self": {"href": job_url(external_url, job.guid)}}
    if job.instance_exists:
        links["service_instances"] = {"href": f"{external_url}/v3/service_instances/{job.service_instance_guid}"}
    if job.clean_up_guid:
        links["clean_up"] = {"href": job_url(external_url, job.clean_up_guid)}
    return {
        "guid": str(job.guid),
        "created_at": present_timestamp(job.created_at),
        "updated_at": present_timestamp(job.updated_at),
        "operation": job.operation,
        "state": PUBLIC_STATES[job.state],
        "errors": [ErrorJson(code=e["code"], detail=e["detail"], title=e["title"]) for e in job.errors],
        "warnings": [
            *(WarningJson(detail=warning["detail"]) for warning in job.warnings),
            *(WarningJson(detail=text) for text in _news(job)),
        ],
        "links": links,
    }


def job_etag(job: Job | JobVersion) -> str:
    """A value that changes exactly when the job's JSON does."""
    if job.instance_exists and not job.broker_retry_at and not job.clean_up_guid:
        return str(job.version)  # as nearly all are
    parts = [str(job.version)]
    if not job.instance_exists:
        parts.append("alone")
    if job.broker_retry_at:
        parts.append(f"waiting{int(job.broker_retry_at.timestamp())}")
    if job.clean_up_guid:
        parts.append("cleaned")
    return "-".join(parts)


def _news(job: Job) -> Iterator[str]:
    """How it goes, for those who watch an open job: why it waits, and the broker's latest words."""
    if job.broker_retry_at:
        yield f"waiting for service broker {job.broker_name}, next try at {present_timestamp(job.broker_retry_at)}"
    if job.broker_description:
        yield f"the service broker says: {job.broker_description}"


def retry_after_s(job: Job | JobVersion) -> int | None:
    """Whole seconds after which looking again may be worth it; None once the job has ended."""
    if job.due_in_s is None:
        return None
    return min(max(1, math.ceil(job.due_in_s)), RETRY_AFTER_MAX_S)
