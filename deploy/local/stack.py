"""The whole of Safekeep on one computer: PostgreSQL, queue, reference broker, API and workers, as child processes.

Where the environment names a PostgreSQL or a queue, that is used and no embedded one is started. Every server listens
on a free port of the loopback interface; everything that is started here is stopped here.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final
from urllib.error import URLError
from urllib.request import urlopen

from deploy.local.databases import scratch_database
from deploy.local.errors import LocalStackError
from deploy.local.identity import load_identity
from deploy.local.osb import BrokerAccount
from deploy.local.postgres import PostgresServer, find_postgres_tool
from deploy.local.processes import ChildProcess, Composed, free_port
from deploy.local.valkey import ValkeyServer
from shared.environment import PREFIX
from shared.errors import HintError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from shared.settings import Settings

# What needs more than the standard library is imported where it is used, once the servers and processes that take
# longer are on their way.

WORKERS: Final = 2
START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 30
TOKEN_LIFETIME_S: Final = 7 * 24 * 3600
OFFERING: Final = "postgres"
PLAN: Final = "small"
DATABASE_VARIABLE: Final = f"{PREFIX}DATABASE_URL"
QUEUE_VARIABLE: Final = f"{PREFIX}QUEUE_URL"


class Stack(Composed):
    """A stack with its data in `directory`.

    `is_scratch`: use databases of our own, which are dropped at the end, and not the one that a URL of the user names.
    `postgres_directory` is where the embedded PostgreSQL has its data, if not below `directory`. `settings` are
    environment variables for API and workers, on top of the current environment. Start it from the main thread, with
    `with`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        is_scratch: bool,
        postgres_directory: Path | None = None,
        is_durable: bool = True,
        workers: int = WORKERS,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.identity = load_identity(self.directory)
        self.children: dict[str, ChildProcess] = {}
        self.postgres: PostgresServer | None = None
        self.valkey: ValkeyServer | None = None
        self._is_scratch = is_scratch
        self._postgres_directory = postgres_directory or self.directory / "postgres"
        self._is_durable = is_durable
        self._workers = workers
        self._extra = dict(settings or {})
        self._cleanup = ExitStack()
        self.api_url = ""
        self.server_url = ""
        self.environment: dict[str, str] = {}

    # ------------------------------------------------------------------ what users of a stack need

    @property
    def settings(self) -> Settings:
        """The settings that API and workers run with."""
        from shared.settings import Settings  # noqa: PLC0415 - see above

        values = {name.removeprefix(PREFIX).lower(): value for name, value in self.environment.items()}
        return Settings.model_validate(values)

    @property
    def database_url(self) -> str:
        """Safekeep's own database."""
        return self.environment[DATABASE_VARIABLE]

    @property
    def queue_url(self) -> str:
        """The queue."""
        return self.environment[QUEUE_VARIABLE]

    @property
    def broker(self) -> BrokerAccount:
        """The reference broker."""
        return BrokerAccount(self._broker_url, self.identity.broker_username, self.identity.broker_password)

    @property
    def admin_token(self) -> str:
        """A token that may do everything."""
        from shared.security.tokens import ADMIN_SCOPES  # noqa: PLC0415 - see above

        return self._sign(self.identity.admin_guid, "admin", ADMIN_SCOPES)

    @property
    def developer_token(self) -> str:
        """A token of the Space Developer."""
        from shared.security.tokens import USER_SCOPES  # noqa: PLC0415 - see above

        return self._sign(self.identity.developer_guid, "developer", USER_SCOPES)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of everything that was started, by name."""
        servers = {"postgres": self.postgres, "valkey": self.valkey}
        found = {name: server.pid for name, server in servers.items() if server is not None}
        return found | {name: child.pid for name, child in self.children.items()}

    def bind(self) -> str:
        """The URI of the instance's database."""
        plan = self.broker.find_plan(OFFERING, PLAN)
        return self.broker.bind(self.identity.instance_guid, self.identity.binding_guid, plan)

    def start_worker(self, name: str) -> ChildProcess:
        """Start one more worker process; returns at once."""
        return self._start_child(name, ["-m", "deploy.cli.main", "worker"], self.environment)

    # ------------------------------------------------------------------ start and stop

    def _start(self) -> None:
        self._begin_queue()
        self.server_url = self._start_postgres()
        self._broker_url = f"http://127.0.0.1:{free_port()}"
        self.api_url = f"http://127.0.0.1:{free_port()}"
        # First, since it is waited for first.
        self._start_child("broker", ["-m", "deploy.postgres_broker"], self._broker_environment())
        self.environment = self._environment(self._database(), self._finish_queue())
        if self._is_scratch and self.valkey is None:
            self._cleanup.callback(_clear_queue, self.settings)
        self._start_child("api", ["-m", "deploy.cli.main", "api"], self.environment)
        for number in range(1, self._workers + 1):
            self.start_worker(f"worker-{number}")
        # The children load their code meanwhile; they wait for the schema by themselves.
        from shared.store.migrate import migrate  # noqa: PLC0415 - see above

        migrate(self.database_url)
        self.children["broker"].wait_until(self.broker.answers, START_TIMEOUT_S)
        plan = self.broker.find_plan(OFFERING, PLAN)
        identity = self.identity
        self.broker.provision(identity.instance_guid, plan, identity.organization_guid, identity.space_guid)
        if self._is_scratch:
            self._cleanup.callback(self._deprovision, plan)
        self._apply()
        self.children["api"].wait_until(lambda: _is_ready(self.api_url), START_TIMEOUT_S)

    def stop(self) -> None:
        """Stop everything, in order: first what takes in work, last what keeps it."""
        for name in ("api", *(name for name in self.children if name.startswith("worker"))):
            if name in self.children:
                self.children[name].ask_to_stop()
        for name, child in list(self.children.items()):
            if name != "broker":
                child.stop(STOP_TIMEOUT_S)
        self._cleanup.close()
        if "broker" in self.children:
            self.children["broker"].stop()
        self.children.clear()
        if self.valkey is not None:
            self.valkey.stop()
        if self.postgres is not None:
            self.postgres.stop()
        self.postgres = self.valkey = None

    def _begin_queue(self) -> None:
        if not os.environ.get(QUEUE_VARIABLE):
            self.valkey = ValkeyServer(self.directory / "valkey")
            self.valkey.begin()

    def _finish_queue(self) -> str:
        if self.valkey is None:
            return os.environ[QUEUE_VARIABLE]
        self.valkey.finish()
        return self.valkey.url()

    def _start_postgres(self) -> str:
        if url := os.environ.get(DATABASE_VARIABLE):
            return url
        self.postgres = PostgresServer(self._postgres_directory, is_durable=self._is_durable)
        self.postgres.start()
        return self.postgres.url()

    def _database(self) -> str:
        """Safekeep's own database on the server."""
        if self._is_scratch:
            return self._cleanup.enter_context(scratch_database(self.server_url))
        return self.server_url

    def _environment(self, database_url: str, queue_url: str) -> dict[str, str]:
        own = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": database_url,
            "QUEUE_URL": queue_url,
            # A queue of the user's may serve others, and a second stack of ours.
            "QUEUE_PREFIX": f"safekeep-{self.identity.instance_guid[:8]}:",
            "SECRET_KEYS": self.identity.secret_key,
            "TOKEN_KEY": self.identity.token_key,
            "EXTERNAL_URL": self.api_url,
            "LISTEN_HOST": "127.0.0.1",
            "LISTEN_PORT": self.api_url.rpartition(":")[2],
        }
        inherited = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
        return inherited | {PREFIX + name: value for name, value in own.items()} | self._extra

    def _broker_environment(self) -> dict[str, str]:
        host, port = self._broker_url.removeprefix("http://").split(":")
        return {
            "POSTGRES_BROKER_DATABASE_URL": self.server_url,
            "POSTGRES_BROKER_DATA_DIRECTORY": str(self.directory / "broker"),
            "POSTGRES_BROKER_USERNAME": self.identity.broker_username,
            "POSTGRES_BROKER_PASSWORD": self.identity.broker_password,
            "POSTGRES_BROKER_HOST": host,
            "POSTGRES_BROKER_PORT": port,
            "POSTGRES_BROKER_PG_BIN": str(find_postgres_tool("pg_dump").parent),
        }

    def _start_child(self, name: str, arguments: list[str], settings: Mapping[str, str]) -> ChildProcess:
        child = ChildProcess(
            name,
            [sys.executable, *arguments],
            log=self.directory / f"{name}.log",
            environment={**_without_settings(os.environ), **settings},
        )
        child.start()
        self.children[name] = child
        return child

    def _apply(self) -> None:
        import yaml  # noqa: PLC0415 - see above

        from deploy.cli.apply import apply_file  # noqa: PLC0415 - see above

        file = self.directory / "directory.yaml"
        file.write_text(yaml.safe_dump(self._declaration(), sort_keys=False), encoding="utf-8")
        asyncio.run(apply_file(self.settings, file, {"BROKER_PASSWORD": self.identity.broker_password}))

    def _declaration(self) -> dict[str, object]:
        identity = self.identity
        instance = {
            "guid": identity.instance_guid,
            "name": identity.instance_name,
            "broker": "postgres-broker",
            "offering": OFFERING,
            "plan": PLAN,
        }
        space = {
            "guid": identity.space_guid,
            "name": "shop",
            "roles": {"space_developer": ["developer"]},
            "service_instances": [instance],
        }
        broker = {
            "name": "postgres-broker",
            "url": self._broker_url,
            "username": identity.broker_username,
            "password": "${BROKER_PASSWORD}",
        }
        return {
            "brokers": [broker],
            "users": [{"guid": identity.developer_guid, "name": "developer"}],
            "organizations": [{"guid": identity.organization_guid, "name": "acme", "spaces": [space]}],
        }

    def _sign(self, user_guid: str, name: str, scopes: Sequence[str]) -> str:
        from shared.security.tokens import DevelopmentTokens  # noqa: PLC0415 - see above

        return DevelopmentTokens(self.settings).sign(user_guid, name, scopes, TOKEN_LIFETIME_S)

    def _deprovision(self, plan: Mapping[str, str]) -> None:
        """Leave no database of the demo on a server that is kept."""
        if self.children["broker"].exit_code is None:
            self.broker.deprovision(self.identity.instance_guid, plan)


def _clear_queue(settings: Settings) -> None:
    """Leave nothing of ours on a queue of the user's. A queue that is away at the end keeps it."""
    # Imported here: it brings Celery, which only a queue of the user's needs in this process.
    from worker.celery_app import delete_queues  # noqa: PLC0415

    with suppress(HintError):
        delete_queues(settings)


def _is_ready(api_url: str) -> bool:
    try:
        with urlopen(f"{api_url}/readyz", timeout=5):  # noqa: S310 - the URL is our own
            return True
    except (URLError, OSError):
        return False


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(PREFIX)}


def require_local_extra() -> None:
    """Raise LocalStackError, with what to do, where the optional packages of the local stack are missing."""
    if find_spec("openbrokerapi") is None:
        raise LocalStackError("the local stack needs its optional packages: pip install 'safekeep[local]'")
