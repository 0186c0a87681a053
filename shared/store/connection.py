"""One connection to PostgreSQL that can always be let go of: by asking the socket, and by cutting it, never the server.

A server that hangs answers no cancel request either, so nothing here waits for one.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

#: Two peers that hear nothing from each other know within this time, whatever a firewall in between has forgotten.
SILENCE_S: Final = 30
KEEPALIVE_PROBES: Final = 3


class Connection(psycopg.AsyncConnection[DictRow]):
    """A connection of the pool."""

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come in since the last answer.

        Ask it of an idle connection: a server says something unasked only when it ends or changes what it is, and
        then another connection is better. Costs no round trip.
        """
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def sever(self) -> None:
        """Cut the connection; a statement that runs on it fails now, in the loop that waits for it."""
        # Closing the descriptor under a waiting loop would leave it waiting: it is shut down, and so becomes readable.
        with suppress(OSError, psycopg.OperationalError), socket.socket(fileno=os.dup(self.pgconn.socket)) as end:
            end.shutdown(socket.SHUT_RDWR)

    async def cancel_safe(self, *, timeout: float = 0) -> None:  # noqa: ARG002, ASYNC109 - the driver's signature
        """Cut the connection. The driver calls this when a task is cancelled, and would wait for the server twice.

        What the server still does for us is bounded by its own time-outs.
        """
        self.sever()


class ConnectionPool(AsyncConnectionPool[Connection]):
    """A pool that finds out without asking the server which of its connections are dead."""

    @staticmethod
    async def check_connection(connection: Connection) -> None:
        """Raise OperationalError for a connection that is no good any more, after closing it."""
        if not connection.is_quiet:
            await connection.close()
            raise psycopg.OperationalError("the server has ended the connection")


def connection_parameters(url: str, *, name: str, timeout_s: float) -> dict[str, Any]:
    """What to connect with: `url`, bounded in every way. What the URL itself says of keepalives and options wins.

    The server gives up on a statement after `timeout_s` seconds and on a lock after half of that, so that waiting for
    a lock is told from being slow.
    """
    theirs = conninfo_to_dict(url)
    bounds: dict[str, Any] = {
        "statement_timeout": f"{timeout_s:.3f}s",
        "lock_timeout": f"{timeout_s / 2:.3f}s",
        # A client that vanishes within a transaction must not hold its locks.
        "idle_in_transaction_session_timeout": f"{timeout_s:.3f}s",
        "tcp_keepalives_idle": SILENCE_S // 2,
        "tcp_keepalives_interval": SILENCE_S // 2 // KEEPALIVE_PROBES,
        "tcp_keepalives_count": KEEPALIVE_PROBES,
    }
    options = " ".join(f"-c {bound}={value}" for bound, value in bounds.items())
    defaults = {
        # The driver takes whole seconds, two at least. Half, so that there is time for a second try.
        "connect_timeout": max(2, round(timeout_s / 2)),
        "keepalives_idle": SILENCE_S // 2,
        "keepalives_interval": SILENCE_S // 2 // KEEPALIVE_PROBES,
        "keepalives_count": KEEPALIVE_PROBES,
        "tcp_user_timeout": SILENCE_S * 1000,
    }
    given = {"application_name": name, "options": f"{options} {theirs.get('options', '')}".strip()}
    return defaults | theirs | given
