"""What cells run on: one durable PostgreSQL and one queue for the whole run, and for each cell a scene of its own.

A scene has a fresh database, an empty queue, a stub broker, and the processes that the cell starts; all of them are
ended with it, by their ids. Everything listens on the loopback interface and has its data in one directory.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis

from deploy.local.databases import scratch_database
from deploy.local.postgres import PostgresServer
from deploy.local.processes import ChildProcess, Composed, free_port
from deploy.local.valkey import ValkeyServer
from shared.environment import PREFIX
from shared.security.secrets import generate_key
from shared.security.tokens import USER_SCOPES, DevelopmentTokens
from shared.settings import Settings
from shared.store.migrate import migrate
from tests.bench.usage import Sampler
from tests.support import rows, seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

USERS: Final = 8
START_TIMEOUT_S: Final = 30
STOP_TIMEOUT_S: Final = 15
TOKEN_LIFETIME_S: Final = 24 * 3600
QUEUE_PREFIX: Final = "bench:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much a run does. The quick one only shows that everything works."""

    warm_up_s: float = 0.7
    seconds: float = 3.0
    instances: int = 60_000
    jobs_divisor: int = 1
    round_trips: int = 100


FULL: Final = Scale()
QUICK: Final = Scale(warm_up_s=0.1, seconds=0.3, instances=3000, jobs_divisor=20, round_trips=5)


class System(Composed):
    """The servers. Use it with `with`, from the main thread."""

    def __init__(self, directory: Path, scale: Scale) -> None:
        self.directory = directory
        self.scale = scale
        self.postgres = PostgresServer(directory / "postgres", is_durable=True)
        self.queue = ValkeyServer(directory / "valkey")
        self.broker_guid: UUID
        self._secret_key = generate_key()
        self._token_key = secrets.token_hex(32)
        self._template = ""
        self._cleanup = ExitStack()

    def _start(self) -> None:
        self._cleanup.enter_context(self.postgres)
        self._cleanup.enter_context(self.queue)
        template = self._cleanup.enter_context(scratch_database(self.postgres.url(), prefix="bench_template"))
        self._template = template.rpartition("/")[2]
        migrate(template)
        self._seed(template)

    def stop(self) -> None:
        """Stop the servers."""
        self._cleanup.close()

    @contextmanager
    def scene(self, latency_ms: int = 0) -> Iterator[Scene]:
        """A scene with a broker that answers after so many milliseconds."""
        with redis.Redis.from_url(self.queue.url()) as queue:
            queue.flushall()
        with scratch_database(self.postgres.url(), template=self._template, prefix="bench") as url:
            # So that no cell pays for what the one before has written.
            rows(url, "checkpoint")
            with Scene(self, url, latency_ms) as scene:
                yield scene

    def environment(self, database_url: str, port: int) -> dict[str, str]:
        """What API and workers of Safekeep are started with: what a deployment must give, and no more."""
        own = {
            "ENVIRONMENT": "development",
            "DATABASE_URL": database_url,
            "QUEUE_URL": self.queue.url(),
            "QUEUE_PREFIX": QUEUE_PREFIX,
            "SECRET_KEYS": self._secret_key,
            "TOKEN_KEY": self._token_key,
            "EXTERNAL_URL": f"http://127.0.0.1:{port}",
            "LISTEN_PORT": str(port),
        }
        return {PREFIX + name: value for name, value in own.items()}

    def settings(self, database_url: str) -> Settings:
        """The same as settings of this process."""
        own = self.environment(database_url, 1)
        return Settings.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in own.items()})

    def _seed(self, url: str) -> None:
        self.broker_guid = seed(self.settings(url), instances=()).broker_guid
        rows(url, "insert into users select 'user-' || n, 'user-' || n from generate_series(1, %s) as n", USERS)
        rows(
            url,
            "insert into roles (user_guid, type, space_guid)"
            " select 'user-' || n, 'space_developer', 'space' from generate_series(1, %s) as n",
            USERS,
        )
        rows(
            url,
            "insert into service_instances (guid, name, type, space_guid, plan_guid)"
            " select 'instance-' || n, 'instance-' || n, 'managed', 'space', p.guid"
            " from generate_series(1, %s) as n, service_plans p",
            self.scale.instances,
        )
        rows(url, "vacuum analyze")


