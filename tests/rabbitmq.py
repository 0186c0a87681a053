"""A private RabbitMQ for tests: Debian's server on loopback ports, with directory, cookie and `epmd` of its own."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import kombu
import pytest

from deploy.local.errors import LocalStackError
from deploy.local.processes import ChildProcess, Server, free_port

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

START_TIMEOUT_S: Final = 90
PORT_TRIES: Final = 5
#: Not the one in /usr/sbin: that becomes another user, and has its directories fixed.
PROGRAM: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
POLICY: Final = Path("/usr/sbin/policy-rc.d")


def require_rabbitmq() -> None:
    """Have the server's program on this computer, installed if we may; skip the test where that cannot be."""
    if is_installed():
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("there is no rabbitmq-server, and only root of a Debian could install it")
    # Another run on this computer may be at it.
    with (Path(tempfile.gettempdir()) / "safekeep-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            with no_services_started():
                _apt("update")
                _apt("install", "-y", "--no-install-recommends", "rabbitmq-server")


def is_installed() -> bool:
    return PROGRAM.exists() and shutil.which("epmd") is not None


@contextmanager
def no_services_started() -> Iterator[None]:
    """Tell Debian's packages to start no service; a policy that is there already is left alone."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        pytest.skip(f"rabbitmq-server cannot be installed: apt-get {arguments[0]}: {said[-1] if said else ''}")


class RabbitServer(Server):
    """One RabbitMQ node with everything of its own below `directory`; it comes back with its queues after a stop."""

    def __init__(self, directory: Path) -> None:
        super().__init__("RabbitMQ")
        self._home = directory.absolute()
        self._node = f"safekeep-{secrets.token_hex(6)}@localhost"
        self._password = secrets.token_hex(16)
        self._distribution_port = 0
        self._epmd_port = 0
        self._epmd: ChildProcess | None = None

    def url(self) -> str:
        """Where to connect, with the password."""
        return f"amqp://safekeep:{self._password}@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start the server and return when it answers; after a stop it comes back on the same port."""
        is_new = self.port == 0
        for remaining in reversed(range(PORT_TRIES)):
            if is_new:
                self.port, self._distribution_port, self._epmd_port = free_port(), free_port(), free_port()
            try:
                self._run()
            except LocalStackError as error:
                self.kill()
                if not (is_new and remaining and "eaddrinuse" in str(error)):
                    raise
            else:
                return

    def stop(self) -> None:
        """End the node in good order, and its `epmd`. Fine for one that has ended."""
        if self._process is not None:
            self._process.stop(30)
        if self._epmd is not None:
            self._epmd.kill()

    def kill(self) -> None:
        """End the node with SIGKILL, and its `epmd`."""
        if self._process is not None:
            self._process.kill()
        if self._epmd is not None:
            self._epmd.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send the node a signal."""
        if self._process is not None:
            self._process.signal(number)

    def _run(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        environment = self._environment()
        self._write_files()
        # A node that finds no epmd starts one that outlives it.
        self._epmd = ChildProcess(
            "epmd",
            ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)],
            log=self._home / "epmd.log",
            environment=environment,
        )
        self._epmd.start()
        self._epmd.wait_until(lambda: _listens(self._epmd_port), START_TIMEOUT_S)
        log = self._home / "rabbitmq.log"
        log.write_bytes(b"")
        self._process = ChildProcess("RabbitMQ", [PROGRAM], log=log, environment=environment)
        self._process.start()
        self._process.wait_until(lambda: _listens(self.port) and self._answers(), START_TIMEOUT_S)

    def _write_files(self) -> None:
        files = {
            ".erlang.cookie": secrets.token_hex(16),
            "rabbitmq.conf": f"default_user = safekeep\ndefault_pass = {self._password}\n",
            "enabled_plugins": "[].\n",
            "rabbitmq-env.conf": "",
        }
        for name, content in files.items():
            file = self._home / name
            if not file.exists():
                file.touch(mode=0o600)
                file.write_text(content, encoding="ascii")

    def _environment(self) -> dict[str, str]:
        clean = {n: v for n, v in os.environ.items() if not n.startswith(("RABBITMQ_", "ERL_", "SAFEKEEP_"))}
        return clean | {
            "HOME": str(self._home),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            # With this the start script becomes the node instead of waiting for it, so that its process id is ours.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_START_ARGS": "-noshell -noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(self._home / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._home / "generated"),
        }

    def _answers(self) -> bool:
        try:
            with kombu.Connection(self.url(), connect_timeout=2) as connection:
                connection.connect()
        except OSError:
            return False
        return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
