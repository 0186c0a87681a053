"""The way to PostgreSQL: a pool of connections, a statement at a time, the driver's errors wrapped where they enter."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from shared.errors import StoreError, StoreUnavailableError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType
    from typing import LiteralString

    from shared.settings import Settings

_log = get_logger(__name__)

#: A row lock of ours is held for one statement; waiting longer than this means that something else holds it.
LOCK_TIMEOUT_S = 5
CONNECTION_LIFETIME_S = 1800


class Database:
    """A pool of at most `size` autocommit connections to the configured database: every statement is a transaction.

    Open it with `async with`, inside the event loop that will use it; opening does not wait for the server.
    """

    def __init__(self, settings: Settings, *, size: int, name: str) -> None:
        self._timeout_s = settings.database_timeout_s
        options = f"-c statement_timeout={settings.database_timeout_s:.3f}s -c lock_timeout={LOCK_TIMEOUT_S}s"
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[DictRow]] = AsyncConnectionPool(
            settings.database_url.get_secret_value(),
            min_size=1,
            max_size=size,
            open=False,
            name=name,
            timeout=settings.database_timeout_s,
            max_lifetime=CONNECTION_LIFETIME_S,
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "application_name": name,
                "options": options,
                "connect_timeout": max(2, round(settings.database_timeout_s)),
            },
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

        Raises StoreUnavailableError when the server is away, stopping or too slow, StoreError for anything else.
        """
        async with self._connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def fetch_locked(
        self, lock: LiteralString, statement: LiteralString, parameters: Mapping[str, Any]
    ) -> list[DictRow]:
        """The rows of `statement`, run after `lock` in one transaction and one round trip, both with `parameters`.

        `statement` sees what was committed before `lock` got its row locks, which one statement alone would not: its
        snapshot would be older than the locks that it waited for. Raises as `fetch` does; then neither has happened.
        """
        async with self._connection() as connection:
            # What stands between two syncs of a pipeline is one transaction, with a new snapshot for each statement.
            # An explicit BEGIN and COMMIT would cost more round trips, and locks held over them.
            async with connection.pipeline():
                await connection.execute(lock, parameters)
                cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed) as error:
            _log.warning("database unavailable", error=str(error).splitlines()[0] if str(error) else repr(error))
            raise StoreUnavailableError from error
        except psycopg.Error as error:
            raise StoreError(str(error)) from error
