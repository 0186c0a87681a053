"""A developer with two instances, the API, and a broker that can delete backups; what tests over HTTP ask of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support import eventually, rows

if TYPE_CHECKING:
    from shared.settings import Settings
    from tests.integration.conftest import Client
    from tests.support import ScriptedBroker

PATH = "/v3/service_instances/i-1/backups"
SUCCEEDED = (
    "insert into backups (guid, service_instance_guid, state, completed_at) values (%s, 'i-1', 'succeeded', now())"
)


class Scene:
    """A developer with two instances whose broker can delete backups."""

    def __init__(self, settings: Settings, broker: ScriptedBroker, api: Client) -> None:
        self.settings = settings
        self.url = settings.database_url.get_secret_value()
        self.broker = broker
        self.api = api

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """The status, and the body, or where the job is."""
        async with self.api.request(method, path, **more) as response:
            if response.status == 202:
                assert await response.read() == b""
                # There is no queue here, which the dispatcher leaves new jobs to for a while.
                rows(self.url, "update jobs set next_hint_at = now() where completed_at is null")
                return 202, response.headers["Location"].removeprefix("https://safekeep.example")
            return response.status, await response.json()

    async def job(self, method: str, path: str, **more: Any) -> Any:
        """The job that a request begins, once it has ended."""
        status, location = await self.ask(method, path, **more)
        assert status == 202
        await eventually(lambda: rows(self.url, "select 1 from jobs where completed_at is null") == [])
        return (await self.ask("GET", location))[1]

    async def backed_up(self, instance: str = "i-1") -> str:
        job = await self.job("POST", f"/v3/service_instances/{instance}/backups")
        assert job["state"] == "COMPLETE"
        listed = await self.ask("GET", f"/v3/service_instances/{instance}/backups?limit=1")
        return str(listed[1]["backups"][0]["id"])

    async def listed(self) -> list[str]:
        return [backup["id"] for backup in (await self.ask("GET", PATH))[1]["backups"]]
