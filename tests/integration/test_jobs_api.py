"""Jobs over HTTP: the list, to whom it shows what, and what holds for every job that anybody reads."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from shared.cf_errors import CfError
from shared.directory.roles import ACCESS_OF_ROLE
from shared.records import JobError, Step
from shared.states import Event
from shared.store.database import Database
from shared.store.jobs import Jobs
from tests.integration.conftest import HintLog, client_of
from tests.support import BROKER_PASSWORD, DEVELOPER, bearer, job_request, rows, seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from shared.settings import Settings
    from tests.integration.conftest import Client

START = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
ERRORS = '[{"code": 10009, "title": "CF-UnableToPerform", "detail": "no space"}]'


def put_job(
    url: str,
    broker_guid: UUID,
    *,
    state: str = "succeeded",
    instance: str = "i-1",
    operation: str = "service_instance.create_backup",
    created_at: datetime = START,
    updated_at: datetime | None = None,
    parent: str | None = None,
) -> str:
    """Put a job into the table as it is after that time."""
    is_open = state in {"start", "poll"}
    (job,) = rows(
        url,
        "insert into jobs (guid, operation, state, service_instance_guid, broker_guid, resource_guid, user_guid,"
        " request_id, request_body, next_hint_at, deadline_at, errors, parent_guid, created_at, updated_at, due_at,"
        " completed_at) values (%s, %s, %s, %s, %s, gen_random_uuid(), 'u', 'r', '{}', now(), now(), %s, %s, %s, %s,"
        " %s, %s) returning guid",
        uuid.uuid4(),
        operation,
        state,
        instance,
        broker_guid,
        ERRORS if state in {"failed", "cancelled"} else "[]",
        parent,
        created_at,
        updated_at or created_at,
        START if is_open else None,
        None if is_open else updated_at or created_at,
    )
    return str(job["guid"])


async def list_jobs(client: Client, headers: Mapping[str, str], **query: Any) -> dict[str, Any]:
    async with client.get("/v3/jobs", params=query, headers=headers) as response:
        assert response.status == 200, await response.text()
        body: dict[str, Any] = await response.json()
    assert set(body) == {"pagination", "resources"}
    assert len(body["resources"]) <= body["pagination"]["total_results"]
    return body


async def listed(client: Client, headers: Mapping[str, str], **query: Any) -> list[str]:
    body = await list_jobs(client, headers, **query)
    assert body["pagination"]["total_results"] == len(body["resources"])
    return [job["guid"] for job in body["resources"]]


@pytest.fixture
def admin(settings: Settings) -> dict[str, str]:
    return bearer(settings, is_admin=True)


# ---------------------------------------------------------------- who sees what


@pytest.mark.parametrize(
    "scope", ["cloud_controller.admin", "cloud_controller.admin_read_only", "cloud_controller.global_auditor"]
)
async def test_it_lists_every_job_to_those_who_see_everything(
    client: Client, settings: Settings, url: str, scope: str
) -> None:
    broker_guid = seed(settings).broker_guid
    guids = {put_job(url, broker_guid), put_job(url, broker_guid, instance="gone")}
    assert set(await listed(client, bearer(settings, "stranger", scopes=[scope]))) == guids


ROLES = {
    "space_developer": True,
    "space_manager": True,
    "space_auditor": True,
    "space_supporter": True,
    "organization_manager": True,
    "organization_auditor": False,
    "organization_billing_manager": False,
    "organization_user": False,
}


@pytest.mark.parametrize(
    ("space", "organization", "visible"),
    [
        ("space", "org", "shared own"),
        ("space-2", "org-2", "shared"),
        ("space-3", "org-3", ""),
    ],
    ids=["where it lives", "where it is shared to", "elsewhere"],
)
async def test_it_lists_jobs_to_those_who_can_read_the_instance(
    client: Client, settings: Settings, url: str, space: str, organization: str, visible: str
) -> None:
    broker_guid = seed(settings, instances=("i-1", "i-2")).broker_guid
    rows(url, "insert into organizations values ('org-2', 'partner'), ('org-3', 'nobody')")
    rows(url, "insert into spaces values ('space-2', 'theirs', 'org-2'), ('space-3', 'empty', 'org-3')")
    rows(url, "insert into service_instance_shares values ('i-1', 'space-2')")
    names = {put_job(url, broker_guid): "shared", put_job(url, broker_guid, instance="i-2"): "own"}
    put_job(url, broker_guid, instance="gone")
    assert set(ROLES) == set(ACCESS_OF_ROLE)
    for role, sees in ROLES.items():
        where = (space, None) if role.startswith("space") else (None, organization)
        rows(url, "delete from roles")
        rows(url, "insert into roles values (%s, %s, %s, %s)", DEVELOPER, role, *where)
        seen = {names.get(guid, "gone") for guid in await listed(client, bearer(settings))}
        assert seen == (set(visible.split()) if sees else set()), role


async def test_it_lists_nothing_to_a_stranger_whatever_they_ask_for(
    client: Client, settings: Settings, url: str
) -> None:
    guid = put_job(url, seed(settings).broker_guid)
    stranger = bearer(settings, "stranger")
    assert await listed(client, stranger) == []
    assert await listed(client, stranger, guids=guid, service_instance_guids="i-1", states="COMPLETE") == []


async def test_it_lists_jobs_only_to_those_who_may_read(client: Client, settings: Settings) -> None:
    seed(settings)
    writer = bearer(settings, scopes=["cloud_controller.write"])
    assert (await client.get("/v3/jobs", headers=writer)).status == 403
    assert (await client.get("/v3/jobs")).status == 401


# ---------------------------------------------------------------- filters, orders, pages


@pytest.fixture
def four(settings: Settings, url: str) -> dict[str, str]:
    """Four jobs in the four states of clients, an hour between each and the next; each changed half an hour later."""
    broker_guid = seed(settings, instances=("i-1", "i-2", "i-3", "i-4")).broker_guid
    kinds = {
        "first": ("succeeded", "service_instance.create_backup"),
        "second": ("cancelled", "service_instance.restore"),
        "third": ("poll", "service_instance.create_backup"),
        "fourth": ("start", "service_instance.clean_up_backup"),
    }
    guids: dict[str, str] = {}
    for number, (name, (state, operation)) in enumerate(kinds.items()):
        guids[name] = put_job(
            url,
            broker_guid,
            state=state,
            operation=operation,
            instance=f"i-{number + 1}",
            # Half a second, which no answer shows and no filter may stumble over.
            created_at=START + timedelta(hours=number, seconds=0.5),
            updated_at=START + timedelta(hours=number, minutes=30, seconds=0.5),
            parent=guids["second"] if "clean_up" in operation else None,
        )
    return guids


#: What is asked for, and which of the four are listed, in order.
FILTERS: list[tuple[dict[str, str], str]] = [
    ({}, "fourth third second first"),
    ({"states": "PROCESSING"}, "fourth"),
    ({"states": "POLLING"}, "third"),
    ({"states": "COMPLETE"}, "first"),
    ({"states": "FAILED"}, "second"),
    ({"states": "FAILED,COMPLETE"}, "second first"),
    ({"states": "PROCESSING,POLLING,COMPLETE,FAILED,FAILED"}, "fourth third second first"),
    ({"operations": "service_instance.create_backup"}, "third first"),
    ({"operations": "service_instance.restore,service_instance.clean_up_backup"}, "fourth second"),
    ({"service_instance_guids": "i-2"}, "second"),
    ({"service_instance_guids": "i-2,none,i-4"}, "fourth second"),
    ({"service_instance_guids": "none"}, ""),
    ({"guids": "none"}, ""),
    ({"created_ats[gt]": "2026-11-24T13:00:00Z"}, "fourth third"),
    ({"created_ats[gte]": "2026-11-24T13:00:00Z"}, "fourth third second"),
    ({"created_ats[lt]": "2026-11-24T13:00:00Z"}, "first"),
    ({"created_ats[lte]": "2026-11-24T13:00:00Z"}, "second first"),
    ({"created_ats[gt]": "2026-11-24T12:00:00Z", "created_ats[lt]": "2026-11-24T15:00:00Z"}, "third second"),
    ({"created_ats[gt]": "2026-11-24T13:00:00Z", "created_ats[gte]": "2026-11-24T12:00:00Z"}, "fourth third"),
    ({"created_ats[gt]": "9999-12-31T23:59:59Z"}, ""),
    ({"created_ats[lte]": "9999-12-31T23:59:59Z"}, "fourth third second first"),
    ({"created_ats[gte]": "0001-01-01T00:00:00Z"}, "fourth third second first"),
    ({"updated_ats[gt]": "2026-11-24T13:30:00Z"}, "fourth third"),
    ({"updated_ats[gte]": "2026-11-24T13:30:00Z"}, "fourth third second"),
    ({"updated_ats[lt]": "2026-11-24T13:30:00Z"}, "first"),
    ({"updated_ats[lte]": "2026-11-24T13:30:00Z"}, "second first"),
    ({"order_by": "created_at"}, "first second third fourth"),
    ({"order_by": "-updated_at"}, "fourth third second first"),
    ({"order_by": "updated_at", "states": "COMPLETE,POLLING"}, "first third"),
    ({"states": "COMPLETE", "operations": "service_instance.restore"}, ""),
]


async def test_it_lists_what_fits_every_filter(client: Client, admin: dict[str, str], four: dict[str, str]) -> None:
    names = {guid: name for name, guid in four.items()}
    for query, expected in FILTERS:
        assert [names[guid] for guid in await listed(client, admin, **query)] == expected.split(), query


async def test_it_filters_what_a_user_can_read(client: Client, settings: Settings, four: dict[str, str]) -> None:
    assert await listed(client, bearer(settings), states="FAILED", service_instance_guids="i-1,i-2") == [four["second"]]


async def test_it_finds_jobs_by_their_guids(client: Client, admin: dict[str, str], four: dict[str, str]) -> None:
    asked = ",".join([four["first"], "not-a-guid", str(uuid.uuid4()), four["third"]])
    assert await listed(client, admin, guids=asked) == [four["third"], four["first"]]


@pytest.mark.parametrize("order_by", ["created_at", "-created_at", "updated_at", "-updated_at"])
async def test_it_walks_all_pages_without_a_gap_or_a_repetition(
    client: Client, settings: Settings, url: str, admin: dict[str, str], order_by: str
) -> None:
    broker_guid = seed(settings).broker_guid
    # Jobs of one moment come in the order of their guids.
    moments = [START + timedelta(seconds=number // 3) for number in range(7)]
    made = [(moment, put_job(url, broker_guid, created_at=moment)) for moment in moments]
    path: str | None = f"/v3/jobs?per_page=2&order_by={order_by}&states=COMPLETE"
    walked, pages = [], []
    while path:
        async with client.get(path, headers=admin) as response:
            body = await response.json()
        walked += [job["guid"] for job in body["resources"]]
        pages.append(body["pagination"])
        link = pages[-1]["next"]
        path = link and link["href"].removeprefix("https://safekeep.example")
    made.sort(reverse=order_by.startswith("-"))
    assert walked == [guid for _, guid in made]
    assert [page["total_pages"] for page in pages] == [4] * 4
    assert pages[0]["previous"] is None
    assert [page["previous"]["href"] for page in pages[1:]] == [
        pages[0]["first"]["href"].replace("page=1", f"page={number}") for number in (1, 2, 3)
    ]
    assert f"order_by={order_by}" in pages[0]["last"]["href"]


async def test_it_counts_up_to_a_bound_and_says_how_to_go_beyond(
    client: Client, settings: Settings, url: str, admin: dict[str, str]
) -> None:
    broker_guid = seed(settings).broker_guid
    rows(
        url,
        "insert into jobs (guid, operation, state, service_instance_guid, broker_guid, resource_guid, user_guid,"
        " request_id, request_body, next_hint_at, deadline_at, created_at, updated_at, completed_at)"
        " select gen_random_uuid(), 'service_instance.create_backup', 'succeeded', 'i-1', %s, gen_random_uuid(), 'u',"
        " 'r', '{}', now(), now(), %s + make_interval(secs => n), now(), now() from generate_series(1, 10050) n",
        broker_guid,
        START,
    )
    page = await list_jobs(client, admin)
    assert (page["pagination"]["total_results"], page["pagination"]["total_pages"]) == (10_000, 200)
    last = await list_jobs(client, admin, page=4, per_page=3000)
    assert len(last["resources"]) == 1000
    assert last["pagination"]["next"] is None
    for query in ({"page": "201"}, {"page": "5", "per_page": "3000"}, {"page": "1000000000"}):
        error = await refusal(client, admin, urlencode(query))
        assert "narrow the list with created_ats[lt]" in error
    assert "Order by updated_at is for fewer than 10000 jobs" in await refusal(client, admin, "order_by=-updated_at")
    older = await list_jobs(client, admin, **{"created_ats[lt]": "2026-11-24T12:00:11Z", "order_by": "updated_at"})
    assert older["pagination"]["total_results"] == 10


async def refusal(client: Client, headers: Mapping[str, str], query: str) -> str:
    """The detail of a query's refusal."""
    async with client.get(f"/v3/jobs?{query}", headers=headers) as response:
        assert response.status == 400, query
        (error,) = (await response.json())["errors"]
    assert (error["code"], error["title"]) == (10005, "CF-BadQueryParameter")
    return str(error["detail"])


