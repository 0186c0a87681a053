"""What tests of faults of the database share: the one right failure, and whether it is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from shared.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from shared.store.database import Database

GUARD_S = 20


async def fails(doing: Awaitable[object]) -> None:
    """Check that `doing` ends, and with the error that a client may see."""
    async with asyncio.timeout(GUARD_S):
        with pytest.raises(StoreUnavailableError) as caught:
            await doing
    assert (caught.value.status, caught.value.row.code, caught.value.retry_after_s) == (503, 10015, 5)


async def answers(database: Database) -> bool:
    try:
        return await database.fetch("select 1 as one") == [{"one": 1}]
    except StoreUnavailableError:
        return False
