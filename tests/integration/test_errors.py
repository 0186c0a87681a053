"""Each row of the table of errors, raised for real and seen over HTTP (item_07)."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.valkey import ValkeyServer
from shared.cf_errors import CfError
from shared.security.verifier import create_verifier
from tests.contract import REQUEST_ID
from tests.integration.conftest import HintLog, client_of
from tests.support import FEATURES, QUICK, bearer, eventually, rows, seed
from tests.uaa import Uaa, answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp import ClientResponse

    from shared.settings import Settings
    from tests.integration.conftest import Client
    from tests.support import ScriptedBroker

BACKUPS = "/v3/service_instances/i-1/backups"
RESTORE = "/v3/service_instances/i-1/actions/restore"
JOB = "/v3/jobs/x"


@dataclass
class World:
    """What a scenario may change, and whom it may ask."""

    make_settings: Callable[..., Settings]
    settings: Settings
    postgres_url: str
    redis_url: str
    monkeypatch: pytest.MonkeyPatch
    broker: ScriptedBroker
    engine_of: Callable[..., Any]
    stack: AsyncExitStack
    client: Client

    def change(self, statement: str, *parameters: object) -> None:
        rows(self.settings.database_url.get_secret_value(), statement, *parameters)

    async def get(self, path: str, **headers: str) -> ClientResponse:
        return await self.client.get(path, headers=bearer(self.settings) | headers)

    async def post(self, path: str = BACKUPS, data: bytes = b"", **headers: str) -> ClientResponse:
        own = bearer(self.settings) | {"Content-Type": "application/json"}
        return await self.client.post(path, data=data, headers=own | headers)

    async def client_with(self, **values: Any) -> Client:
        """A client of an API with other settings, on the same database."""
        settings = self.make_settings(**(self.settings.model_dump() | values))
        return await self.stack.enter_async_context(client_of(settings, HintLog(), create_verifier(settings)))

    async def failed_job(self, **values: Any) -> Any:
        """A backup's job, which fails in an engine with such settings, read over HTTP."""
        settings = type(self.settings)(**(self.settings.model_dump() | QUICK | values))
        accepted = await self.post()
        assert accepted.status == 202
        self.change("update jobs set next_hint_at = now()")
        async with self.engine_of(settings):
            url = settings.database_url.get_secret_value()
            await eventually(lambda: rows(url, "select 1 from jobs where completed_at is null") == [])
        path = accepted.headers["Location"].removeprefix("https://safekeep.example")
        return await (await self.get(path)).json()


@pytest.fixture(scope="module")
def counting_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ValkeyServer(tmp_path_factory.mktemp("counting")) as server:
        yield server.url()


@pytest.fixture
async def world(
    make_settings: Callable[..., Settings],
    settings: Settings,
    postgres_url: str,
    counting_url: str,
    monkeypatch: pytest.MonkeyPatch,
    broker: ScriptedBroker,
    engine_of: Callable[..., Any],
    client: Client,
) -> AsyncIterator[World]:
    seed(settings, broker_url=broker.url, features=FEATURES)
    async with AsyncExitStack() as stack:
        yield World(make_settings, settings, postgres_url, counting_url, monkeypatch, broker, engine_of, stack, client)


# Any: an answer, or the JSON of a job.
Scenario = Callable[[World], Awaitable[Any]]
ANSWERS: dict[CfError, Scenario] = {}
JOBS: dict[CfError, Scenario] = {}


def answers(row: CfError) -> Callable[[Scenario], Scenario]:
    """The scenario ends with an answer that says `row`."""
    return lambda scenario: ANSWERS.setdefault(row, scenario)


def fails(row: CfError) -> Callable[[Scenario], Scenario]:
    """The scenario ends with a job that failed with `row`."""
    return lambda scenario: JOBS.setdefault(row, scenario)


# ---------------------------------------------------------------- who asks


@answers(CfError.INVALID_AUTH_TOKEN)
async def invalid_auth_token(world: World) -> ClientResponse:
    return await world.get(JOB, Authorization="bearer no.good.token")


@answers(CfError.NOT_AUTHENTICATED)
async def not_authenticated(world: World) -> ClientResponse:
    return await world.client.get(JOB)


@answers(CfError.NOT_AUTHORIZED)
async def not_authorized(world: World) -> ClientResponse:
    return await world.client.post(BACKUPS, headers=bearer(world.settings, scopes=["cloud_controller.read"]))


@answers(CfError.UAA_UNAVAILABLE)
async def uaa_unavailable(world: World) -> ClientResponse:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    uaa = await world.stack.enter_async_context(Uaa())
    client = await world.client_with(uaa_url=nobody)
    return await client.get(JOB, headers={"Authorization": f"bearer {uaa.sign()}"})


@answers(CfError.UAA_RATE_LIMITED)
async def uaa_rate_limited(world: World) -> ClientResponse:
    uaa = await world.stack.enter_async_context(Uaa())
    uaa.trouble = {"/token_keys": answering("slow down", status=429)}
    client = await world.client_with(uaa_url=uaa.url)
    return await client.get(JOB, headers={"Authorization": f"bearer {uaa.sign()}"})


@answers(CfError.RATE_LIMIT_EXCEEDED)
async def rate_limit_exceeded(world: World) -> ClientResponse:
    client = await world.client_with(rate_limit_per_user=1, rate_limit_url=world.redis_url)
    await client.get(JOB, headers=bearer(world.settings))
    return await client.get(JOB, headers=bearer(world.settings))


