"""A running system to be fuzzed: the API over HTTP, an engine that works on its jobs, a broker, and a directory.

The directory and the jobs are such that a request for what there is has something to meet, in every state that there
is; `Known` has the guids.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientSession
from aiohttp.test_utils import unused_port

from api.app import create_app
from shared.security.tokens import DevelopmentTokens
from tests.directory import fill
from tests.support import DEVELOPER, FEATURES, QUICK, ApiServer, ScriptedBroker, bearer, eventually, rows, seed
from worker.engine import Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from shared.records import Hint
    from shared.settings import Settings

INSTANCES: Final = tuple(f"i-{number}" for number in range(12))
RICH: Final = INSTANCES[4]
#: Collections whose guids are asked for, as tables and in paths.
TABLES: Final = (
    "service_instances",
    "service_offerings",
    "service_plans",
    "spaces",
    "organizations",
    "roles",
    "jobs",
    "audit_events",
    "backups",
)
#: Where the collection of a path has another name than its table.
COLLECTIONS: Final = {"service_brokers": "brokers"}


@dataclass(frozen=True)
class System:
    """What is running."""

    url: str
    rich: str  #: the guid of an instance that has all of the known backups
    tokens: Mapping[str, str]  #: of an administrator, and of an ordinary user
    known: Mapping[str, tuple[str, ...]]  #: guids that there are, by collection


def fuzz_settings(**values: Any) -> dict[str, Any]:
    """Settings of a system that is about to be fuzzed, on a port of its own."""
    port = unused_port()
    own = {"listen_port": port, "external_url": f"http://127.0.0.1:{port}", "directory_staleness_s": 0.1}
    own |= {"job_wait_max_s": 1, "job_watch_interval_s": 0.05, "job_stream_s": 1}
    return QUICK | own | values


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[System]:
    """The system, on an empty, migrated database."""
    async with ScriptedBroker() as broker:
        _fill_directory(settings, broker.url)
        loopback = _Loopback()
        engine = Engine(settings, loopback, "fuzz")
        loopback.engine = engine
        await asyncio.to_thread(engine.start)
        try:
            app = create_app(settings, DevelopmentTokens(settings), loopback)
            async with ApiServer(app, settings, port=settings.listen_port):
                await _work_a_day(settings, broker)
                tokens = {
                    "admin": bearer(settings, "admin-guid", is_admin=True)["Authorization"],
                    "user": bearer(settings, DEVELOPER)["Authorization"],
                }
                yield System(settings.external_url, RICH, tokens, _known(settings))
        finally:
            await asyncio.to_thread(engine.stop)


class _Loopback:
    """A queue without delay."""

    engine: Engine

    def send(self, hint: Hint) -> None:
        self.engine.take(hint.job_guids)

    def check(self) -> None:
        pass


def _fill_directory(settings: Settings, broker_url: str) -> None:
    fill(settings)
    features = [*FEATURES, "backup.delete", "restore.pitr", "restore.cancel"]
    seed(settings, instances=INSTANCES, broker_url=broker_url, broker="fuzzed", features=features)
    changes = {
        "i-1": "type = 'user-provided', plan_guid = null",
        "i-2": "last_operation_type = 'create', last_operation_state = 'in progress'",
        "i-3": "last_operation_type = 'create', last_operation_state = 'failed'",
    }
    for guid, change in changes.items():
        rows(_url(settings), f"update service_instances set {change} where guid = %s", guid)


async def _work_a_day(settings: Settings, broker: ScriptedBroker) -> None:
    """Leave behind jobs that ended well and badly, backups, and what audit events tell of them."""
    broker.polls.append((200, {"state": "failed", "description": "no space"}))
    async with ClientSession(settings.external_url, headers=bearer(settings)) as session:
        for guid in (*INSTANCES[5:8], *[RICH] * 9):
            async with session.post(f"/v3/service_instances/{guid}/backups") as response:
                assert response.status == 202, await response.text()
            await eventually(lambda: not rows(_url(settings), "select 1 from jobs where completed_at is null"))


def _known(settings: Settings) -> dict[str, tuple[str, ...]]:
    found = {}
    for collection, table in ({table: table for table in TABLES} | COLLECTIONS).items():
        where = f"where service_instance_guid = '{RICH}'" if table == "backups" else ""
        guids = rows(_url(settings), f"select guid from {table} {where} order by guid limit 50")
        found[collection] = tuple(str(row["guid"]) for row in guids)
    return found


def _url(settings: Settings) -> str:
    return settings.database_url.get_secret_value()
