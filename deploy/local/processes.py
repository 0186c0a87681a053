"""Child processes that never outlive the stack: how they are started, watched and stopped.

A child gets a session of its own, so that Ctrl-C reaches only the supervisor, which stops its children in order. Where
the system can (Linux), the kernel sends a child a signal when the supervisor is gone, even by SIGKILL. That signal is
bound to the *thread* that started the child, so children are started from the main thread.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Self

from deploy.local.errors import LocalStackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

POLL_PAUSE_S: Final = 0.01
LOG_TAIL_LINES: Final = 15


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def dies_with_parent(death_signal: signal.Signals) -> list[str]:
    """What to put before a command so that the kernel signals it when its parent ends; nothing where it cannot."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", death_signal.name.removeprefix("SIG"), "--"] if setpriv else []


class ChildProcess:
    """A program that runs below us, with what it prints in `log`.

    `prefix` goes before everything, for wrappers that change who the program is: the kernel forgets the death signal
    when the user changes, so it is set after them.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        death_signal: signal.Signals = signal.SIGKILL,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._arguments = [*prefix, *dies_with_parent(death_signal), *map(str, arguments)]
        self._environment = environment
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running child."""
        if self._process is None:
            raise LocalStackError(f"{self.name} was not started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the child ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the child; returns at once. Raises LocalStackError when the program cannot be run at all."""
        with self.log.open("ab") as output:
            try:
                self._process = subprocess.Popen(
                    self._arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise LocalStackError(f"{self.name} cannot be started: {error}") from error

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Return when `is_ready()`. Raises LocalStackError when the child ends before, or after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if self.exit_code is not None:
                raise LocalStackError(f"{self.name} ended with code {self.exit_code}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise LocalStackError(f"{self.name} was not ready after {timeout_s:.0f} s:\n{self.log_tail()}")
            time.sleep(POLL_PAUSE_S)

    def signal(self, number: signal.Signals) -> None:
        """Send the child a signal, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def ask_to_stop(self) -> None:
        """Send the signal that means "end in good order"; returns at once."""
        self.signal(self._stop_signal)

    def stop(self, timeout_s: float = 10) -> None:
        """End the child: ask, wait for at most `timeout_s` seconds, then kill. Fine for one that has ended."""
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the child with SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, timeout_s: float) -> None:
        """Return when the child has ended. Raises LocalStackError when it has not after `timeout_s` seconds."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise LocalStackError(f"{self.name} has not ended after {timeout_s:.0f} s:\n{self.log_tail()}") from None

    def log_tail(self) -> str:
        """The last lines that the child printed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_TAIL_LINES:])


class Composed(ABC):
    """Several processes that are up together: use it with `with`. What did not come up whole is stopped."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _start(self) -> None:
        """Start all of it and return when it can be used."""

    @abstractmethod
    def stop(self) -> None:
        """Stop what was started. Fine for what was not, or has ended."""


class Server(ABC):
    """A server that is one child process on a free port of the loopback interface; start it with `with` or `start`."""

    def __init__(self, name: str) -> None:
        self.port = 0
        self._name = name
        self._process: ChildProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise LocalStackError(f"{self._name} was not started")
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal, if it runs."""
        if self._process is not None:
            self._process.signal(number)

    @abstractmethod
    def start(self) -> None:
        """Start the server and return when it answers. Raises LocalStackError, with what it printed last."""

    @abstractmethod
    def stop(self) -> None:
        """End the server in good order. Fine for one that has ended."""
