"""Applying a directory to real tables: all of it or nothing, twice as once, and no password at rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from shared.directory.apply import apply
from shared.directory.declaration import parse_declaration
from shared.directory.errors import DirectoryError
from shared.errors import SafekeepError, StoreError, StoreUnavailableError
from shared.security.secrets import Sealer, generate_key

if TYPE_CHECKING:
    from typing import LiteralString

    from shared.directory.changes import AppliedChanges
    from shared.directory.declaration import BrokerDeclaration, Declaration

PASSWORD = "s3cret-Pässword"

FILE = """\
brokers:
- {name: pg, url: http://h:9001, username: u, password: "${PASSWORD}"}
users:
- {guid: u1, name: ann}
- {guid: u2, name: bob}
organizations:
- guid: o1
  name: acme
  roles: {organization_manager: [ann]}
  spaces:
  - guid: s1
    name: shop
    roles: {space_developer: [ann, bob]}
    service_instances:
    - {guid: i1, name: db, broker: pg, offering: postgres, plan: small}
    - {guid: i2, name: mail, type: user-provided}
"""

TABLES = (
    "brokers", "service_offerings", "service_plans", "users", "organizations", "spaces", "roles", "service_instances",
    "service_instance_shares",
)  # fmt: skip


def a_catalog() -> dict[str, Any]:
    plans = [
        {"id": "p-small", "name": "small", "maximum_polling_duration": 600},
        {"id": "p-bare", "name": "bare", "metadata": {"osmapi": None}},
    ]
    osmapi = {"version": "1.0", "features": ["backup", "restore"]}
    return {"services": [{"id": "o-pg", "name": "postgres", "metadata": {"osmapi": osmapi}, "plans": plans}]}


def declare(text: str = FILE, password: str = PASSWORD) -> Declaration:
    return parse_declaration("directory.yaml", text.encode(), {"PASSWORD": password})


class Bench:
    """A database, and brokers that answer what the test wants."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.sealer = Sealer([generate_key()])
        self.catalogs: dict[str, Any] = {"pg": a_catalog()}

    async def fetch_catalog(self, broker: BrokerDeclaration) -> object:
        answer = self.catalogs[broker.name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def apply(self, text: str = FILE, **more: Any) -> AppliedChanges:
        return await apply(
            declare(text, **more),
            database_url=self.database_url,
            sealer=self.sealer,
            fetch_catalog=self.fetch_catalog,
        )

    async def refuse(self, text: str) -> list[str]:
        """Apply what is wrong; the problems, after making sure that nothing was changed."""
        before = self.everything()
        with pytest.raises(DirectoryError) as refusal:
            await self.apply(text)
        assert self.everything() == before
        return str(refusal.value).splitlines()

    def rows(self, query: LiteralString) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def everything(self) -> dict[str, list[Any]]:
        """All rows of all tables, with their transaction numbers: a row that is written anew differs."""
        with psycopg.connect(self.database_url) as connection:
            return {
                table: sorted(
                    connection.execute(sql.SQL("select xmin::text, t::text from {} t").format(sql.Identifier(table)))
                )
                for table in TABLES
            }


@pytest.fixture
def bench(database_url: str) -> Bench:
    return Bench(database_url)


async def test_it_stores_everything_that_was_declared(bench: Bench) -> None:
    changes = await bench.apply()
    assert {noun.noun: noun.created for noun in changes.nouns} == {
        "broker": ("pg",),
        "offering": ("pg/postgres",),
        "plan": ("pg/postgres/bare", "pg/postgres/small"),
        "user": ("ann", "bob"),
        "organization": ("acme",),
        "space": ("shop",),
        "role": (
            "ann as organization_manager in acme",
            "ann as space_developer in shop",
            "bob as space_developer in shop",
        ),
        "service instance": ("db", "mail"),
        "share": (),
    }
    assert bench.rows("select name, url, username from brokers") == [
        {"name": "pg", "url": "http://h:9001", "username": "u"}
    ]
    assert bench.rows(
        "select catalog_id, backup_features, maximum_polling_duration_s from service_plans order by 1"
    ) == [
        {"catalog_id": "p-bare", "backup_features": [], "maximum_polling_duration_s": None},
        {"catalog_id": "p-small", "backup_features": ["backup", "restore"], "maximum_polling_duration_s": 600},
    ]
    assert bench.rows("""
        select i.guid, i.type, i.space_guid, p.name as plan, i.last_operation_type, i.last_operation_state
        from service_instances i left join service_plans p on p.guid = i.plan_guid order by 1
    """) == [
        {
            "guid": "i1",
            "type": "managed",
            "space_guid": "s1",
            "plan": "small",
            "last_operation_type": "create",
            "last_operation_state": "succeeded",
        },
        {
            "guid": "i2",
            "type": "user-provided",
            "space_guid": "s1",
            "plan": None,
            "last_operation_type": "create",
            "last_operation_state": "succeeded",
        },
    ]


async def test_it_changes_nothing_the_second_time(bench: Bench) -> None:
    first = await bench.apply()
    before = bench.everything()
    second = await bench.apply()
    assert first.has_changes
    assert not second.has_changes
    assert second.lines() == ["nothing changed, 13 as before"]
    assert bench.everything() == before


async def test_it_changes_what_is_declared_differently_and_nothing_else(bench: Bench) -> None:
    await bench.apply()
    bench.catalogs["pg"]["services"][0]["plans"][0]["name"] = "tiny"
    changes = await bench.apply(
        FILE.replace("name: db", "name: database")
        .replace("plan: small", "plan: bare, last_operation: {type: update, state: in progress}")
        .replace("http://h:9001", "https://h:9001")
        .replace("name: shop", "name: store")
    )
    assert changes.lines() == [
        "updated broker pg",
        "updated plan pg/postgres/tiny",
        "updated space store",
        "updated service instance database",
        "4 changed, 9 as before",
    ]
    (stored,) = bench.rows("""
        select p.name as plan, i.last_operation_state, i.updated_at > i.created_at as is_later
        from service_instances i join service_plans p on p.guid = i.plan_guid
    """)
    assert stored == {"plan": "bare", "last_operation_state": "in progress", "is_later": True}
    assert bench.rows("select name from service_offerings where updated_at > created_at") == []


async def test_it_stores_limits_of_a_broker_and_forgets_them_when_they_are_removed(bench: Bench) -> None:
    def limited(limits: str) -> str:
        return FILE.replace('"${PASSWORD}"}', f'"${{PASSWORD}}"{limits}}}')

    table = [
        ("", "created", (None, None)),
        ("", "unchanged", (None, None)),
        (", limits: {calls_in_flight: 10, calls_per_minute: 600}", "updated", (10, 600)),
        (", limits: {calls_per_minute: 600, calls_in_flight: 10}", "unchanged", (10, 600)),
        (", limits: {calls_in_flight: 10}", "updated", (10, None)),
        (", limits: {}", "updated", (None, None)),
        ("", "unchanged", (None, None)),
    ]
    for limits, change, stored in table:
        changes = await bench.apply(limited(limits))
        assert getattr(changes["broker"], change) == ("pg",)
        (row,) = bench.rows("select calls_in_flight, calls_per_minute from brokers")
        assert (row["calls_in_flight"], row["calls_per_minute"]) == stored
    assert bench.rows("select count(*) as n from broker_states") == [{"n": 1}]


async def test_it_makes_an_instance_managed_or_user_provided_as_declared(bench: Bench) -> None:
    await bench.apply()
    swapped = FILE.replace("broker: pg, offering: postgres, plan: small", "type: user-provided").replace(
        "name: mail, type: user-provided", "name: mail, broker: pg, offering: postgres, plan: bare"
    )
    assert (await bench.apply(swapped))["service instance"].updated == ("db", "mail")


async def test_it_leaves_alone_what_is_not_declared_and_its_roles(bench: Bench) -> None:
    await bench.apply()
    before = bench.everything()
    changes = await bench.apply(
        "users: [{guid: u3, name: eve}]\norganizations: [{guid: o2, name: other, roles: {organization_user: [eve]}}]\n"
    )
    assert changes.lines() == [
        "created user eve",
        "created organization other",
        "created role eve as organization_user in other",
        "3 changed, 0 as before",
    ]
    after = bench.everything()
    assert all(set(before[table]) <= set(after[table]) for table in before)


async def test_it_makes_the_roles_of_declared_places_exactly_the_declared_ones(bench: Bench) -> None:
    await bench.apply()
    bench.rows("insert into users values ('u9', 'mallory')")
    bench.rows("insert into roles values ('u9', 'space_manager', 's1', null), ('u9', 'organization_user', null, 'o1')")
    changes = await bench.apply(FILE.replace("[ann, bob]", "[bob], space_auditor: [ann]"))
    assert changes["role"].created == ("ann as space_auditor in shop",)
    assert changes["role"].removed == (
        "ann as space_developer in shop",
        "mallory as organization_user in acme",
        "mallory as space_manager in shop",
    )
    assert changes["role"].unchanged == ("ann as organization_manager in acme", "bob as space_developer in shop")
    assert bench.rows("select user_guid, type, space_guid, organization_guid from roles order by 1, 2") == [
        {"user_guid": "u1", "type": "organization_manager", "space_guid": None, "organization_guid": "o1"},
        {"user_guid": "u1", "type": "space_auditor", "space_guid": "s1", "organization_guid": None},
        {"user_guid": "u2", "type": "space_developer", "space_guid": "s1", "organization_guid": None},
    ]


SPACES = FILE + "  - {guid: s2, name: lab}\n  - {guid: s3, name: annex}\n"


async def test_it_makes_the_shares_of_declared_instances_exactly_the_declared_ones(bench: Bench) -> None:
    def shared(spaces: str) -> str:
        return SPACES.replace("plan: small", f"plan: small, shared_to: [{spaces}]")

    await bench.apply(SPACES)
    table = [
        ("s2, s3", {"created": ("db with annex", "db with lab")}),
        ("s3, s2", {"unchanged": ("db with annex", "db with lab")}),
        ("s3", {"removed": ("db with lab",), "unchanged": ("db with annex",)}),
        ("", {"removed": ("db with annex",)}),
    ]
    for spaces, expected in table:
        changes = (await bench.apply(shared(spaces)))["share"]
        assert {
            kind: getattr(changes, kind) for kind in ("created", "removed", "unchanged") if getattr(changes, kind)
        } == expected
    await bench.apply(shared("s2"))
    assert not (await bench.apply("users: []\n")).has_changes
    assert bench.rows("select * from service_instance_shares") == [{"service_instance_guid": "i1", "space_guid": "s2"}]


async def test_it_moves_an_instance_into_a_space_that_it_was_shared_to(bench: Bench) -> None:
    await bench.apply(SPACES.replace("plan: small", "plan: small, shared_to: [s2]"))
    line = "    - {guid: i1, name: db, broker: pg, offering: postgres, plan: small}\n"
    moved = SPACES.replace(line, "").replace("name: lab}", f"name: lab, service_instances: [{line.strip()[2:]}]}}")
    assert (await bench.apply(moved)).lines() == [
        "updated service instance db",
        "removed share db with lab",
        "2 changed, 14 as before",
    ]


@pytest.mark.parametrize(("noun", "name"), [("organization", "acme"), ("space", "shop")])
async def test_it_stores_the_status_of_a_place_and_when_it_changed(bench: Bench, noun: str, name: str) -> None:
    async def apply(status: str) -> tuple[str, ...]:
        changes = await bench.apply(FILE.replace(f"name: {name}\n", f"name: {name}\n{' ' * indent}status: {status}\n"))
        updated: tuple[str, ...] = changes[noun].updated
        return updated

    indent = {"organization": 2, "space": 4}[noun]
    query = "select status, updated_at > created_at as is_later from organizations where guid = 'o1'"
    if noun == "space":
        query = "select status, updated_at > created_at as is_later from spaces"
    await bench.apply()
    assert bench.rows(query) == [{"status": "active", "is_later": False}]
    assert await apply("suspended") == (name,)
    assert bench.rows(query) == [{"status": "suspended", "is_later": True}]
    assert await apply("suspended") == ()
    assert await apply("deleting") == (name,)
    assert (await bench.apply())[noun].updated == (name,)
    assert bench.rows(query) == [{"status": "active", "is_later": True}]


async def test_it_keeps_a_plan_that_the_broker_no_longer_has(bench: Bench) -> None:
    await bench.apply()
    del bench.catalogs["pg"]["services"][0]["plans"][1]
    assert not (await bench.apply()).has_changes
    assert len(bench.rows("select guid from service_plans")) == 2


def _sealed(bench: Bench) -> str:
    (row,) = bench.rows("select password_sealed from brokers")
    sealed: str = row["password_sealed"]
    return sealed


async def test_it_seals_a_password_anew_only_when_it_differs(bench: Bench) -> None:
    await bench.apply()
    first = _sealed(bench)
    assert bench.sealer.open(first) == PASSWORD
    await bench.apply()
    assert _sealed(bench) == first
    assert (await bench.apply(password="another"))["broker"].updated == ("pg",)
    assert bench.sealer.open(_sealed(bench)) == "another"


async def test_it_keeps_a_password_that_an_older_key_opens_and_replaces_one_that_none_does(database_url: str) -> None:
    bench = Bench(database_url)
    old, new = generate_key(), generate_key()
    bench.sealer = Sealer([old])
    await bench.apply()
    bench.sealer = Sealer([new, old])
    assert not (await bench.apply()).has_changes
    bench.sealer = Sealer([new])
    assert (await bench.apply())["broker"].updated == ("pg",)
    assert bench.sealer.open(_sealed(bench)) == PASSWORD


def _text_at_rest(database_url: str) -> str:
    """Everything in every column of every table of ours."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        return "\n".join(
            row[0]
            for (table,) in tables
            for row in connection.execute(sql.SQL("select t::text from {} t").format(sql.Identifier(table)))
        )


async def test_it_shows_a_password_nowhere(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    shown = [repr(declare()), *(await bench.apply()).lines()]
    at_rest = _text_at_rest(bench.database_url)
    assert "http://h:9001" in at_rest
    assert PASSWORD not in at_rest

    bench.catalogs["pg"] = SafekeepError("answered 401")
    shown += await bench.refuse(FILE)
    bench.catalogs["pg"] = {"services": [{"id": 7}]}
    shown += await bench.refuse(FILE)
    bench.catalogs["pg"] = a_catalog()
    shown += await bench.refuse(FILE.replace("plan: small", 'plan: "${PASSWORD}"'))
    bench.rows("alter table brokers add check (password_sealed = '') not valid")
    with pytest.raises(StoreError) as refusal:
        await bench.apply(password=PASSWORD + "2")
    shown += [str(refusal.value), repr(refusal.value.__cause__), caplog.text]
    assert "violates check constraint" in "\n".join(shown)
    assert "s3cret" not in "\n".join(shown)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "plan: small",
            "plan: smal",
            (
                "15:60: organizations[0].spaces[0].service_instances[0].plan: offering 'postgres' has no plan 'smal'; "
                "did you mean 'small'?"
            ),
        ),
        (
            "plan: small",
            "plan: gold",
            (
                "15:60: organizations[0].spaces[0].service_instances[0].plan: offering 'postgres' has no plan 'gold'; "
                "there are: 'bare', 'small'"
            ),
        ),
        (
            "offering: postgres",
            "offering: mysql",
            (
                "15:40: organizations[0].spaces[0].service_instances[0].offering: broker 'pg' has no offering 'mysql'; "
                "there are: 'postgres'"
            ),
        ),
    ],
)
async def test_it_refuses_what_a_broker_does_not_offer(bench: Bench, old: str, new: str, expected: str) -> None:
    await bench.apply()
    assert await bench.refuse(FILE.replace(old, new).replace("name: acme", "name: changed")) == [
        f"directory.yaml:{expected}"
    ]


async def test_it_names_every_broker_that_cannot_be_used_and_changes_nothing(bench: Bench) -> None:
    bench.catalogs |= {
        "away": SafekeepError("could not be reached: Connection refused"),
        "odd": {"services": [{"id": "x", "name": 7, "plans": []}]},
        "null": None,
    }
    more = "".join(
        f"- {{name: {name}, url: http://h, username: u, password: p}}\n" for name in ("away", "odd", '"null"')
    )
    assert await bench.refuse(FILE.replace("users:", f"{more}users:", 1)) == [
        (
            "directory.yaml:3:3: brokers[1]: the catalog of broker 'away' cannot be fetched: "
            "could not be reached: Connection refused"
        ),
        (
            "directory.yaml:4:3: brokers[2]: the catalog of broker 'odd' is malformed: "
            "services[0].name: must be text, not a number"
        ),
        "directory.yaml:5:3: brokers[3]: the catalog of broker 'null' is malformed: must be an object, and is empty",
    ]


async def test_it_asks_all_brokers_at_the_same_time(bench: Bench) -> None:
    everyone_asked = asyncio.Barrier(2)

    async def fetch(_broker: BrokerDeclaration) -> object:
        await everyone_asked.wait()
        return {"services": []}

    text = "brokers:\n" + "".join(f"- {{name: b{i}, url: http://h, username: u, password: p}}\n" for i in range(2))
    changes = await apply(declare(text), database_url=bench.database_url, sealer=bench.sealer, fetch_catalog=fetch)
    assert changes["broker"].created == ("b0", "b1")


async def test_it_changes_nothing_when_the_last_statement_fails(bench: Bench) -> None:
    bench.rows("alter table service_instances add check (name <> 'mail')")
    before = bench.everything()
    with pytest.raises(StoreError, match="violates check constraint"):
        await bench.apply()
    assert bench.everything() == before


async def test_it_is_one_after_the_other_when_two_apply_at_once(bench: Bench) -> None:
    results = await asyncio.gather(*(bench.apply() for _ in range(8)))
    assert sorted(result.has_changes for result in results) == [False] * 7 + [True]


async def test_it_does_not_hold_up_accepting_jobs(bench: Bench) -> None:
    await bench.apply()
    async with await psycopg.AsyncConnection.connect(bench.database_url, options="-c lock_timeout=1s") as accepting:
        # What a foreign key does to the broker's row when a job is stored.
        await accepting.execute("select from brokers for key share")
        assert (await bench.apply(password="another"))["broker"].updated == ("pg",)


async def test_it_says_when_the_database_is_away() -> None:
    with pytest.raises(StoreUnavailableError, match="the database is not available: ") as refusal:
        await Bench("postgresql://u:s3cret-db@127.0.0.1:1/d").apply()
    assert "s3cret" not in str(refusal.value)
