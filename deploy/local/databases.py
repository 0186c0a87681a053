"""Databases of our own on a server of the user's: made for a demo or a test, and dropped with it."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from deploy.local.errors import LocalStackError

if TYPE_CHECKING:
    from collections.abc import Iterator


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def scratch_database(server_url: str, *, template: str | None = None, prefix: str = "safekeep_demo") -> Iterator[str]:
    """The URL of a new database on the server, a copy of `template` if that is given; dropped at the end.

    Raises LocalStackError when the server cannot be reached or the role may not make databases.
    """
    name = f"{prefix}_{secrets.token_hex(4)}"
    try:
        with psycopg.connect(server_url, autocommit=True) as connection:
            statement = sql.SQL("create database {}").format(sql.Identifier(name))
            if template is not None:
                statement += sql.SQL(" template {}").format(sql.Identifier(template))
            connection.execute(statement)
    except psycopg.Error as error:
        raise LocalStackError(
            f"no scratch database could be made on the PostgreSQL of SAFEKEEP_DATABASE_URL: {error} "
            "(demo and tests never touch the database that the URL names; their role needs CREATEDB and CREATEROLE)"
        ) from error
    try:
        yield with_database(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
