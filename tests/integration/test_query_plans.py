"""What statements cost must not grow with what has ended: PostgreSQL says how it executes each of them.

Twice: with plans for the very values, and with those that it makes for any values, which is what a prepared statement
may get. And on tables of two kinds: with statistics as they are, and with those from a time when the tables were small
and all jobs open.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import psycopg
import pytest
from psycopg.rows import dict_row

from deploy.local.databases import scratch_database
from shared.directory.tables import TablesDirectory
from shared.lists import AuditEventFilter, JobFilter
from shared.records import IdempotencyKey, JobError, RestorePoint, Step
from shared.security.callers import Caller
from shared.security.secrets import generate_key
from shared.security.tokens import ADMIN_SCOPES, USER_SCOPES
from shared.settings import Settings
from shared.states import Event, JobState, Operation
from shared.store.audit_events import COUNT_AHEAD, AuditEvents
from shared.store.backups import Backups
from shared.store.idempotency_keys import IdempotencyKeys
from shared.store.job_lists import JobLists
from shared.store.jobs import Jobs
from tests.bulk import BUSY_INSTANCES, PER_INSTANCE, QUIET_INSTANCES, guid_of, seed_directory, seed_finished, seed_open
from tests.integration.plans import Explained, Explainer, statements
from tests.support import job_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from shared.records import Claim
    from shared.store.database import Database

FINISHED = 20_000
OPEN = 2_000
DUE = 300
MODES = ("force_custom_plan", "force_generic_plan")
PAGE = 50
DAY = timedelta(days=1)
#: What must be quick even before PostgreSQL knows how the tables have changed: what workers and pollers do always.
ALWAYS_QUICK = frozenset(
    {
        "jobs.find_due",
        "jobs.find_due_by_user",
        "jobs.hint",
        "jobs.take_back_hints",
        "jobs.look",
        "jobs.lock_brokers",
        "jobs.claim",
        "jobs.seize",
        "jobs.record",
        "jobs.release",
        "jobs.prune",
        "job_lists.read",
        "job_lists.versions",
        "job_lists.read_one",
        "job_lists.version_of_one",
        "job_lists.recorded_since",
        "backups.list_newest",
        "backups.find",
        "directory.find_instances",
    }
)

ADMIN = Caller("admin", "admin", frozenset(ADMIN_SCOPES))
#: A developer whose ten instances have a thousand jobs, which are the oldest; and one whose jobs are all over.
QUIET = Caller(str(guid_of("user", 3)), "somebody", frozenset(USER_SCOPES))
BUSY = Caller(str(guid_of("user", 20)), "somebody", frozenset(USER_SCOPES))
INSTANCE = str(guid_of("instance", 33))
FREE = QUIET_INSTANCES + BUSY_INSTANCES + OPEN  # the first instance without any job
NOW = datetime.now(UTC)


class Store:
    """All repositories on one database."""

    def __init__(self, explainer: Explainer, settings: Settings) -> None:
        database = cast("Database", explainer)
        self.jobs = Jobs(database, settings)
        self.lists = JobLists(database)
        self.backups = Backups(database)
        self.events = AuditEvents(database)
        self.keys = IdempotencyKeys(database)
        self.directory = TablesDirectory(database, staleness_s=0)

    async def claim(self, first: int = 0, count: int = 50) -> list[Claim]:
        guids = [guid_of("open", number) for number in range(first, first + count)]
        return (await self.jobs.claim(guids, owner="w", lease_s=60)).claims

    async def record(self, **values: Any) -> None:
        defaults: dict[str, Any] = {"worker": "w", "call": "poll", "outcome": "", "was_answered": True}
        await self.jobs.record([Step(**defaults | {"claim": claim} | values) for claim in await self.claim()])


class Query(NamedTuple):
    """A call of the store, and how PostgreSQL may execute the statement of that name that is in it."""

    name: str
    call: Callable[[Store], Awaitable[object]]
    rows: int  #: of growing tables, that may be looked at
    indexes: str = ""  #: that are used, at least
    is_general: bool = True  #: whether plans for any values are as good


def page(rows: int, indexes: str = "", *, is_general: bool = True, **wanted: Any) -> Query:
    return Query(
        "job_lists.page_of_reader" if "reader" in wanted else "job_lists.page",
        lambda store: store.lists.list_page(JobFilter(**{"limit": PAGE} | wanted)),
        rows,
        indexes,
        is_general,
    )


def count(rows: int, indexes: str = "", *, is_general: bool = True, **wanted: Any) -> Query:
    return Query(
        "job_lists.count_of_reader" if "reader" in wanted else "job_lists.count",
        lambda store: store.lists.count(JobFilter(**wanted), count_max=500),
        rows,
        indexes,
        is_general,
    )


def events(name: str, rows: int, indexes: str = "", caller: Caller = ADMIN, **wanted: Any) -> Query:
    wanted = {"is_newest_first": True, "limit": PAGE, "offset": 0} | wanted
    return Query(
        f"audit_events.{name}",
        lambda store: store.events.list_page(AuditEventFilter(**wanted), caller),
        rows,
        indexes,
    )


def requests(count: int = 20, **values: Any) -> list[Any]:
    broker = guid_of("broker", 0)
    return [job_request(broker, str(guid_of("instance", FREE + n)), **values) for n in range(count)]


def restores() -> list[Any]:
    backup = guid_of("resource", FINISHED - 10)
    point = RestorePoint(backup_id=str(backup))
    return requests(1, operation=Operation.RESTORE, backup_guid=backup, restore=point)


def deletion(number: int) -> Any:
    values = {"operation": Operation.DELETE_BACKUP, "resource_guid": guid_of("resource", number)}
    return job_request(guid_of("broker", 3), INSTANCE, **values)


async def release(store: Store) -> None:
    await store.jobs.release(await store.claim())


async def mark(store: Store, state: str) -> None:
    known = next(backup for backup in await store.backups.list_known([INSTANCE]) if backup.state == state)
    await (store.backups.mark_deleted if state == "succeeded" else store.backups.mark_succeeded_again)(known)


async def find_event(store: Store) -> None:
    page = await store.events.list_page(AuditEventFilter(is_newest_first=True, limit=1, offset=0), ADMIN)
    await store.events.find(page.resources[0].guid, QUIET)


OPEN_GUIDS = [guid_of("open", number) for number in range(50)]
KEYS = [IdempotencyKey(f"key-{n}", "f") for n in range(20)]
BROKEN = JobError(1, "t", "d")
#: A hundred jobs of that instance, of which 94 are backups.
OLD = 33 * 100
FULL_POLLS: Any = {guid_of("broker", n): [] for n in range(10)}

QUERIES = [
    Query("jobs.accept", lambda s: s.jobs.accept(requests()), 0, is_general=False),
    Query("jobs.accept", lambda s: s.jobs.accept(requests(1)), 0, is_general=False),
    Query("jobs.accept", lambda s: s.jobs.accept([r for k in KEYS for r in requests(1, key=k)]), 20, is_general=False),
    Query("jobs.accept", lambda s: s.jobs.accept(restores()), 10, "backups_pkey", is_general=False),
    Query("jobs.lock_backup", lambda s: s.jobs.accept_deletion(deletion(OLD)), 1, "backups_pkey"),
    Query("jobs.accept_deletion", lambda s: s.jobs.accept_deletion(deletion(OLD)), 5, "backups_pkey"),
    Query("jobs.accept_deletion", lambda s: s.jobs.accept_deletion(deletion(OLD + 9)), 5, "backups_pkey"),
    Query("jobs.find_due", lambda s: s.jobs.hint_due(), 4 * DUE, "jobs_next_hint jobs_deadline"),
    Query("jobs.find_due_by_user", lambda s: s.jobs.hint_due(crowded=FULL_POLLS), 6 * OPEN, "jobs_next_hint_of_user"),
    Query("jobs.hint", lambda s: s.jobs.hint_due(), 4 * DUE, "jobs_pkey"),
    Query("jobs.take_back_hints", lambda s: s.jobs.take_back_hints(OPEN_GUIDS), 150, "jobs_pkey"),
    Query("jobs.look", lambda s: s.jobs.look(OPEN_GUIDS), 50, "jobs_pkey"),
    Query("jobs.lock_brokers", lambda s: s.claim(), 50, "jobs_pkey"),
    Query("jobs.claim", lambda s: s.claim(), 150, "jobs_pkey jobs_leased"),
    Query("jobs.claim", lambda s: s.claim(count=1), 3, "jobs_pkey jobs_leased"),
    Query("jobs.seize", lambda s: s.jobs.seize(guid_of("open", 400), owner="a"), 2, "jobs_pkey"),
    Query("jobs.record", lambda s: s.record(event=Event.IN_PROGRESS, due_in_s=60), 50),
    Query("jobs.record", lambda s: s.record(event=Event.SUCCEEDED), 150, "backups_pkey"),
    Query(
        "jobs.record",
        lambda s: s.record(event=Event.FAILED, errors=(BROKEN,), clean_up_in_s=0.0, was_answered=False),
        150,
        "backups_pkey",
    ),
    Query("jobs.release", release, 50),
    Query("jobs.list_clean_ups", lambda s: s.jobs.list_clean_ups(), 20),
    Query("jobs.retry_clean_up", lambda s: s.jobs.retry_clean_up(guid_of("job", 9999)), 3, "jobs_pkey"),
    Query("jobs.begin_clean_up", lambda s: s.jobs.begin_clean_up(guid_of("job", 109)), 3, "jobs_pkey"),
    Query("jobs.explain_refused_retry", lambda s: s.jobs.explain_refused_retry(guid_of("job", 199)), 3, "jobs_pkey"),
    Query("jobs.prune", lambda s: s.jobs.prune(retention_s=79.5 * 86400, limit=100), 2100, "jobs_ended"),
    Query("job_lists.read", lambda s: s.lists.read([guid_of("job", n) for n in range(30)]), 60, "jobs_pkey"),
    Query("job_lists.versions", lambda s: s.lists.read_versions(OPEN_GUIDS), 50, "jobs_pkey"),
    Query("job_lists.read_one", lambda s: s.lists.find_each([guid_of("job", 7)]), 5, "jobs_pkey"),
    Query("job_lists.read_one", lambda s: s.lists.find_each([guid_of("job", 149)]), 5, "jobs_pkey jobs_children"),
    Query("job_lists.version_of_one", lambda s: s.lists.find_each_version([guid_of("job", 7)]), 5, "jobs_pkey"),
    Query("job_lists.recorded_since", lambda s: s.lists.recorded_since(0), 0, "job_steps_latest"),
    page(3 * PAGE, "jobs_newest"),
    page(3 * PAGE, "jobs_newest", order="created_at"),
    page(500 + PAGE, "jobs_newest", offset=400),
    page(3 * PAGE, "jobs_pkey", guids=tuple(OPEN_GUIDS)),
    page(3 * PAGE, "jobs_of_instance", service_instance_guids=(INSTANCE,)),
    page(3 * PAGE, "jobs_newest", created_before=NOW - 40 * DAY),
    page(3 * PAGE, "jobs_newest", created_since=NOW - 40 * DAY),
    page(3 * PAGE, "jobs_newest", created_since=NOW - 40 * DAY, order="created_at"),
    page(3 * PAGE, "jobs_failed", states=(JobState.FAILED, JobState.CANCELLED)),
    page(OPEN + PAGE, "", states=(JobState.POLL,)),
    page(OPEN + PAGE, "", states=(JobState.START,)),
    page(OPEN + 3 * PAGE, "jobs_newest", states=(JobState.SUCCEEDED,)),
    page(3 * PAGE, "jobs_by_operation", operations=(Operation.RESTORE,)),
    page(3 * PAGE, "jobs_by_operation", operations=(Operation.DELETE_BACKUP,)),
    page(3 * PAGE, "jobs_newest", operations=(Operation.CREATE_BACKUP,)),
    page(1200, "jobs_of_instance", reader=QUIET.user_guid),
    page(1200, "jobs_of_instance", reader=BUSY.user_guid),
    page(1200, "jobs_of_instance", reader=QUIET.user_guid, order="created_at"),
    page(1200, "", reader=QUIET.user_guid, states=(JobState.FAILED,)),
    page(OPEN, "", reader=QUIET.user_guid, states=(JobState.POLL,)),
    page(2 * OPEN, "", is_general=False, updated_since=NOW - DAY / 4),
    page(3 * PAGE, "", updated_before=NOW - 79 * DAY, order="created_at"),
    count(500),
    count(500, "jobs_of_instance", reader=QUIET.user_guid),
    count(500, "jobs_of_instance", reader=BUSY.user_guid),
    count(100, "jobs_of_instance", service_instance_guids=(INSTANCE,)),
    count(500, "jobs_failed", states=(JobState.FAILED, JobState.CANCELLED)),
    count(OPEN, "", states=(JobState.POLL,)),
    count(500, "jobs_by_operation", operations=(Operation.RESTORE,)),
    count(2 * OPEN, "", is_general=False, updated_since=NOW - DAY / 4),
    Query("backups.list_newest", lambda s: s.backups.list_newest(INSTANCE, 5), 5, "backups_newest"),
    Query(
        "backups.find_succeeded",
        lambda s: s.backups.find_succeeded(guid_of("resource", OLD), INSTANCE),
        1,
        "backups_pkey",
    ),
    Query("backups.find", lambda s: s.backups.find(guid_of("resource", OLD), INSTANCE), 5, "backups_pkey"),
    Query("backups.find", lambda s: s.backups.find(guid_of("resource", OLD + 9), INSTANCE), 5, "backups_pkey"),
    Query("backups.list_instances", lambda s: s.backups.list_instances([INSTANCE]), 0),
    Query("backups.list_known", lambda s: s.backups.list_known([INSTANCE]), 900, "jobs_of_instance"),
    Query("backups.mark_deleted", lambda s: mark(s, "succeeded"), 1, "backups_pkey"),
    Query("backups.mark_succeeded_again", lambda s: mark(s, "deleted"), 4, "backups_pkey"),
    events("count", COUNT_AHEAD + PAGE),
    events("count", PER_INSTANCE, "audit_events_of_target", target_guids=[INSTANCE]),
    events("count_of_reader", 10 * PER_INSTANCE, "audit_events_of_space", caller=QUIET),
    events("page", 2 * PAGE, "audit_events_newest"),
    events("page", 2 * PAGE, "audit_events_newest", is_newest_first=False),
    events("page", 2 * PAGE, "audit_events_newest", before=NOW - 40 * DAY),
    events("page_of_targets", 2 * PAGE, "audit_events_of_target", target_guids=[INSTANCE]),
    events("page_of_targets", 2 * PAGE, "audit_events_of_target", caller=QUIET, target_guids=[INSTANCE]),
    events("page_of_reader", 2 * PAGE, "audit_events_of_space", caller=QUIET),
    events("page_of_reader", 2 * PAGE, "audit_events_of_space", caller=BUSY, is_newest_first=False),
    Query("audit_events.find", find_event, 2 * PAGE, "audit_events_pkey"),
    Query(
        "audit_events.prune", lambda s: s.events.prune(retention_s=79 * 86400, limit=100), 300, "audit_events_newest"
    ),
    Query(
        "idempotency_keys.find", lambda s: s.keys.find(str(guid_of("user", 0)), "key-900"), 1, "idempotency_keys_pkey"
    ),
    Query("idempotency_keys.keep", lambda s: s.keys.keep(str(guid_of("user", 0)), KEYS[0], OPEN_GUIDS[0]), 0),
    Query("idempotency_keys.prune", lambda s: s.keys.prune(), 0, "idempotency_keys_oldest"),
    Query("directory.find_instances", lambda s: s.directory.find_instance(INSTANCE, QUIET), 0),
]
#: Those that have no query above, and why not.
LEFT_OUT = {
    "jobs.lock_keys": "reads no table",
    "jobs.lock_hints": "reads no table",
    "directory.lock_directory": "reads no table",
} | dict.fromkeys(
    (name for name in statements() if name.startswith(("directory.apply_", "directory.lock_brokers"))),
    "is of the directory alone",
)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(
        database_url="postgresql://", queue_url="redis://", secret_keys=generate_key(), broker_calls_in_flight=10_000
    )


@pytest.fixture(scope="module")
def connections(
    postgres_url: str, database_of_module: str, settings: Settings
) -> Iterator[dict[str, psycopg.Connection[Any]]]:
    """The same tables twice, with statistics of another time and with their own."""
    with psycopg.connect(database_of_module, autocommit=True) as connection:
        seed_directory(connection, settings, instances=FREE + 100)
        seed_open(connection, 20, due=20)
        connection.execute("analyze")
        connection.execute("delete from jobs")
        seed_finished(connection, FINISHED)
        seed_open(connection, OPEN, due=DUE)
    with ExitStack() as stack:
        copy = stack.enter_context(
            scratch_database(postgres_url, template=database_of_module.rpartition("/")[2], prefix="safekeep_test")
        )
        found = {}
        for name, url in (("stale", copy), ("analyzed", database_of_module)):
            found[name] = stack.enter_context(psycopg.connect(url, autocommit=True, row_factory=dict_row))
            # Reading a table from end to end costs as if it were twenty times as large.
            found[name].execute("set seq_page_cost = 20")
        found["analyzed"].execute("vacuum analyze")
        yield found


def _check(found: Explained, query: Query, mode: str) -> None:
    said = f"{mode}\n{found.text}\n{found.shown}"
    # What is counted up to a bound may be met in any order.
    assert query.name.endswith(".count") or not found.scanned, said
    assert found.rows <= query.rows, said
    assert found.indexes >= set(query.indexes.split()), said


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
async def test_it_looks_at_few_rows_however_many_there_are(
    query: Query, connections: dict[str, psycopg.Connection[Any]], settings: Settings
) -> None:
    for statistics, mode in product(connections, MODES):
        if (statistics == "stale" and query.name not in ALWAYS_QUICK) or (mode == MODES[1] and not query.is_general):
            continue
        connection = connections[statistics]
        connection.execute(f"set plan_cache_mode = {mode}".encode())
        explainer = Explainer(connection)
        with connection.transaction(force_rollback=True):
            await query.call(Store(explainer, settings))
        explained = [found for found in explainer.found if found.name == query.name]
        assert explained
        for found in explained:
            _check(found, query, f"{statistics}, {mode}")


def test_it_knows_the_plan_of_every_statement() -> None:
    tested = {query.name for query in QUERIES}
    assert tested | set(LEFT_OUT) == set(statements())
    assert not tested & set(LEFT_OUT)
