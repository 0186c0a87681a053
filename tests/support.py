"""What several tests are made of: a directory in the database, a service broker that does as it is told, callers."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psycopg
from aiohttp import web
from aiohttp.test_utils import TestServer
from psycopg.rows import dict_row

from api.server import Runner
from shared.records import JobRequest
from shared.security.secrets import Sealer
from shared.security.tokens import ADMIN_SCOPES, USER_SCOPES, DevelopmentTokens
from shared.states import Operation
from shared.store.job_lists import JobLists

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType
    from uuid import UUID

    from shared.records import Job
    from shared.settings import Settings
    from shared.store.database import Database
    from shared.store.jobs import Jobs

DEVELOPER = "developer-guid"
BROKER_PASSWORD = "brøker-password"
#: Settings with which nothing waits longer than a test should.
QUICK: dict[str, Any] = {
    "dispatch_interval_s": 0.02,
    "hint_interval_s": 0.2,
    "poll_interval_s": 0.01,
    "start_backoff_s": 0.01,
    "broker_timeout_s": 1,
    "lease_s": 3,
    "worker_grace_s": 0.2,
    "clean_up_backoff_s": 0.01,
    "breaker_pause_s": 0.05,
    "breaker_pause_max_s": 0.05,
}
FEATURES = ("backup", "restore", "restore.cross_instance")


def rows(database_url: str, statement: str, *parameters: object) -> list[dict[str, Any]]:
    """What a statement of a test gives."""
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection:
        cursor = connection.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Seeded:
    broker_guid: UUID
    plan_guid: UUID


def seed(
    settings: Settings,
    *,
    instances: Sequence[str] = ("i-1",),
    broker_url: str = "http://127.0.0.1:9",
    broker: str = "broker",
    features: Sequence[str] = FEATURES,
    role: str = "space_developer",
) -> Seeded:
    """Put a broker, a plan, and instances into the directory; instance `i-1` is called `name of i-1`."""
    url = settings.database_url.get_secret_value()
    sealer = Sealer([key.get_secret_value() for key in settings.secret_keys])
    broker_guid = rows(
        url,
        "insert into brokers (name, url, username, password_sealed) values (%s, %s, 'user', %s) returning guid",
        broker,
        broker_url,
        sealer.seal(BROKER_PASSWORD),
    )[0]["guid"]
    offering_guid = rows(
        url,
        "insert into service_offerings (broker_guid, catalog_id, name, broker_catalog)"
        " values (%s, 'service-id', 'postgres', '{}') returning guid",
        broker_guid,
    )[0]["guid"]
    plan_guid = rows(
        url,
        "insert into service_plans (offering_guid, catalog_id, name, broker_catalog, backup_features)"
        " values (%s, 'plan-id', 'small', '{}', %s) returning guid",
        offering_guid,
        list(features),
    )[0]["guid"]
    rows(url, "insert into organizations values ('org', 'acme') on conflict do nothing")
    rows(url, "insert into spaces values ('space', 'shop', 'org') on conflict do nothing")
    rows(url, "insert into users values (%s, 'developer') on conflict do nothing", DEVELOPER)
    place = ("space", None) if role.startswith("space") else (None, "org")
    rows(url, "insert into roles values (%s, %s, %s, %s) on conflict do nothing", DEVELOPER, role, *place)
    for guid in instances:
        rows(
            url,
            "insert into service_instances (guid, name, type, space_guid, plan_guid)"
            " values (%s, %s, 'managed', 'space', %s)",
            guid,
            f"name of {guid}",
            plan_guid,
        )
    return Seeded(broker_guid, plan_guid)


def job_request(broker_guid: UUID, instance: str = "i-1", **values: Any) -> JobRequest:
    """A request that passed every check, to be stored."""
    defaults: dict[str, Any] = {
        "guid": uuid.uuid4(),
        "resource_guid": uuid.uuid4(),
        "operation": Operation.CREATE_BACKUP,
        "service_instance_guid": instance,
        "broker_guid": broker_guid,
        "user_guid": "u",
        "request_id": "r",
        "traceparent": None,
        "request_body": '{"service_id": "s", "plan_id": "p"}',
        "deadline_s": 3600,
        "can_undo": True,
        "user_name": "user",
        "service_instance_name": f"name of {instance}",
        "space_guid": "space",
        "organization_guid": "org",
    }
    return JobRequest(**defaults | values)


async def accept_all(jobs: Jobs, *requests: JobRequest) -> list[bool]:
    """For each of `requests`, whether it was stored."""
    return [accepted.is_stored for accepted in await jobs.accept(requests)]


def bearer(
    settings: Settings, user: str = DEVELOPER, *, scopes: Sequence[str] = USER_SCOPES, is_admin: bool = False
) -> dict[str, str]:
    """The header of a caller."""
    token = DevelopmentTokens(settings).sign(user, user, ADMIN_SCOPES if is_admin else scopes, 600)
    return {"Authorization": f"bearer {token}"}


@dataclass
class Call:
    """A request that the broker got."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str


