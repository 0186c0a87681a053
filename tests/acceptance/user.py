"""A client of a running stack, and what acceptance tests ask of the parts behind it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg

from deploy.local.stack import OFFERING, PLAN
from tests.support import eventually, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from deploy.local.stack import Stack


class User:
    """A developer with a token, following `Location` as every client does."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession) -> None:
        self.stack = stack
        self._session = session
        self._headers = {"Authorization": f"bearer {stack.developer_token}"}

    def path(self, rest: str, instance: str | None = None) -> str:
        return f"{self.stack.api_url}/v3/service_instances/{instance or self.stack.identity.instance_guid}/{rest}"

    async def post(self, url: str, body: Any = None) -> tuple[int, str]:
        async with self._session.post(url, headers=self._headers, json=body) as response:
            return response.status, response.headers.get("Location", "")

    async def delete(self, url: str) -> tuple[int, str]:
        async with self._session.delete(url, headers=self._headers) as response:
            return response.status, response.headers.get("Location", "")

    async def get(self, url: str) -> Any:
        async with self._session.get(url, headers=self._headers) as response:
            assert response.status == 200
            return await response.json()

    async def accepted(self, rest: str = "backups", body: Any = None, instance: str | None = None) -> str:
        status, location = await self.post(self.path(rest, instance), body)
        assert status == 202
        return location

    async def follow(self, *locations: str) -> list[Any]:
        """The jobs, once all of them have ended."""
        jobs: dict[str, Any] = {}

        async def are_over() -> bool:
            for url in set(locations) - set(jobs):
                job = await self.get(url)
                if job["state"] in {"COMPLETE", "FAILED"}:
                    jobs[url] = job
            return len(jobs) == len(locations)

        await eventually(are_over, 120)
        return [jobs[url] for url in locations]

    async def backups(self) -> list[Any]:
        return list((await self.get(self.path("backups")))["backups"])


def execute(database: str, statement: str) -> list[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def dumps_made(stack: Stack) -> Counter[str]:
    """What the broker's own ledger says was started, by id."""
    ledger = stack.directory / "broker" / "ledger.jsonl"
    entries = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    return Counter(entry["id"] for entry in entries if entry["kind"] == "backups")


def provision(stack: Stack, guids: Sequence[str]) -> None:
    """More instances of the same plan, at the broker and in the directory."""
    plan = stack.broker.find_plan(OFFERING, PLAN)
    identity = stack.identity
    for guid in guids:
        stack.broker.provision(guid, plan, identity.organization_guid, identity.space_guid)
        rows(
            stack.database_url,
            "insert into service_instances (guid, name, type, space_guid, plan_guid)"
            " select %s, 'db ' || %s, type, space_guid, plan_guid from service_instances where guid = %s",
            guid,
            guid,
            identity.instance_guid,
        )