class Scene(Composed):
    """What one cell runs on. `latency_ms` is the stub broker's."""

    def __init__(self, system: System, database_url: str, latency_ms: int) -> None:
        self.system = system
        self.scale = system.scale
        self.database_url = database_url
        self.latency_ms = latency_ms
        self.settings = system.settings(database_url)
        self.tokens = [
            DevelopmentTokens(self.settings).sign(f"user-{n}", f"user-{n}", USER_SCOPES, TOKEN_LIFETIME_S)
            for n in range(1, USERS + 1)
        ]
        self.broker_url = ""
        self._children: dict[str, list[ChildProcess]] = {}
        self._directory = Path(system.directory, f"scene-{secrets.token_hex(4)}")

    def _start(self) -> None:
        self._directory.mkdir()
        port = free_port()
        self.broker_url = f"http://127.0.0.1:{port}"
        rows(self.database_url, "update brokers set url = %s", self.broker_url)
        self.start("stub", ["-m", "tests.bench.stub", str(port), str(self.latency_ms)], port=port)

    @property
    def peer_environment(self) -> dict[str, str]:
        """Where peers, and the limits, find what they need."""
        return {
            "BENCH_DATABASE_URL": self.database_url,
            "BENCH_QUEUE_URL": self.system.queue.url(),
            "BENCH_BROKER_URL": self.broker_url,
        }

    def start(
        self,
        part: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        said: str | None = None,
    ) -> ChildProcess:
        """Start a Python process of a part of the system; returns when it listens on `port`, or its log says `said`."""
        children = self._children.setdefault(part, [])
        child = ChildProcess(
            part,
            [sys.executable, *arguments],
            log=self._directory / f"{part}-{len(children) + 1}.log",
            environment=_outside() | dict(environment or {}),
        )
        child.start()
        children.append(child)
        if port is not None:
            child.wait_until(lambda: _listens(port), START_TIMEOUT_S)
        if said is not None:
            child.wait_until(lambda: said in child.log.read_text(encoding="utf-8", errors="replace"), START_TIMEOUT_S)
        return child

    def start_api(self) -> int:
        """Start our API as a deployment does; the port that it answers on."""
        port = free_port()
        environment = self.system.environment(self.database_url, port)
        self.start("api", ["-m", "deploy.cli.main", "api"], environment=environment, port=port)
        return port

    def start_worker(self, *, is_awaited: bool, **settings: object) -> None:
        """Start one of our workers, with settings of its own; `is_awaited`: returns when it takes jobs."""
        environment = self.system.environment(self.database_url, 1)
        environment |= {PREFIX + name.upper(): str(value) for name, value in settings.items()}
        arguments = ["-m", "deploy.cli.main", "worker"]
        self.start("worker", arguments, environment=environment, said="worker is up" if is_awaited else None)

    def run(self, arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> str:
        """What a program prints that is not measured. Raises RuntimeError when it fails."""
        with running(arguments, environment) as process:
            return finish(process)

    def file(self, name: str) -> Path:
        """A place for a file of the scene."""
        return self._directory / name

    def check(self) -> None:
        """Raise LocalStackError when a process of the scene has ended by itself."""
        for children in self._children.values():
            for child in children:
                if child.exit_code is not None:
                    child.wait_until(lambda: False, 0)

    def sampler(self, **more: int) -> Sampler:
        """Watches all parts, and processes that the cell has started by itself."""
        groups = {part: [child.pid for child in children] for part, children in self._children.items()}
        groups |= {"postgres": [self.system.postgres.pid], "queue": [self.system.queue.pid]}
        return Sampler(groups | {part: [pid] for part, pid in more.items()})

    def stop(self) -> None:
        """End all processes of the scene, and let go of their logs."""
        children = [child for group in self._children.values() for child in group]
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop(STOP_TIMEOUT_S)
        shutil.rmtree(self._directory, ignore_errors=True)


@contextmanager
def running(
    arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program of which `finish` gives what it prints; it is killed if that is not asked for."""
    process = subprocess.Popen(
        [str(word) for word in arguments],
        env=_outside() | dict(environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    """End the program's input; what it has printed when it ends. Raises RuntimeError when it fails."""
    printed, wrong = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"a program ended with {process.returncode}: {wrong.strip()[-2000:]}")
    return printed


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:  # Any: columns of any type
    """A connection for looking at results."""
    return psycopg.connect(url, autocommit=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _outside() -> dict[str, str]:
    """The environment without settings of a developer's shell, with the modules that this process finds."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return outside | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
