"""Doing the work: `pg_dump` into a file, `pg_restore` out of one, a few at a time, in threads of their own.

A dump is written beside its place and renamed when it is whole, so a file with the right name is always a good one,
and starting an interrupted operation again from the beginning is always right.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import psycopg

from deploy.postgres_broker.instances import database_of
from deploy.postgres_broker.records import Key

if TYPE_CHECKING:
    from deploy.postgres_broker.instances import Server
    from deploy.postgres_broker.records import Operation, Records

_log = logging.getLogger(__name__)

DESCRIPTION_LENGTH_MAX: Final = 500
SCRIPT_HEAD_BYTES: Final = 4096
NEWER_SETTING: Final = b"SET transaction_timeout = 0;"


class FailedError(Exception):
    """The operation cannot succeed; the text is for the user."""


class Dumps:
    """Runs the operations that `records` announce, at most `concurrency` at once."""

    def __init__(
        self, server: Server, records: Records, directory: Path, *, pg_bin: Path | None, concurrency: int
    ) -> None:
        self._server = server
        self._records = records
        self._directory = directory / "dumps"
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._ledger = directory / "ledger.jsonl"
        self._pg_bin = pg_bin
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="dumps")
        self._running: dict[Key, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._is_stopping = False

    def resume(self) -> None:
        """Start again what was under way when the broker last stopped."""
        for operation in self._records.list_running():
            self.start(operation)

    def start(self, operation: Operation) -> None:
        """Have an operation done; returns at once."""
        self._threads.submit(self._do, operation)

    def forget(self, key: Key) -> None:
        """Stop a deleted operation, and remove its file."""
        with self._lock:
            process = self._running.get(key)
            if process:
                process.terminate()
        for path in (self.path(key), self._partial(key)):
            path.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the running programs; what they did is done again at the next start."""
        with self._lock:
            self._is_stopping = True
            for process in self._running.values():
                process.terminate()
        self._threads.shutdown(cancel_futures=True)

    def path(self, key: Key) -> Path:
        """Where the dump of a backup is. Ids of platforms are not fit for file names, their digests are."""
        return self._directory / (hashlib.sha256(f"{key.instance_id}/{key.id}".encode()).hexdigest() + ".dump")

    def progress(self, key: Key) -> str:
        """A few words on how far a running operation is."""
        partial = self._partial(key)
        try:
            return f"{partial.stat().st_size} bytes written"
        except FileNotFoundError:
            return "waiting" if key not in self._running else "running"

    def _partial(self, key: Key) -> Path:
        return self.path(key).with_suffix(".partial")

    def _do(self, operation: Operation) -> None:
        key = operation.key
        _log.info("%s %s of instance %s begins", key.kind, key.id, key.instance_id)
        try:
            with self._ledger.open("a", encoding="utf-8") as ledger:
                ledger.write(json.dumps({"kind": key.kind, "id": key.id, "at": time.time()}) + "\n")
            size = None
            if key.kind == "backups":
                size = self._back_up(key)
            else:
                self._restore(operation)
        except (FailedError, psycopg.Error, OSError) as error:
            if not self._is_stopping:
                _log.warning("%s %s failed: %s", key.kind, key.id, error)
                self._records.end(key, "failed", _for_user(error))
            return
        except Exception:  # noqa: BLE001 - the end of a thread: whatever happened, the poller must hear of it
            _log.exception("%s %s failed", key.kind, key.id)
            self._records.end(key, "failed", "the service broker made a mistake; its log says which")
            return
        if not self._records.end(key, "succeeded", "", size):
            self.forget(key)  # deleted while it ran
        _log.info("%s %s of instance %s is over", key.kind, key.id, key.instance_id)

    def _back_up(self, key: Key) -> int:
        partial = self._partial(key)
        address = self._address(database_of(key.instance_id))
        self._run(key, "pg_dump", f"--dbname={address}", "--format=custom", f"--file={partial}")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(self.path(key))
        return self.path(key).stat().st_size

    def _restore(self, operation: Operation) -> None:
        key, wanted = operation.key, operation.attributes
        source = Key("backups", wanted.get("source_instance_id") or key.instance_id, wanted["backup_id"])
        dump = self.path(source)
        if not dump.exists():
            raise FailedError(f"the backup {source.id} no longer exists")
        database = self._server.prepare_restore(key.instance_id)
        owner = f"--role={database_of(key.instance_id)}"
        script = dump.with_suffix(".sql")
        try:
            # By way of a script, and not directly, so that tools newer than the server can be used.
            self._run(key, "pg_restore", "--no-owner", "--no-privileges", owner, f"--file={script}", str(dump))
            _blank_newer_settings(script)
            with script.open("rb") as lines:
                target = f"--dbname={self._address(database)}"
                options = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
                self._run(key, "psql", target, *options, standard_input=lines)
        except FailedError:
            self._server.discard_restore(key.instance_id)
            raise
        finally:
            script.unlink(missing_ok=True)
        self._server.swap_in(key.instance_id)

    def _address(self, database: str) -> str:
        """Where a database is, without the password: everybody on the computer can read a program's arguments."""
        parts = urlsplit(self._server.url(database))
        return parts._replace(netloc=f"{parts.username or ''}@{parts.hostname}:{parts.port or 5432}").geturl()

    def _run(
        self, key: Key, program: str, *arguments: str, standard_input: IO[bytes] | int = subprocess.DEVNULL
    ) -> None:
        """Run a program of PostgreSQL to its end. Raises FailedError with what it said."""
        path = self._pg_bin / program if self._pg_bin else Path(shutil.which(program) or program)
        password = urlsplit(self._server.url("postgres")).password
        environment = os.environ | {"PGPASSWORD": unquote(password or "")}
        # Started under the lock, so that a stop or a deletion finds every program that runs.
        with self._lock:
            if self._is_stopping or self._records.find(key) is None:
                raise FailedError("stopped")
            process = subprocess.Popen(
                [*_ends_with_us(), path, *arguments],
                env=environment,
                stdin=standard_input,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            self._running[key] = process
        try:
            said = process.communicate()[1]
        finally:
            with self._lock:
                del self._running[key]
        if process.returncode != 0:
            raise FailedError(said.strip().splitlines()[0] if said.strip() else f"{program} ended without a word")


def _ends_with_us() -> list[str]:
    """What makes the kernel end a child when the broker is gone, even by SIGKILL; nothing where it cannot."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal.SIGTERM.name.removeprefix("SIG"), "--"] if setpriv else []


def _blank_newer_settings(script: Path) -> None:
    """Blank, in place, a line near the head of the script that PostgreSQL before 17 does not understand."""
    with script.open("r+b") as file:
        at = file.read(SCRIPT_HEAD_BYTES).find(NEWER_SETTING)
        if at >= 0:
            file.seek(at)
            file.write(b" " * len(NEWER_SETTING))


def _for_user(error: BaseException) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text[:DESCRIPTION_LENGTH_MAX]