REFUSED = [
    ("states=DONE", "States must be among 'PROCESSING', 'POLLING', 'COMPLETE', 'FAILED'"),
    ("states=", "States must be among"),
    ("states=complete", "States must be among"),
    ("states=COMPLETE,,FAILED", "States must be among"),
    ("states=%00", "States must be among"),
    ("states=COMPLETE&states=FAILED", "'states' is given more than once"),
    ("operations=backup", "Operations must be among 'service_instance.create_backup', 'service_instance.restore'"),
    ("guids=", "1 to 255 characters"),
    ("guids=%00", "printable"),
    ("service_instance_guids=a,,b", "separated by commas"),
    (f"service_instance_guids={'x' * 256}", "1 to 255 characters"),
    ("created_ats[gt]=yesterday", "times must be as 2026-11-24T12:00:00Z"),
    ("created_ats[gt]=2026-02-30T12:00:00Z", "times must be"),
    ("created_ats[gt]=2026-11-24T12:00:00%2B01:00", "times must be"),
    ("created_ats[gt]=2026-11-24T12:00:00Z,2026-11-25T12:00:00Z", "times must be"),
    ("created_ats[lt]=0000-01-01T00:00:00Z", "times must be"),
    ("updated_ats[lte]=1", "times must be"),
    ("created_ats[ne]=2026-11-24T12:00:00Z", "Unknown query parameter(s): 'created_ats[ne]'"),
    ("created_ats=2026-11-24T12:00:00Z", "Valid parameters are: 'page', 'per_page', 'created_ats[gt]'"),
    ("created_after=2026-11-24T12:00:00Z", "Unknown query parameter(s): 'created_after'"),
    ("order_by=name", "Order by can only be: 'created_at', '-created_at', 'updated_at', '-updated_at'"),
    ("order_by=created_at;drop table jobs", "Order by can only be"),
    ("order_by=", "Order by can only be"),
    ("page=0", "Page must be between 1 and 1000000000"),
    ("page=%D9%A1", "Page must be between"),
    ("per_page=5001", "Per page must be between 1 and 5000"),
    ("per_page=-1", "Per page must be between"),
    ("per_page=1e3", "Per page must be between"),
]


