"""What the readers of a job see, and when its ETag changes."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.presenters.jobs import job_etag, present_job
from shared.records import Job
from shared.states import JobState, Operation

MOMENT = datetime(2026, 11, 24, 3, 4, 5, tzinfo=UTC)
OPEN = Job(
    guid=uuid.uuid4(),
    operation=Operation.CREATE_BACKUP,
    state=JobState.START,
    service_instance_guid="i-1",
    instance_exists=True,
    broker_guid=uuid.uuid4(),
    broker_name="postgres-broker",
    can_undo=True,
    version=1,
    errors=(),
    warnings=(),
    created_at=MOMENT,
    updated_at=MOMENT,
    due_in_s=3,
    broker_description=None,
    broker_retry_at=None,
    clean_up_guid=None,
)


def test_it_tells_how_it_goes_while_the_job_is_open() -> None:
    job = replace(OPEN, broker_description="uploading 40%", broker_retry_at=MOMENT, warnings=({"detail": "kept"},))
    assert present_job(job, "https://x")["warnings"] == [
        {"detail": "kept"},
        {"detail": "waiting for service broker postgres-broker, next try at 2026-11-24T03:04:05Z"},
        {"detail": "the service broker says: uploading 40%"},
    ]
    assert present_job(OPEN, "https://x")["warnings"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"instance_exists": False},
        {"broker_retry_at": MOMENT},
        {"broker_retry_at": MOMENT + timedelta(seconds=20)},
        {"clean_up_guid": uuid.uuid4()},
    ],
    ids=str,
)
def test_it_has_another_etag_whenever_it_reads_otherwise(change: dict[str, Any]) -> None:
    assert job_etag(replace(OPEN, **change)) != job_etag(OPEN)


def test_it_has_the_same_etag_for_what_a_reader_does_not_see() -> None:
    assert job_etag(replace(OPEN, due_in_s=77)) == job_etag(OPEN)


def test_it_links_to_what_removes_its_remains() -> None:
    guid = uuid.uuid4()
    links = present_job(replace(OPEN, clean_up_guid=guid), "https://x")["links"]
    assert links["clean_up"] == {"href": f"https://x/v3/jobs/{guid}"}


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_it_shows_every_bad_end_as_failed(state: JobState) -> None:
    assert present_job(replace(OPEN, state=state), "https://x")["state"] == "FAILED"
