"""What tests of the API and of the engine share: an application over real HTTP, an engine over real parts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from api.app import create_app
from shared.errors import HintError
from shared.security.secrets import Sealer, generate_key
from shared.security.tokens import DevelopmentTokens
from shared.store.database import Database
from tests.contract import check_answers
from tests.hostile import ENOUGH_S, Caller, settings_with
from tests.integration.scene import Scene
from tests.proxy import Proxy
from tests.raw import Target
from tests.support import FEATURES, QUICK, ApiServer, ScriptedBroker, bearer, seed
from worker.broker.client import BrokerClient
from worker.engine import Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.hints import HintSender
    from shared.records import Hint
    from shared.security.callers import TokenVerifier
    from shared.settings import Settings

Client = TestClient[web.Request, web.Application]


def client_of(
    settings: Settings, sender: HintSender, verifier: TokenVerifier | None = None, **options: Any
) -> Client:  # Any: the client's own
    """Calls an API of these settings. Every answer is checked against the document, and one that breaks it fails."""
    app = create_app(settings, verifier or DevelopmentTokens(settings), sender)
    return TestClient(ApiServer(app, settings), middlewares=(check_answers,), **options)


class HintLog:
    """A queue that only remembers its hints, or, when told to, takes none."""

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self.is_away = False

    def send(self, hint: Hint) -> None:
        if self.is_away:
            raise HintError("away")
        self.hints.append(hint)

    def check(self) -> None:
        if self.is_away:
            raise HintError("away")


@pytest.fixture
def hints() -> HintLog:
    return HintLog()


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(external_url="https://safekeep.example")


@pytest.fixture
async def client(settings: Settings, hints: HintLog) -> AsyncIterator[Client]:
    async with client_of(settings, hints) as client:
        yield client


@pytest.fixture
async def serve(settings: Settings, hints: HintLog) -> AsyncIterator[Callable[..., Any]]:
    """Starts the API with what a test wants to be set."""
    async with AsyncExitStack() as stack:

        async def start(**values: Any) -> Target:
            own = type(settings)(**(settings.model_dump() | values))
            app = create_app(own, DevelopmentTokens(own), hints)
            server = ApiServer(app, own)
            await stack.enter_async_context(server)
            return Target(server, own)

        yield start


@pytest.fixture
async def target(serve: Callable[..., Any], settings: Settings) -> Target:
    seed(settings, features=[*FEATURES, "backup.delete"])
    started: Target = await serve()
    return started


@pytest.fixture
async def proxy(settings: Settings) -> AsyncIterator[Proxy]:
    async with Proxy(settings.database_url.get_secret_value()) as proxy:
        yield proxy


@pytest.fixture
def through(settings: Settings, proxy: Proxy) -> Callable[..., Settings]:
    """Settings whose database is behind the proxy."""

    def make(**values: Any) -> Settings:
        return type(settings)(**(settings.model_dump() | {"database_url": proxy.url} | values))

    return make


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    async with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def engine_of() -> Callable[..., Any]:
    """Runs an engine that is hinted directly, as if the queue had no delay."""

    @asynccontextmanager
    async def run(settings: Settings, name: str = "worker") -> AsyncIterator[Engine]:
        class Loopback:
            def send(self, hint: Hint) -> None:
                engine.take(hint.job_guids)

            def check(self) -> None:
                pass

        engine = Engine(settings, Loopback(), name)
        await asyncio.to_thread(engine.start)
        try:
            yield engine
        finally:
            await asyncio.to_thread(engine.stop)

    return run


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    sealer = Sealer([generate_key()])
    async with BrokerClient(settings_with(ENOUGH_S), sealer) as client:
        yield Caller(client, sealer)


@pytest.fixture
async def hasty() -> AsyncIterator[Caller]:
    """A caller that soon loses patience."""
    sealer = Sealer([generate_key()])
    async with BrokerClient(settings_with(0.3), sealer) as client:
        yield Caller(client, sealer)


@pytest.fixture
def url(settings: Settings) -> str:
    return settings.database_url.get_secret_value()


@pytest.fixture
async def database(through: Callable[..., Settings]) -> AsyncIterator[Database]:
    """One connection, by way of the proxy, that is up."""
    async with Database(through(), size=1, name="test") as database:
        await database.fetch("select 1")
        yield database


@pytest.fixture
async def scene(make_settings: Callable[..., Settings], broker: ScriptedBroker) -> AsyncIterator[Scene]:
    settings = make_settings(**QUICK, external_url="https://safekeep.example")
    seed(settings, instances=["i-1", "i-2"], broker_url=broker.url, features=[*FEATURES, "backup.delete"])
    async with client_of(settings, HintLog()) as api:
        api.session.headers.update(bearer(settings))
        yield Scene(settings, broker, api)
