"""The broker's memory: instances, bindings, backups and restores, in one SQLite file that survives a restart.

A record is written before what it announces begins; that is what makes repeated requests harmless. One operation at a
time on an instance is a rule of the schema.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOMBSTONE_LIFETIME_S: Final = 30 * 24 * 3600

_SCHEMA: Final = """
create table if not exists instances (
    id text primary key, service_id text not null, plan_id text not null, parameters text not null) strict;
create table if not exists bindings (
    instance_id text not null, id text not null, role text not null, password text not null,
    primary key (instance_id, id)) strict;
create table if not exists operations (
    kind text not null check (kind in ('backups', 'restores')),
    instance_id text not null, id text not null,
    attributes text not null, -- what must be equal in a repeated request
    state text not null default 'in progress' check (state in ('in progress', 'succeeded', 'failed')),
    description text not null default '',
    created_at real not null, completed_at real, size_bytes integer,
    primary key (kind, instance_id, id)) strict;
create unique index if not exists one_at_a_time on operations (instance_id) where state = 'in progress';
create table if not exists tombstones (
    kind text not null, instance_id text not null, id text not null, created_at real not null,
    primary key (kind, instance_id, id)) strict;
"""


@dataclass(frozen=True, slots=True)
class Key:
    """Which operation: `kind` is "backups" or "restores"."""

    kind: str
    instance_id: str
    id: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A backup or a restore, running or over. Times are Unix seconds."""

    key: Key
    attributes: dict[str, Any]  # Any: JSON from the platform
    state: str
    description: str
    created_at: float
    completed_at: float | None
    size_bytes: int | None


class BusyError(Exception):
    """Another operation runs on the instance."""


class Records:
    """The records in `directory`. Every method is one transaction; threads may share it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = sqlite3.connect(directory / "records.sqlite", check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.Lock()
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(_SCHEMA)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    # ------------------------------------------------------------------ instances and bindings

    def find_instance(self, instance_id: str) -> dict[str, str] | None:
        """The instance's `service_id`, `plan_id` and `parameters`, or None."""
        with self._transaction() as tx:
            row = tx.execute("select * from instances where id = ?", (instance_id,)).fetchone()
        return dict(row) if row else None

    def add_instance(self, instance_id: str, service_id: str, plan_id: str, parameters: str) -> None:
        """Note a new instance; one that is there stays as it is."""
        with self._transaction() as tx:
            tx.execute(
                "insert or ignore into instances values (?, ?, ?, ?)", (instance_id, service_id, plan_id, parameters)
            )

    def remove_instance(self, instance_id: str) -> None:
        """Forget an instance and its bindings; its backups stay."""
        with self._transaction() as tx:
            tx.execute("delete from bindings where instance_id = ?", (instance_id,))
            tx.execute("delete from instances where id = ?", (instance_id,))

    def add_binding(self, instance_id: str, binding_id: str, role: str, password: str) -> tuple[str, bool]:
        """The password of the binding, and whether it is new: the first one that was noted counts."""
        with self._transaction() as tx:
            key = (instance_id, binding_id)
            row = tx.execute("select password from bindings where instance_id = ? and id = ?", key).fetchone()
            if row:
                return row["password"], False
            tx.execute("insert into bindings values (?, ?, ?, ?)", (*key, role, password))
        return password, True

    def remove_binding(self, instance_id: str, binding_id: str) -> bool:
        """Forget a binding; whether there was one."""
        with self._transaction() as tx:
            return tx.execute(
                "delete from bindings where instance_id = ? and id = ?", (instance_id, binding_id)
            ).rowcount == 1  # fmt: skip

    def list_binding_roles(self, instance_id: str) -> list[str]:
        """The roles that an instance's bindings sign on with."""
        with self._transaction() as tx:
            return [
                row["role"] for row in tx.execute("select role from bindings where instance_id = ?", (instance_id,))
            ]

    # ------------------------------------------------------------------ backups and restores

    def begin(self, key: Key, attributes: dict[str, Any]) -> tuple[Operation, bool]:
        """The operation of that id, and whether it is new: of many equal requests, one gets True.

        Raises BusyError when another operation runs on the instance, LookupError when the id was deleted before.
        """
        names = (key.kind, key.instance_id, key.id)
        with self._transaction() as tx:
            self._drop_old_tombstones(tx)
            buried = tx.execute("select 1 from tombstones where (kind, instance_id, id) = (?, ?, ?)", names).fetchone()
            if buried:
                raise LookupError(key.id)
            found = self._find(tx, key)
            if found:
                return found, False
            try:
                tx.execute(
                    "insert into operations (kind, instance_id, id, attributes, created_at) values (?, ?, ?, ?, ?)",
                    (*names, json.dumps(attributes, sort_keys=True), time.time()),
                )
            except sqlite3.IntegrityError:
                raise BusyError from None
            made = self._find(tx, key)
        if made is None:
            raise RuntimeError("SQLite lost a row that it had just taken")
        return made, True

    def find(self, key: Key) -> Operation | None:
        """The operation, or None."""
        with self._transaction() as tx:
            return self._find(tx, key)

    def list_backups(self, instance_id: str, limit: int) -> list[Operation]:
        """The instance's backups, newest first."""
        with self._transaction() as tx:
            found = tx.execute(
                "select * from operations where kind = 'backups' and instance_id = ?"
                " order by created_at desc, rowid desc limit ?",
                (instance_id, limit),
            )
            return [_operation(row) for row in found]

    def list_running(self) -> list[Operation]:
        """What was under way when the broker stopped."""
        with self._transaction() as tx:
            found = tx.execute("select * from operations where state = 'in progress' order by created_at")
            return [_operation(row) for row in found]

    def end(self, key: Key, state: str, description: str, size_bytes: int | None = None) -> bool:
        """Note how an operation ended; False when it was deleted meanwhile."""
        with self._transaction() as tx:
            changed = tx.execute(
                "update operations set state = ?, description = ?, size_bytes = ?, completed_at = ?"
                " where (kind, instance_id, id) = (?, ?, ?) and state = 'in progress'",
                (state, description, size_bytes, time.time(), key.kind, key.instance_id, key.id),
            )
            return changed.rowcount == 1

    def bury(self, key: Key) -> Operation | None:
        """Remove an operation, known or not, and remember that its id may not be used again; what there was."""
        names = (key.kind, key.instance_id, key.id)
        with self._transaction() as tx:
            found = self._find(tx, key)
            tx.execute("delete from operations where (kind, instance_id, id) = (?, ?, ?)", names)
            tx.execute("insert or ignore into tombstones values (?, ?, ?, ?)", (*names, time.time()))
        return found

    @staticmethod
    def _find(tx: sqlite3.Connection, key: Key) -> Operation | None:
        names = (key.kind, key.instance_id, key.id)
        row = tx.execute("select * from operations where (kind, instance_id, id) = (?, ?, ?)", names).fetchone()
        return _operation(row) if row else None

    @staticmethod
    def _drop_old_tombstones(tx: sqlite3.Connection) -> None:
        tx.execute("delete from tombstones where created_at < ?", (time.time() - TOMBSTONE_LIFETIME_S,))


def _operation(row: sqlite3.Row) -> Operation:
    return Operation(
        key=Key(row["kind"], row["instance_id"], row["id"]),
        attributes=json.loads(row["attributes"]),
        state=row["state"],
        description=row["description"],
        created_at=row["created_at"],
        completed_at=row["completed_at"],
        size_bytes=row["size_bytes"],
    )