async def test_it_refuses_other_queries_in_words(client: Client, settings: Settings) -> None:
    for query, words in REFUSED:
        assert words in await refusal(client, bearer(settings), query)


async def test_it_takes_a_query_as_long_as_a_request_can_be(
    client: Client, admin: dict[str, str], four: dict[str, str]
) -> None:
    guids = [four["first"], *(str(uuid.uuid4()) for _ in range(200))]
    assert await listed(client, admin, guids=",".join(guids)) == [four["first"]]


async def test_it_shows_each_job_as_it_is_read_by_itself_and_asks_the_database_twice(
    client: Client, url: str, admin: dict[str, str], four: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(url, "update broker_states set retry_at = now() + interval '1 hour'")
    rows(
        url, "update jobs set broker_description = 'half done', warnings = '[{\"detail\": \"w\"}]' where state = 'poll'"
    )
    rows(url, "delete from service_instances where guid = 'i-3'")
    asked: list[str] = []
    fetch = Database.fetch

    async def note(self: Database, statement: Any, parameters: Any = None) -> Any:
        asked.append(statement)
        return await fetch(self, statement, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "fetch", note)
        resources = (await list_jobs(client, admin))["resources"]
    assert len(asked) == 2
    assert len(resources) == 4
    for job in resources:
        assert job == await (await client.get(f"/v3/jobs/{job['guid']}", headers=admin)).json()
    by_guid = {job["guid"]: job for job in resources}
    assert len(by_guid[four["third"]]["warnings"]) == 3
    assert set(by_guid[four["second"]]["links"]) == {"self", "service_instances", "clean_up"}


# ---------------------------------------------------------------- what holds for every job


async def test_item_02_it_shows_a_job_at_once_on_another_api_process(settings: Settings) -> None:
    instances = [f"i-{number}" for number in range(25)]
    seed(settings, instances=instances)
    async with client_of(settings, HintLog()) as here, client_of(settings, HintLog()) as there:

        async def post_and_read(instance: str) -> int:
            accepted = await here.post(f"/v3/service_instances/{instance}/backups", headers=bearer(settings))
            path = accepted.headers["Location"].removeprefix(settings.external_url)
            return (await there.get(path, headers=bearer(settings))).status

        assert await asyncio.gather(*map(post_and_read, instances)) == [200] * len(instances)


def check_shape(job: dict[str, Any]) -> None:
    assert set(job) == {"guid", "created_at", "updated_at", "operation", "state", "errors", "warnings", "links"}
    assert job["state"] in {"PROCESSING", "POLLING", "COMPLETE", "FAILED"}
    assert isinstance(job["errors"], list)
    assert isinstance(job["warnings"], list)
    for error in job["errors"]:
        assert set(error) == {"code", "title", "detail"}
        assert isinstance(error["code"], int)
        assert error["title"].startswith("CF-") or error["title"] == "UnknownError"
        assert error["detail"]
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(stamp, job["created_at"])
    assert re.fullmatch(stamp, job["updated_at"])
    assert job["updated_at"] >= job["created_at"]


async def test_item_03_it_shows_every_job_with_exactly_eight_keys(
    client: Client, admin: dict[str, str], four: dict[str, str]
) -> None:
    for guid in four.values():
        check_shape(await (await client.get(f"/v3/jobs/{guid}", headers=admin)).json())
    for job in (await list_jobs(client, admin))["resources"]:
        check_shape(job)


async def test_item_05_it_shows_no_failed_job_without_errors_at_any_instant(
    client: Client, settings: Settings, admin: dict[str, str]
) -> None:
    instances = [f"i-{number}" for number in range(30)]
    broker_guid = seed(settings, instances=instances).broker_guid
    requests = [job_request(broker_guid, instance) for instance in instances]
    seen: dict[str, int] = {"FAILED": 0, "other": 0}
    async with Database(settings, size=1, name="test") as database:
        jobs = Jobs(database, settings)
        assert all(await jobs.accept(requests))
        claims = (await jobs.claim([request.guid for request in requests], owner="w", lease_s=60)).claims

        async def fail_all() -> None:
            for claim in claims:
                error = JobError.of(CfError.UNABLE_TO_PERFORM, "backup could not be completed: no space")
                step = Step(
                    claim=claim, worker="w", call="start", event=Event.FAILED, outcome="refused", errors=(error,)
                )
                assert await jobs.record([step]) == [True]

        async def poll(guid: UUID) -> None:
            while True:
                async with client.get(f"/v3/jobs/{guid}", headers=admin) as response:
                    job = await response.json()
                check_shape(job)
                assert (job["state"] == "FAILED") == bool(job["errors"])
                seen["FAILED" if job["state"] == "FAILED" else "other"] += 1
                if job["state"] == "FAILED":
                    return

        await asyncio.gather(fail_all(), *(poll(request.guid) for request in requests))
    assert seen["FAILED"] == len(instances)
    assert seen["other"]


async def test_item_06_it_shows_a_complete_job_without_errors_and_with_its_instance(
    client: Client, settings: Settings, url: str, admin: dict[str, str], four: dict[str, str]
) -> None:
    path = f"/v3/jobs/{four['first']}"
    job = await (await client.get(path, headers=admin)).json()
    assert (job["state"], job["errors"]) == ("COMPLETE", [])
    own = {"self": {"href": f"{settings.external_url}{path}"}}
    assert job["links"] == own | {"service_instances": {"href": f"{settings.external_url}/v3/service_instances/i-1"}}
    rows(url, "delete from service_instances where guid = 'i-1'")
    assert (await (await client.get(path, headers=admin)).json())["links"] == own


@pytest.mark.parametrize("scopes", [["cloud_controller.read"], ["cloud_controller.global_auditor"]])
async def test_item_16_it_shows_a_job_to_any_reader_and_no_secret_in_it(
    client: Client, settings: Settings, url: str, scopes: Sequence[str]
) -> None:
    broker_guid = seed(settings, broker_url="https://broker.internal.example").broker_guid
    request = job_request(
        broker_guid,
        user_guid="private-user",
        request_body='{"service_id": "s", "plan_id": "p", "parameters": {"password": "private-parameter"}}',
    )
    async with Database(settings, size=1, name="test") as database:
        await Jobs(database, settings).accept([request])
    rows(
        url,
        "update jobs set broker_operation = 'private-operation', lease_until = now(), lease_owner = 'private-owner'",
    )
    reader = bearer(settings, "stranger", scopes=scopes)
    texts = [
        await (await client.get(f"/v3/jobs/{request.guid}", headers=reader)).text(),
        await (await client.get("/v3/jobs", headers=bearer(settings))).text(),
    ]
    async with client.get(f"/v3/jobs/{request.guid}/events", headers=reader) as stream:
        assert stream.status == 200
        texts.append((await stream.content.readuntil(b"}\n\n")).decode())
    for text in texts:
        assert str(request.guid) in text
        assert "private" not in text
        assert BROKER_PASSWORD not in text
        assert "internal.example" not in text


@pytest.mark.parametrize("path", ["/v3/jobs/{}", "/v3/jobs/{}/events"])
async def test_item_16_it_finds_no_unknown_job_and_wants_the_scope_to_read(
    client: Client, settings: Settings, path: str
) -> None:
    for guid in (uuid.uuid4(), "not-a-uuid", "%00", "ü", "x" * 5000):
        async with client.get(path.format(guid), headers=bearer(settings)) as response:
            assert response.status == 404
            assert (await response.json())["errors"] == [
                {"code": 10010, "title": "CF-ResourceNotFound", "detail": "Job not found"}
            ]
    writer = bearer(settings, scopes=["cloud_controller.write"])
    assert (await client.get(path.format(uuid.uuid4()), headers=writer)).status == 403
    assert (await client.get(path.format(uuid.uuid4()))).status == 401
