"""The stack under test: embedded servers, the faulty broker, API and workers, with a proxy before each thing they need.

Everything listens on the loopback interface and has its data in one directory; everything that is started here is ended
here, by its process id. Processes are started from the main thread, and the proxies have a thread of their own.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from deploy.cli.apply import apply_file
from deploy.local.postgres import PostgresServer
from deploy.local.processes import ChildProcess, Composed, free_port
from deploy.local.valkey import ValkeyServer
from shared.environment import PREFIX
from shared.security.secrets import generate_key
from shared.security.tokens import USER_SCOPES, DevelopmentTokens
from shared.settings import Settings
from shared.store.migrate import migrate
from tests.chaos.broker import OFFERING, PLAN, USERNAME
from tests.chaos.crashes import FILE_VARIABLE, VARIABLE, to_text
from tests.chaos.proxy import LoopThread, Proxy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.chaos.crashes import CrashPlan

START_TIMEOUT_S: Final = 60
TOKEN_LIFETIME_S: Final = 24 * 3600
DEVELOPER: Final = "chaos-developer"
QUEUE_PREFIX: Final = "chaos:"
LEASE_S: Final = 3.0
#: Recovery is a matter of leases and intervals; short ones show it in seconds. The deadline ends what never ends.
SHORT: Final = {
    "LEASE_S": str(LEASE_S),
    "BROKER_TIMEOUT_S": "1.4",
    "HINT_INTERVAL_S": "1",
    "HINT_INTERVAL_MAX_S": "2",
    "START_BACKOFF_S": "0.2",
    "POLL_INTERVAL_S": "0.2",
    "POLL_INTERVAL_MAX_S": "1",
    "RETRY_AFTER_MAX_S": "2",
    "BUSY_PATIENCE_S": "15",
    "WORKER_GRACE_S": "1",
    "DATABASE_TIMEOUT_S": "3",
    "OPERATION_DEADLINE_S": "25",
    "BREAKER_PAUSE_S": "0.5",
    "BREAKER_PAUSE_MAX_S": "2",
    "CLEAN_UP_BACKOFF_S": "0.5",
    "CLEAN_UP_BACKOFF_MAX_S": "2",
}


class ChaosStack(Composed):
    """A stack with its data in `directory`, `workers` worker processes, and these instances. Use it with `with`."""

    def __init__(
        self, directory: Path, *, workers: int, instances: list[str], seed: int, broker_rate: float, crashes: CrashPlan
    ) -> None:
        self.directory = directory
        self.instances = instances
        self.ledger = directory / "ledger.jsonl"
        self.postgres = PostgresServer(directory / "postgres", is_durable=True)
        self.valkey = ValkeyServer(directory / "valkey")
        self.proxies: dict[str, Proxy] = {}
        self.workers: list[ChildProcess] = []
        self.environment: dict[str, str] = {}
        self.api_url = f"http://127.0.0.1:{free_port()}"
        self.worker_starts = 0
        self.worker_ends: Counter[str] = Counter()  #: by exit code
        self._worker_count = workers
        self._seed = seed
        self._broker_rate = broker_rate
        self._broker_port = free_port()
        self._broker_password = secrets.token_hex(16)
        self._crashes = crashes
        self._cleanup = ExitStack()
        self.network: LoopThread
        self.api: ChildProcess
        self.broker: ChildProcess

    @property
    def settings(self) -> Settings:
        """The settings of API and workers: they see the servers through the proxies."""
        own = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in self.environment.items()
            if name.startswith(PREFIX)
        }
        return Settings.model_validate(own)

    @property
    def database_url(self) -> str:
        """The database without a proxy, for looking at the truth."""
        return self.postgres.url()

    @property
    def token(self) -> str:
        """A token of a Space Developer."""
        return DevelopmentTokens(self.settings).sign(DEVELOPER, DEVELOPER, USER_SCOPES, TOKEN_LIFETIME_S)

    def tend(self) -> None:
        """Start a new worker in the place of each that has ended."""
        for place, worker in enumerate(self.workers):
            if worker.exit_code is not None:
                self.worker_ends[f"exit code {worker.exit_code}"] += 1
                self._crashes.died(worker.pid)
                self._start_worker(place)

    def stop(self) -> None:
        """End everything. Children are killed: nothing of theirs is needed any more, and some may be stopped."""
        for worker in self.workers:
            worker.kill()
        self.valkey.signal(signal.SIGCONT)
        self._cleanup.close()

    def _start(self) -> None:
        self.network = self._cleanup.enter_context(LoopThread())
        self._cleanup.enter_context(self.postgres)
        self._cleanup.enter_context(self.valkey)
        targets = {"postgres": self.postgres.port, "queue": self.valkey.port, "broker": self._broker_port}
        for name, port in targets.items():
            self.proxies[name] = Proxy(name, port)
            self.network.submit(self.proxies[name].start()).result(10)
        self.environment = self._environment()
        self.broker = self._child("broker", ["-m", "tests.chaos.broker"], self._broker_environment())
        self.api = self._child("api", ["-m", "deploy.cli.main", "api"], self.environment)
        for child in (self.broker, self.api):
            child.start()
            self._cleanup.callback(child.kill)
        for place in range(self._worker_count):
            self._start_worker(place)
        # The children load their code meanwhile; they wait for the schema by themselves.
        migrate(self.database_url)
        self.broker.wait_until(lambda: _answers(f"http://127.0.0.1:{self._broker_port}/v2/catalog"), START_TIMEOUT_S)
        self._apply()
        self.api.wait_until(lambda: _answers(f"{self.api_url}/readyz"), START_TIMEOUT_S)

    def _start_worker(self, place: int) -> None:
        crashes = self._crashes.next()
        more = {VARIABLE: to_text(crashes), FILE_VARIABLE: str(self._crashes.file)}
        worker = self._child(f"worker-{place + 1}", ["-m", "tests.chaos.worker"], self.environment | more)
        worker.start()
        self.worker_starts += 1
        self._crashes.given(worker.pid, crashes)
        self.workers[place : place + 1] = [worker]

    def _child(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> ChildProcess:
        outside = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        return ChildProcess(
            name,
            [sys.executable, *arguments],
            log=self.directory / f"{name}.log",
            environment=outside | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | dict(environment),
        )

    def _environment(self) -> dict[str, str]:
        own = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": self._through("postgres", self.postgres.url(), self.postgres.port),
            "QUEUE_URL": self._through("queue", self.valkey.url(), self.valkey.port),
            "QUEUE_PREFIX": QUEUE_PREFIX,
            "SECRET_KEYS": generate_key(),
            "TOKEN_KEY": secrets.token_hex(32),
            "EXTERNAL_URL": self.api_url,
            "LISTEN_HOST": "127.0.0.1",
            "LISTEN_PORT": self.api_url.rpartition(":")[2],
            "LOG_FORMAT": "json",
            **SHORT,
        }
        return {PREFIX + name: value for name, value in own.items()}

    def _through(self, proxy: str, url: str, port: int) -> str:
        return url.replace(f"@127.0.0.1:{port}/", f"@127.0.0.1:{self.proxies[proxy].port}/")

    def _broker_environment(self) -> dict[str, str]:
        return {
            "CHAOS_BROKER_LEDGER": str(self.ledger),
            "CHAOS_BROKER_SEED": str(self._seed),
            "CHAOS_BROKER_RATE": str(self._broker_rate),
            "CHAOS_BROKER_PASSWORD": self._broker_password,
            "CHAOS_BROKER_PORT": str(self._broker_port),
        }

    def _apply(self) -> None:
        place = {"broker": "faulty", "offering": OFFERING, "plan": PLAN}
        space = {
            "guid": "chaos-space",
            "name": "chaos",
            "roles": {"space_developer": [DEVELOPER]},
            "service_instances": [{"guid": guid, "name": guid, **place} for guid in self.instances],
        }
        broker = {
            "name": "faulty",
            "url": f"http://127.0.0.1:{self.proxies['broker'].port}",
            "username": USERNAME,
            "password": "${BROKER_PASSWORD}",
        }
        declaration = {
            "brokers": [broker],
            "users": [{"guid": DEVELOPER, "name": DEVELOPER}],
            "organizations": [{"guid": "chaos-organization", "name": "chaos", "spaces": [space]}],
        }
        file = self.directory / "directory.yaml"
        file.write_text(yaml.safe_dump(declaration, sort_keys=False), encoding="utf-8")
        asyncio.run(apply_file(self.settings, file, {"BROKER_PASSWORD": self._broker_password}))


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except URLError as error:
        return getattr(error, "code", None) == 401  # it asks who we are, so it is there
    except OSError:
        return False
