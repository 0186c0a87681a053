"""Bringing the database's schema to the version that this code expects: numbered SQL files, each applied once.

Files are never edited once released; a checksum says so. Any number of processes may do this at once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from shared.errors import SchemaError, StoreUnavailableError
from shared.store.sql import load

if TYPE_CHECKING:
    from shared.store.database import Database

_SQL = load("migrations")
_FILE_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")

SERVER_VERSION_MIN: Final = 140000
#: For a server that accepts and never answers, unless the URL says otherwise.
CONNECT_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Tells whether the file was edited after it had been applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """The migrations that ship with this code, by version."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in files("shared.store.migrations").iterdir()
        if (match := _FILE_NAME.match(file.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


def migrate(database_url: str) -> list[Migration]:
    """Apply what is missing, all of it or nothing, and return what was applied.

    Raises SchemaError when the server is too old, or the database has a schema that this code does not know;
    StoreUnavailableError when the server cannot be reached.
    """
    try:
        patience_s = conninfo_to_dict(database_url).get("connect_timeout", CONNECT_TIMEOUT_S)
        address = make_conninfo(database_url, connect_timeout=patience_s)
        with psycopg.connect(address, row_factory=tuple_row) as connection:
            if connection.info.server_version < SERVER_VERSION_MIN:
                raise SchemaError(
                    f"PostgreSQL {connection.info.server_version // 10000} is too old: 14 or newer is needed"
                )
            connection.execute(_SQL["lock"])
            connection.execute(_SQL["create_table"])
            applied = {row[0]: row[1:] for row in connection.execute(_SQL["list_applied"])}
            missing = _missing(applied)
            for migration in missing:
                connection.execute(migration.sql)
                connection.execute(
                    _SQL["insert_applied"],
                    {"version": migration.version, "name": migration.name, "checksum": migration.checksum},
                )
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(f"the database cannot be reached: {error}") from error
    return missing


async def check_schema(database: Database) -> None:
    """Raise SchemaError unless the database has all that this code needs (a newer schema is fine: expand, contract)."""
    expected = known_migrations()[-1].version
    rows = await database.fetch(_SQL["is_migrated"])
    version = (await database.fetch(_SQL["latest_applied"]))[0]["version"] if rows[0]["is_migrated"] else 0
    if version < expected:
        raise SchemaError(f"the schema is at version {version}, this code needs {expected}: run `safekeep migrate`")


def _missing(applied: dict[int, Any]) -> list[Migration]:
    known = {migration.version: migration for migration in known_migrations()}
    for version, (name, checksum) in applied.items():
        if version not in known:
            raise SchemaError(
                f"the database has migration {version:04d}_{name}, which this version of Safekeep does not know: "
                "it was made by a newer one"
            )
        if known[version].checksum != checksum:
            raise SchemaError(f"migration {version:04d}_{name} was edited after it had been applied to this database")
    return [migration for version, migration in sorted(known.items()) if version not in applied]
