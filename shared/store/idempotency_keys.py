"""Keys that make a POST repeatable, in PostgreSQL. A request that stores a job keeps its key with it, in `jobs.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.records import KnownRequest
from shared.store.sql import load

if TYPE_CHECKING:
    from uuid import UUID

    from shared.records import IdempotencyKey
    from shared.store.database import Database

_SQL = load("idempotency_keys")

#: How long the same key gets the same answer.
LIFETIME_S: Final = 86_400


class IdempotencyKeys:
    """The repository of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, user_guid: str, key: str) -> KnownRequest | None:
        """The request that the user made with this key within a day, if it was accepted."""
        rows = await self._database.fetch(
            _SQL["find"], {"user_guid": user_guid, "key": key, "key_lifetime_s": LIFETIME_S}
        )
        return KnownRequest(**rows[0]) if rows else None

    async def keep(self, user_guid: str, key: IdempotencyKey, job_guid: UUID) -> None:
        """Remember a request with a key that stored no job of its own."""
        await self._database.fetch(
            _SQL["keep"],
            {"user_guid": user_guid, "job_guid": job_guid, "key_lifetime_s": LIFETIME_S, **key._asdict()},
        )

    async def prune(self) -> None:
        """Forget keys that are too old to make anything repeatable."""
        await self._database.fetch(_SQL["prune"], {"key_lifetime_s": LIFETIME_S})
