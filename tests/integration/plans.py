"""How PostgreSQL executes what the store asks: a database that explains each statement before it executes it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from psycopg import sql

from shared.store.sql import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import LiteralString

    import psycopg

    Plan = dict[str, Any]  # a node as PostgreSQL describes it

#: The files that have statements on what grows.
FILES: Final = ("jobs", "job_lists", "backups", "audit_events", "idempotency_keys", "directory")
#: What grows with every job; everything else is as large as the directory.
GROWING: Final = frozenset({"jobs", "job_steps", "backups", "restores", "audit_events", "idempotency_keys"})

_BEGINNING: Final = re.compile(r"^(select|insert|update|delete|with)\b", re.MULTILINE)
_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


class Explained(NamedTuple):
    """What became of a statement."""

    name: str  #: `file.statement`
    plan: Plan
    text: str

    @property
    def scanned(self) -> set[str]:
        """The growing tables that were read from end to end."""
        return {node["Relation Name"] for node in _nodes(self.plan) if node["Node Type"] == "Seq Scan"} & GROWING

    @property
    def rows(self) -> int:
        """How many rows of growing tables were looked at, those included that did not fit. None is sorted unseen."""
        counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        looked_at: float = sum(
            sum(node.get(count, 0) for count in counted) * node["Actual Loops"]
            for node in _nodes(self.plan)
            if node["Node Type"].endswith("Scan") and node.get("Relation Name") in GROWING
        )
        return round(looked_at)

    @property
    def shown(self) -> str:
        """The plan, a node a line."""
        return "\n".join(_lines(self.plan))

    @property
    def indexes(self) -> set[str]:
        """The indexes that were used."""
        return {node["Index Name"] for node in _nodes(self.plan) if node.get("Index Name") and node["Actual Loops"]}


@dataclass
class Explainer:
    """Stands where the store has its database, and does what that does, on one connection."""

    connection: psycopg.Connection[Any]
    found: list[Explained] = field(default_factory=list)

    async def fetch(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """The rows of `statement`, after it was explained."""
        self.found.append(self._explain(statement, parameters or {}))
        cursor = self.connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    async def fetch_locked(
        self, lock: LiteralString, statement: LiteralString, parameters: Mapping[str, Any]
    ) -> list[Any]:
        """The rows of `statement`, after `lock`."""
        await self.fetch(lock, parameters)
        return await self.fetch(statement, parameters)

    def _explain(self, statement: LiteralString, parameters: Mapping[str, Any]) -> Explained:
        names = list(dict.fromkeys(_PARAMETER.findall(statement)))
        numbered = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", statement).replace("%%", "%")
        with self.connection.transaction(force_rollback=True):
            # The driver prepares it with the types that it sends, and forgets it when it rolls back.
            self.connection.execute(statement, parameters, prepare=True)
            types = self._one(
                "select parameter_types::text[] as types from pg_prepared_statements where statement = %s"
                " order by prepare_time desc limit 1",
                numbered,
            )["types"]
        signature, values = "", sql.Composed([])
        if names:
            signature = f"({', '.join(types)})"
            values = sql.SQL("({})").format(sql.SQL(", ").join(sql.Literal(parameters[name]) for name in names))
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(f"prepare explained {signature} as {numbered}".encode())
            row = self._one(
                sql.SQL("explain (analyze, costs off, timing off, format json) execute explained {}").format(values)
            )
            self.connection.execute("deallocate explained")
        return Explained(name_of(statement), row["QUERY PLAN"][0]["Plan"], statement)

    def _one(self, statement: LiteralString | sql.Composed, *parameters: object) -> dict[str, Any]:
        row = self.connection.execute(statement, parameters or None).fetchone()
        assert row is not None
        return cast("dict[str, Any]", row)


def statements() -> dict[str, str]:
    """The statements of the files by `file.name`; parts of statements are none."""
    found = {f"{file}.{name}": text for file in FILES for name, text in load(file).items()}
    return {name: text for name, text in found.items() if _BEGINNING.search(text)}


def name_of(statement: str) -> str:
    """Which of the statements that is, also when conditions were put into it."""
    return next(name for name, text in statements().items() if statement.startswith(text.partition("{")[0]))


def _lines(plan: Plan, depth: int = 0) -> Iterator[str]:
    names = ("Node Type", "Relation Name", "Index Name", "Index Cond", "Filter")
    numbers = ("Actual Rows", "Actual Loops", "Rows Removed by Filter")
    told = [str(plan[name]) for name in names if name in plan] + [
        str(plan[number]) for number in numbers if number in plan
    ]
    yield "  " * depth + " | ".join(told)
    for part in plan.get("Plans", []):
        yield from _lines(part, depth + 1)


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for part in cast("list[Plan]", plan.get("Plans", [])):
        yield from _nodes(part)
