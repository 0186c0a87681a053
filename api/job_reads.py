"""Reading one job, for many who do: those that meet share a statement, and what is as it was is not rendered again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from api.held_answers import News, write_news
from api.presenters.jobs import job_etag, present_job, retry_after_s
from shared.coalescer import Coalescer

if TYPE_CHECKING:
    from uuid import UUID

    from shared.lists import JobVersion
    from shared.records import Job
    from shared.store.job_lists import JobLists

#: Rendered jobs that are kept, and the longest that is: 16 MiB at most, and as a rule a tenth of that.
BODIES_MAX: Final = 4096
BODY_BYTES_MAX: Final = 4096
JSON: Final = {"Content-Type": "application/json; charset=utf-8"}


class JobReads:
    """Finds single jobs, and keeps the JSON of those that were read last."""

    def __init__(self, job_lists: JobLists, external_url: str) -> None:
        self._external_url = external_url
        self._jobs: Coalescer[UUID, Job | None] = Coalescer(job_lists.find_each)
        self._versions: Coalescer[UUID, JobVersion | None] = Coalescer(job_lists.find_each_version)
        self._bodies: dict[UUID, tuple[str, bytes]] = {}
        self._latest: tuple[Job, News] | None = None

    async def find(self, guid: UUID) -> Job | None:
        """The job, or None."""
        return await self._jobs.submit(guid)

    async def find_version(self, guid: UUID) -> JobVersion | None:
        """What tells whether the job has changed, for a fraction of what reading it costs; or None."""
        return await self._versions.submit(guid)

    def has_body(self, guid: UUID) -> bool:
        """Whether the JSON of the job, as it is or as it was, is at hand."""
        return guid in self._bodies

    def body_of(self, guid: UUID, etag: str) -> bytes | None:
        """The JSON of the job with that ETag, when it is at hand. An ETag changes exactly when the JSON does."""
        kept = self._bodies.pop(guid, None)
        if kept is None:
            return None
        self._bodies[guid] = kept  # who is asked for last goes last
        return kept[1] if kept[0] == etag else None

    def render(self, job: Job) -> bytes:
        """The JSON of the job."""
        etag = job_etag(job)
        body = self.body_of(job.guid, etag)
        if body is None:
            body = json.dumps(present_job(job, self._external_url)).encode()
            self._bodies.pop(job.guid, None)
            if len(body) <= BODY_BYTES_MAX:
                self._bodies[job.guid] = (etag, body)
                if len(self._bodies) > BODIES_MAX:
                    del self._bodies[next(iter(self._bodies))]
        return body

    def news_of(self, job: Job) -> News:
        """The job for those who have waited for it, made once for all of them."""
        if self._latest is None or self._latest[0] is not job:
            body = self.render(job)
            self._latest = (job, write_news(body, {**headers_of(job), **JSON}))
        return self._latest[1]


def headers_of(job: Job | JobVersion) -> dict[str, str]:
    """What stands in the head of every answer that shows the job."""
    headers = {"ETag": f'"{job_etag(job)}"', "Vary": "Prefer"}
    pause_s = retry_after_s(job)
    if pause_s is not None:
        headers["Retry-After"] = str(pause_s)
    return headers