@dataclass
class ScriptedBroker:
    """A service broker over real HTTP, in the loop of the test. It makes each backup once, and counts.

    Answers in `starts`, `polls` and `deletes` are used up first, each a status and a body, or a coroutine that does as
    it likes; those in `lists`, by instance, stay. What was deleted, known or not, is never made again.
    """

    polls_until_done: int = 1
    starts: deque[Any] = field(default_factory=deque)
    polls: deque[Any] = field(default_factory=deque)
    deletes: deque[Any] = field(default_factory=deque)
    lists: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    made_for: dict[str, str] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    polled: Counter[str] = field(default_factory=Counter)
    deleted: set[str] = field(default_factory=set)
    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        for kind in ("backups", "restores"):
            path = f"/v2/service_instances/{{instance}}/{kind}/{{id}}"
            app.add_routes(
                [
                    web.put(path, self._start),
                    web.get(path, self._read),
                    web.get(f"{path}/last_operation", self._poll),
                    web.delete(path, self._delete),
                ]
            )
        app.add_routes([web.get("/v2/service_instances/{instance}/backups", self._list)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _note(self, request: web.Request) -> str:
        self.calls.append(
            Call(request.method, request.path, dict(request.query), dict(request.headers), await request.text())
        )
        return request.match_info.get("id", "")

    async def _start(self, request: web.Request) -> web.StreamResponse:
        guid = await self._note(request)
        if self.starts:
            return await _as_told(self.starts.popleft(), request)
        if guid in self.deleted:
            return web.json_response({}, status=410)
        self.made[guid] = 1
        self.made_for[guid] = request.match_info["instance"]
        return web.json_response({"operation": f"op {guid}?&"}, status=202)

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        guid = await self._note(request)
        if self.polls:
            return await _as_told(self.polls.popleft(), request)
        self.polled[guid] += 1
        state = "succeeded" if self.polled[guid] >= self.polls_until_done else "in progress"
        return web.json_response({"state": state})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        guid = await self._note(request)
        if self.deletes:
            return await _as_told(self.deletes.popleft(), request)
        status = 200 if guid in self.made and guid not in self.deleted else 410
        self.deleted.add(guid)
        return web.json_response({}, status=status)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        await self._note(request)
        instance = request.match_info["instance"]
        if instance in self.lists:
            return await _as_told(self.lists[instance], request)
        guids = [guid for guid, place in self.made_for.items() if place == instance and guid not in self.deleted]
        return web.json_response({"backups": [{"id": guid, "state": "succeeded", "created_at": 1} for guid in guids]})

    async def _read(self, request: web.Request) -> web.StreamResponse:
        guid = await self._note(request)
        if guid in self.deleted:
            return web.json_response({}, status=404)
        return web.json_response({"id": guid, "state": "succeeded", "created_at": 1, "size_bytes": 4711})


async def _as_told(
    told: tuple[Any, ...] | Callable[[web.Request], Awaitable[web.StreamResponse]], request: web.Request
) -> web.StreamResponse:
    if callable(told):
        return await told(request)
    status, body, *more = told
    headers: dict[str, str] = more[0] if more else {}
    return web.Response(
        status=status,
        body=json.dumps(body) if isinstance(body, dict) else body,
        content_type="application/json",
        headers=headers,
    )


class ApiServer(TestServer):
    """The API's application behind its own HTTP edge, on loopback; on a free port unless told."""

    def __init__(self, app: web.Application, settings: Settings, *, port: int | None = None) -> None:
        super().__init__(app, port=port)
        self.settings = settings

    async def _make_runner(self, **options: Any) -> Runner:
        # As in production: a client that goes away does not stop what it began.
        return Runner(self.app, self.settings, **(options | {"handler_cancellation": False, "lingering_time": 0.2}))


async def read_job(database: Database, guid: UUID) -> Job | None:
    """The job, as its pollers see it."""
    return (await JobLists(database).find_each([guid]))[0]


async def eventually(is_so: Callable[[], bool | Awaitable[bool]], timeout_s: float = 30) -> None:
    """Return when `is_so`; fail after `timeout_s` seconds. Waits for a state that only the database shows."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = is_so()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)