@answers(CfError.IP_BASED_RATE_LIMIT_EXCEEDED)
async def ip_based_rate_limit_exceeded(world: World) -> ClientResponse:
    client = await world.client_with(rate_limit_per_address=1, rate_limit_url=world.redis_url)
    await client.get(JOB)
    return await client.get(JOB)


# ---------------------------------------------------------------- what is asked


@answers(CfError.MESSAGE_PARSE_ERROR)
async def message_parse_error(world: World) -> ClientResponse:
    return await world.post(RESTORE, b"{")


@answers(CfError.BAD_REQUEST)
async def bad_request(world: World) -> ClientResponse:
    return await world.client.post(BACKUPS, headers=bearer(world.settings) | {"Idempotency-Key": "ä"})


@answers(CfError.NOT_FOUND)
async def not_found(world: World) -> ClientResponse:
    return await world.client.get("/v3/nothing")


@answers(CfError.BAD_QUERY_PARAMETER)
async def bad_query_parameter(world: World) -> ClientResponse:
    return await world.get(f"{BACKUPS}?limit=0")


@answers(CfError.RESOURCE_NOT_FOUND)
async def resource_not_found(world: World) -> ClientResponse:
    return await world.get(JOB)


# ---------------------------------------------------------------- what is not possible


@answers(CfError.UNPROCESSABLE_ENTITY)
async def unprocessable_entity(world: World) -> ClientResponse:
    return await world.post(RESTORE, b"{}")


@answers(CfError.ORG_SUSPENDED)
async def org_suspended(world: World) -> ClientResponse:
    world.change("update organizations set status = 'suspended'")
    return await world.post()


@answers(CfError.SPACE_SUSPENDED)
async def space_suspended(world: World) -> ClientResponse:
    world.change("update spaces set status = 'suspended'")
    return await world.post()


@answers(CfError.RESOURCE_BEING_DELETED)
async def resource_being_deleted(world: World) -> ClientResponse:
    world.change("update spaces set status = 'deleting'")
    return await world.post()


@answers(CfError.ASYNC_SERVICE_INSTANCE_OPERATION_IN_PROGRESS)
async def async_service_instance_operation_in_progress(world: World) -> ClientResponse:
    assert (await world.post()).status == 202
    return await world.post()


# ---------------------------------------------------------------- what is broken


@answers(CfError.UNKNOWN)
async def unknown(world: World) -> ClientResponse:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("a bug, and what it says is nobody's business")

    world.monkeypatch.setattr("api.handlers.backups.present_backups", breaks)
    return await world.get(BACKUPS)


@answers(CfError.DATABASE_ERROR)
async def database_error(world: World) -> ClientResponse:
    world.change("alter table backups rename column created_at to made_at")
    return await world.get(BACKUPS)


@answers(CfError.SERVICE_UNAVAILABLE)
async def service_unavailable(world: World) -> ClientResponse:
    name = world.settings.database_url.get_secret_value().rpartition("/")[2]
    rows(world.postgres_url, f"alter database {name} allow_connections false")
    try:
        rows(world.postgres_url, "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", name)
        return await world.get(BACKUPS)
    finally:
        rows(world.postgres_url, f"alter database {name} allow_connections true")


# ---------------------------------------------------------------- what a broker, or nobody, says of a job


@fails(CfError.UNABLE_TO_PERFORM)
async def unable_to_perform(world: World) -> Any:
    world.broker.polls.append((200, {"state": "failed", "description": "no space"}))
    return await world.failed_job()


@fails(CfError.SERVICE_BROKER_ASYNC_REQUIRED)
async def service_broker_async_required(world: World) -> Any:
    world.broker.starts.append((422, {"error": "AsyncRequired"}))
    return await world.failed_job()


@fails(CfError.SERVICE_BROKER_CONCURRENCY_ERROR)
async def service_broker_concurrency_error(world: World) -> Any:
    world.broker.starts.extend([(422, {"error": "ConcurrencyError"})] * 99)
    return await world.failed_job(busy_patience_s=0.05)


@fails(CfError.JOB_TIMEOUT)
async def job_timeout(world: World) -> Any:
    world.broker.polls_until_done = 10**9
    world.change("update service_plans set maximum_polling_duration_s = 1")
    return await world.failed_job()


# ---------------------------------------------------------------- the tests


def test_it_has_a_scenario_for_each_row() -> None:
    assert set(ANSWERS) | set(JOBS) == set(CfError)
    assert not set(ANSWERS) & set(JOBS)


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: f"{row.code}-{row.title}")
async def test_item_07_it_answers_each_error_of_the_table_in_one_form(world: World, row: CfError) -> None:
    response = await ANSWERS[row](world)
    assert response.status == row.status
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert REQUEST_ID.fullmatch(response.headers["X-VCAP-Request-ID"])
    body = await response.json()
    assert list(body) == ["errors"]
    (error,) = body["errors"]
    assert_says(error, row)


@pytest.mark.parametrize("row", JOBS, ids=lambda row: f"{row.code}-{row.title}")
async def test_item_07_it_shows_each_error_of_a_failed_job_in_the_same_form(world: World, row: CfError) -> None:
    job = await JOBS[row](world)
    assert job["state"] == "FAILED"
    (error,) = job["errors"]
    assert_says(error, row)


def assert_says(error: dict[str, Any], row: CfError) -> None:
    assert set(error) == {"code", "detail", "title"}
    assert (error["code"], error["title"]) == (row.code, row.title)
    start, _, rest = row.text.partition("{}")
    assert error["detail"].startswith(start)
    assert error["detail"].endswith(rest)
    assert len(error["detail"]) > len(start + rest) or "{}" not in row.text
