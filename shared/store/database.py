"""The way to PostgreSQL: a pool of connections, a statement at a time, the driver's errors wrapped where they enter.

Whatever the server or the network does, a statement ends: with its rows, or within its time with an error of ours.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import psycopg
from psycopg.rows import DictRow, dict_row

from shared.errors import StoreError, StoreUnavailableError
from shared.observability.logging import get_logger
from shared.store.connection import Connection, ConnectionPool, connection_parameters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType
    from typing import LiteralString

    from shared.settings import Settings

_log = get_logger(__name__)

CONNECTION_LIFETIME_S: Final = 1800
#: How much longer than the server's own time-out we wait: a server that keeps it answers within this.
HANG_GRACE_S: Final = 1.0
#: The pool's pause before it tries to connect again would double without end, and outlast an outage by far.
RECONNECT_S: Final = 1.0

#: What SQLSTATEs begin with when the statement is not to blame and trying again later is right: connections (08),
#: transactions that lost to another (40…), resources (53), a lock held too long (55P03), the operators (57), the
#: system (58), transactions that were ended for being idle or long (25P0…).
UNAVAILABLE: Final = ("08", "40001", "40003", "40P01", "53", "55P03", "57", "58", "25P03", "25P04")
#: A server that used to take writes and does not now: there has been a failover, and our connections are stale.
READ_ONLY: Final = "25006"


class Database:
    """A pool of at most `size` autocommit connections to the configured database: every statement is a transaction.

    Open it with `async with`, inside the event loop that will use it; opening does not wait for the server.
    """

    def __init__(self, settings: Settings, *, size: int, name: str) -> None:
        self._hang_s = settings.database_timeout_s + HANG_GRACE_S
        self._drained_at = -RECONNECT_S
        parameters = connection_parameters(
            settings.database_url.get_secret_value(), name=name, timeout_s=settings.database_timeout_s
        )
        self._pool = ConnectionPool(
            connection_class=Connection,
            min_size=1,
            max_size=size,
            open=False,
            name=name,
            timeout=settings.database_timeout_s,
            max_lifetime=CONNECTION_LIFETIME_S,
            check=self._check,
            configure=_hear_warnings,
            reconnect_timeout=RECONNECT_S,
            reconnect_failed=ConnectionPool.check,
            kwargs=parameters | {"autocommit": True, "row_factory": dict_row},
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    async def fetch(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[DictRow]:
        """The rows of `statement`, run as one transaction in one round trip.

        Raises StoreUnavailableError when the server is away, stopping or too slow, and then the statement may have
        been executed or not; StoreError for anything else.
        """
        async with self._connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def fetch_locked(
        self, lock: LiteralString, statement: LiteralString, parameters: Mapping[str, Any]
    ) -> list[DictRow]:
        """The rows of `statement`, run after `lock` in one transaction and one round trip, both with `parameters`.

        `lock` takes row locks and writes nothing. `statement` sees what was committed before `lock` got them, which
        one statement alone would not: its snapshot would be older than the locks that it waited for. Raises as
        `fetch` does.
        """
        async with self._connection() as connection:
            # What stands between two syncs of a pipeline is one transaction, with a new snapshot for each statement.
            # An explicit BEGIN and COMMIT would cost more round trips, and locks held over them.
            async with connection.pipeline():
                await connection.execute(lock, parameters)
                cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection for one statement, which is over after the server's time-out and our grace in any case."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        is_hung = False
        try:
            connection = await self._pool.getconn()
            began_at = loop.time()
            watchdog = loop.call_later(self._hang_s, connection.sever)
            try:
                yield connection
            finally:
                # Giving it back may roll back, and that is watched over too.
                await self._pool.putconn(connection)
                watchdog.cancel()
                is_hung = loop.time() >= watchdog.when()
        except psycopg.Error as error:
            if not _is_unavailable(error):
                raise StoreError(str(error)) from error
            _log.warning("database unavailable", error=str(error).partition("\n")[0] or repr(error), is_hung=is_hung)
            if is_hung or error.sqlstate == READ_ONLY:
                await self._drain(began_at)
            raise StoreUnavailableError from error

    async def _check(self, connection: Connection) -> None:
        """Refuse a connection that died while idle, and with it all others that did, before they cost a request."""
        try:
            await self._pool.check_connection(connection)
        except psycopg.OperationalError:
            await self._pool.check()
            raise

    async def _drain(self, began_at: float) -> None:
        """Replace all connections: what hung or went stale on one of them has on the others."""
        if began_at < self._drained_at + RECONNECT_S:
            return  # somebody else found out at the same time, or replacing them does not help
        self._drained_at = asyncio.get_running_loop().time()
        _log.warning("all connections to the database are replaced")
        await self._pool.drain()


async def _hear_warnings(connection: Connection) -> None:
    """Log what the schema's functions warn of: what failed without failing the statement."""
    connection.add_notice_handler(_log_warning)


def _log_warning(notice: psycopg.errors.Diagnostic) -> None:
    if notice.severity_nonlocalized == "WARNING":
        _log.warning("the database warns", text=notice.message_primary)


def _is_unavailable(error: psycopg.Error) -> bool:
    if error.sqlstate is None:  # the driver's own: the connection broke, or there was none
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate == READ_ONLY or error.sqlstate.startswith(UNAVAILABLE)
