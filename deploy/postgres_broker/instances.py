"""Service instances as databases: an owner role that nobody signs on with, and a login role for each binding.

Names in PostgreSQL are made from a digest of the platform's ids, so that no id can mean anything there.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from typing import LiteralString


def database_of(instance_id: str) -> str:
    """The name of an instance's database, which is also its owner's."""
    return "i_" + hashlib.sha256(instance_id.encode()).hexdigest()[:24]


def role_of(instance_id: str, binding_id: str) -> str:
    """The name of a binding's login role."""
    return "b_" + hashlib.sha256(f"{instance_id}/{binding_id}".encode()).hexdigest()[:24]


class Server:
    """The PostgreSQL server that the instances live on."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str) -> str:
        """Where a database of the server is, for the broker itself."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def create(self, instance_id: str) -> None:
        """Make the instance's role and database; what is there already stays."""
        name = database_of(instance_id)
        with self._connect() as connection:
            if not self._exists(connection, "pg_roles", "rolname", name):
                self._run(connection, "create role {} nologin", name)
                # So that the broker may own things in the role's name even where it is no superuser.
                self._run(connection, "grant {} to current_user", name)
            if not self._exists(connection, "pg_database", "datname", name):
                self._run(connection, "create database {0} owner {0}", name)
            self._run(connection, "revoke all on database {} from public", name)

    def drop(self, instance_id: str, binding_roles: list[str]) -> None:
        """Remove the instance's database and roles; fine when they are gone."""
        name = database_of(instance_id)
        with self._connect() as connection:
            self._drop_leftovers(connection, name)
            self._run(connection, "drop database if exists {} with (force)", name)
            for role in (*binding_roles, name):
                self._run(connection, "drop role if exists {}", role)

    def bind(self, instance_id: str, role: str, password: str) -> str:
        """Make a login role for a binding, whose objects belong to the instance; the URI to hand out."""
        name = database_of(instance_id)
        with self._connect() as connection:
            if not self._exists(connection, "pg_roles", "rolname", role):
                statement = sql.SQL("create role {} login password {} in role {}")
                connection.execute(statement.format(sql.Identifier(role), sql.Literal(password), sql.Identifier(name)))
            self._run(connection, "alter role {} set role to {}", role, name)
            # So that a restore or a removal may end the binding's sessions, even where the broker is no superuser.
            self._run(connection, "grant {} to current_user", role)
        parts = urlsplit(self._url)
        address = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{quote(role)}:{quote(password)}@{address}", path=f"/{name}"))

    def unbind(self, role: str) -> None:
        """Remove a binding's role; fine when it is gone."""
        with self._connect() as connection:
            self._run(connection, "drop role if exists {}", role)

    def prepare_restore(self, instance_id: str) -> str:
        """Make an empty database beside the instance's, to restore into; its name."""
        name = database_of(instance_id)
        with self._connect() as connection:
            self._drop_leftovers(connection, name)
            self._run(connection, "alter database {} allow_connections true", name)
            self._run(connection, "create database {} owner {}", f"{name}_new", name)
            self._run(connection, "revoke all on database {} from public", f"{name}_new")
        return f"{name}_new"

    def discard_restore(self, instance_id: str) -> None:
        """Remove what a restore that failed has left; the instance keeps the data that it has."""
        with self._connect() as connection:
            self._drop_leftovers(connection, database_of(instance_id))

    def swap_in(self, instance_id: str) -> None:
        """Put the restored database in the place of the instance's.

        Both renames are one transaction: whenever the broker dies, the instance has its old data or its new.
        """
        name = database_of(instance_id)
        with self._connect() as connection:
            self._run(connection, "alter database {} allow_connections false", name)
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
            try:
                with connection.transaction():
                    self._run(connection, "alter database {} rename to {}", name, f"{name}_old")
                    self._run(connection, "alter database {} rename to {}", f"{name}_new", name)
            except psycopg.Error:
                self._run(connection, "alter database {} allow_connections true", name)
                raise
            self._run(connection, "drop database {} with (force)", f"{name}_old")

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._url, autocommit=True)

    def _drop_leftovers(self, connection: psycopg.Connection, name: str) -> None:
        for leftover in (f"{name}_new", f"{name}_old"):
            self._run(connection, "drop database if exists {} with (force)", leftover)

    @staticmethod
    def _run(connection: psycopg.Connection, statement: LiteralString, *names: str) -> None:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @staticmethod
    def _exists(connection: psycopg.Connection, catalog: str, column: str, name: str) -> bool:
        statement = sql.SQL("select 1 from {} where {} = %s").format(sql.Identifier(catalog), sql.Identifier(column))
        return connection.execute(statement, (name,)).fetchone() is not None
