"""`safekeep apply`: a directory file, the catalogs of its brokers, and the tables, brought together."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from shared.directory.apply import apply
from shared.directory.declaration import read_declaration
from shared.errors import SafekeepError
from shared.security.secrets import Sealer
from shared.store.database import Database
from shared.store.migrate import check_schema
from worker.broker.client import BrokerClient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shared.directory.declaration import BrokerDeclaration
    from shared.settings import Settings


class CatalogUnavailableError(SafekeepError):
    """A broker did not hand out its catalog."""


async def apply_file(settings: Settings, file: Path, environment: Mapping[str, str]) -> list[str]:
    """Make the directory be what `file` says, with variables from `environment`; lines that say what changed.

    Raises SafekeepError with everything that is wrong; then nothing was changed.
    """
    sealer = Sealer([key.get_secret_value() for key in settings.secret_keys])
    declaration = read_declaration(file, environment)
    async with Database(settings, size=1, name="safekeep-apply") as database:
        await check_schema(database)
    async with BrokerClient(settings, sealer) as client:

        async def fetch(broker: BrokerDeclaration) -> object:
            answer = await client.fetch_catalog(broker.url, broker.username, broker.password.get_secret_value())
            if answer.status == HTTPStatus.UNAUTHORIZED:
                raise CatalogUnavailableError("it refused the username or the password")
            if answer.status != HTTPStatus.OK:
                raise CatalogUnavailableError(f"it answered with status {answer.status}")
            return answer.body

        changes = await apply(
            declaration, database_url=settings.database_url.get_secret_value(), sealer=sealer, fetch_catalog=fetch
        )
    return changes.lines()
