"""The users: they post backups, remember every `Location`, follow it to the end, and never believe what contradicts.

They know nothing but the public API, so that they serve against any installation. What they saw is in `jobs`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDED: Final = frozenset({"COMPLETE", "FAILED"})
KNOWN: Final = frozenset({"PROCESSING", "POLLING"}) | ENDED
#: Answers to a POST that will not change; 409 is none of them.
REFUSALS: Final = frozenset({400, 401, 403, 404, 422})
#: As patient as a person's client; a stack in trouble may take as long to answer.
ANSWER_TIMEOUT_S: Final = 10
POST_PAUSE_S: Final = 0.4
LOOK_PAUSE_S: Final = 0.5


@dataclass
class Seen:
    """One backup as its client saw it."""

    instance: str
    location: str | None = None  #: None: never accepted
    state: str = ""  #: the last one seen
    ended: dict[str, Any] | None = None  #: the job as it was when it was first seen ended
    took_s: float = 0.0
    is_missing: bool = False  #: a 404 for a job that was accepted
    problems: list[str] = field(default_factory=list)  #: contradictions

    @property
    def guid(self) -> str:
        """The job's guid; empty when it was never accepted."""
        return (self.location or "").rpartition("/")[2]

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.ended is not None or self.is_missing

    @property
    def is_stuck(self) -> bool:
        """Whether it was not even accepted, or has not ended."""
        return not self.is_over


class Clients:
    """`count` backups of `instances` in turn, one at a time on each, spread evenly over `spread_s` seconds."""

    def __init__(
        self,
        api_url: str,
        token: str,
        instances: Sequence[str],
        *,
        count: int,
        spread_s: float,
        limit_s: float,
        seed: int,
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._headers = {"Authorization": f"bearer {token}"}
        self._spread_s = spread_s
        self._limit_s = limit_s
        self._rng = random.Random(f"clients {seed}")
        self._free = {instance: asyncio.Lock() for instance in instances}
        self.jobs = [Seen(instances[number % len(instances)]) for number in range(count)]
        self.answers: Counter[str] = Counter()  #: to POSTs and GETs, by kind
        self.unknown_posts = 0  #: whose answer was lost: their job may exist
        self._session: aiohttp.ClientSession

    @property
    def open_guids(self) -> list[str]:
        """Jobs that were accepted and not seen ended yet. May be called from another thread."""
        return [job.guid for job in list(self.jobs) if job.location and job.ended is None]

    async def run(self) -> None:
        """Post and follow all of them."""
        await self._take_all(self.jobs, self._spread_s)

    async def run_more(self, count: int) -> None:
        """Post and follow `count` more, at once."""
        instances = list(self._free)
        more = [Seen(instances[number % len(instances)]) for number in range(count)]
        self.jobs += more
        await self._take_all(more, 0)

    async def _take_all(self, jobs: Sequence[Seen], spread_s: float) -> None:
        started = time.monotonic()
        pause_s = spread_s / max(1, len(jobs))
        async with self._open() as self._session:
            await asyncio.gather(*(self._take(job, started + number * pause_s) for number, job in enumerate(jobs)))

    async def look_again(self) -> None:
        """Look at every ended job once more: none may have changed."""
        async with self._open() as self._session:
            limit = asyncio.Semaphore(20)

            async def look(job: Seen) -> None:
                async with limit:
                    await self._look(job, job.location or "", time.monotonic() + self._limit_s)

            await asyncio.gather(*(look(job) for job in self.jobs if job.ended))

    async def list_backups(self) -> dict[str, set[str]]:
        """The ids of the backups that each instance has."""
        found = {}
        async with self._open() as session:
            for instance in self._free:
                url = f"{self._api_url}/v3/service_instances/{instance}/backups?limit=1000"
                async with session.get(url) as response:
                    response.raise_for_status()
                    found[instance] = {backup["id"] for backup in (await response.json())["backups"]}
        return found

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S))

    async def _take(self, job: Seen, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        async with self._free[job.instance]:
            started = time.monotonic()
            over_at = started + self._limit_s
            job.location = await self._post(job.instance, over_at)
            if job.location:
                await self._follow(job, job.location, over_at)
            job.took_s = time.monotonic() - started

    async def _follow(self, job: Seen, url: str, over_at: float) -> None:
        while not job.is_over and time.monotonic() < over_at:
            await self._look(job, url, over_at)
            await asyncio.sleep(self._rng.uniform(0.5, 1) * LOOK_PAUSE_S)

    async def _post(self, instance: str, over_at: float) -> str | None:
        """Where the job is; tried again for as long as the limit allows."""
        url = f"{self._api_url}/v3/service_instances/{instance}/backups"
        while time.monotonic() < over_at:
            try:
                async with self._session.post(url) as response:
                    self.answers[f"POST {response.status}"] += 1
                    if response.status == 202:
                        return response.headers["Location"]
                    # 409: a POST of ours whose answer was lost made a job, which is open.
                    self.unknown_posts += response.status >= 500
                    if response.status in REFUSALS:
                        return None
            except aiohttp.ClientConnectorError:
                self.answers["POST refused"] += 1
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.answers["POST broken"] += 1
                self.unknown_posts += 1
            await asyncio.sleep(self._rng.uniform(0.5, 1) * POST_PAUSE_S)
        return None

    async def _look(self, seen: Seen, url: str, over_at: float) -> None:
        """Look at the job until there is an answer, and check it against everything that was seen before."""
        while time.monotonic() < over_at:
            try:
                async with self._session.get(url) as response:
                    self.answers[f"GET {response.status}"] += 1
                    if response.status == 404:
                        seen.is_missing = True
                        return
                    if response.status == 200:
                        check(seen, await response.json())
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.answers["GET broken"] += 1
            await asyncio.sleep(LOOK_PAUSE_S)


def check(seen: Seen, job: dict[str, Any]) -> None:
    """Note what contradicts in an answer, in itself or with earlier ones."""
    state = job["state"]
    if state not in KNOWN:
        seen.problems.append(f"has the state {state!r}, which no client knows")
    if state == "FAILED" and not job["errors"]:
        seen.problems.append("is FAILED without errors")
    if state != "FAILED" and job["errors"]:
        seen.problems.append(f"is {state} with errors: {job['errors']}")
    if seen.ended is not None and without_links(job) != without_links(seen.ended):
        seen.problems.append(f"changed after its end, from {seen.ended} to {job}")
    if state in ENDED and seen.ended is None:
        seen.ended = job
    seen.state = state


def without_links(job: dict[str, Any]) -> dict[str, Any]:
    """What may never change: links only say what else there is."""
    return {key: value for key, value in job.items() if key != "links"}
