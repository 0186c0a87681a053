"""The API over HTTP on a real database: what each route answers, to whom, and in which words."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from shared.security.tokens import USER_SCOPES, DevelopmentTokens
from shared.states import JobState
from tests.support import bearer, eventually, rows, seed

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from shared.settings import Settings
    from tests.integration.conftest import Client, HintLog

BACKUPS = "/v3/service_instances/i-1/backups"
RESTORE = "/v3/service_instances/i-1/actions/restore"


async def error_of(response: ClientResponse) -> dict[str, Any]:
    body = await response.json()
    assert list(body) == ["errors"]
    (error,) = body["errors"]
    assert set(error) == {"code", "detail", "title"}
    assert isinstance(error["code"], int)
    assert error["detail"]
    assert response.headers["X-VCAP-Request-ID"]
    return dict(error)


def end_job(settings: Settings, state: str = "succeeded", errors: str = "[]") -> None:
    url = settings.database_url.get_secret_value()
    rows(
        url,
        "update jobs set state = %s, errors = %s, due_at = null, completed_at = now(), version = version + 1"
        " where completed_at is null",
        state,
        errors,
    )
    rows(url, "update backups set state = %s, completed_at = now() where state = 'in progress'", state)


# ---------------------------------------------------------------- accepting


async def test_item_01_it_accepts_a_backup_without_a_body_and_says_where_the_job_is(
    client: Client, settings: Settings, hints: HintLog
) -> None:
    seed(settings)
    response = await client.post(BACKUPS, headers=bearer(settings) | {"Host": "evil.example"})
    assert response.status == 202
    assert await response.read() == b""
    match = re.fullmatch(r"https://safekeep\.example(/v3/jobs/([0-9a-f-]{36}))", response.headers["Location"])
    assert match
    job = await client.get(match[1], headers=bearer(settings))
    assert job.status == 200
    await eventually(lambda: [hint.job_guids for hint in hints.hints] == [(match[2],)])


async def test_it_shows_a_job_with_exactly_the_documented_keys(client: Client, settings: Settings) -> None:
    seed(settings)
    accepted = await client.post(BACKUPS, headers=bearer(settings))
    path = accepted.headers["Location"].removeprefix("https://safekeep.example")
    response = await client.get(path, headers=bearer(settings))
    job = await response.json()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.fullmatch(stamp, job.pop("created_at"))
    assert re.fullmatch(stamp, job.pop("updated_at"))
    guid = path.rpartition("/")[2]
    assert job == {
        "guid": guid,
        "operation": "service_instance.create_backup",
        "state": "PROCESSING",
        "errors": [],
        "warnings": [],
        "links": {
            "self": {"href": f"https://safekeep.example/v3/jobs/{guid}"},
            "service_instances": {"href": "https://safekeep.example/v3/service_instances/i-1"},
        },
    }
    assert 1 <= int(response.headers["Retry-After"]) <= 60


async def test_it_answers_304_until_the_job_changes(client: Client, settings: Settings) -> None:
    seed(settings)
    accepted = await client.post(BACKUPS, headers=bearer(settings))
    path = accepted.headers["Location"].removeprefix("https://safekeep.example")
    first = await client.get(path, headers=bearer(settings))
    known = bearer(settings) | {"If-None-Match": first.headers["ETag"]}
    same = await client.get(path, headers=known)
    assert (same.status, await same.read()) == (304, b"")
    end_job(settings)
    changed = await client.get(path, headers=known)
    assert changed.status == 200
    assert (await changed.json())["state"] == "COMPLETE"
    assert "Retry-After" not in changed.headers


async def test_it_shows_the_errors_of_a_failed_job(client: Client, settings: Settings) -> None:
    seed(settings)
    accepted = await client.post(BACKUPS, headers=bearer(settings))
    end_job(settings, JobState.FAILED, '[{"code": 10009, "title": "CF-UnableToPerform", "detail": "no space"}]')
    path = accepted.headers["Location"].removeprefix("https://safekeep.example")
    job = await (await client.get(path, headers=bearer(settings))).json()
    assert job["state"] == "FAILED"
    assert job["errors"] == [{"code": 10009, "title": "CF-UnableToPerform", "detail": "no space"}]


async def test_it_links_the_instance_only_while_it_exists(client: Client, settings: Settings) -> None:
    seed(settings)
    accepted = await client.post(BACKUPS, headers=bearer(settings))
    path = accepted.headers["Location"].removeprefix("https://safekeep.example")
    before = await client.get(path, headers=bearer(settings))
    rows(settings.database_url.get_secret_value(), "delete from service_instances")
    after = await client.get(path, headers=bearer(settings) | {"If-None-Match": before.headers["ETag"]})
    assert set((await after.json())["links"]) == {"self"}


async def test_it_lets_one_of_fifty_simultaneous_posts_win(client: Client, settings: Settings) -> None:
    seed(settings)
    responses = await asyncio.gather(*(client.post(BACKUPS, headers=bearer(settings)) for _ in range(50)))
    assert Counter(response.status for response in responses) == {202: 1, 409: 49}
    loser = next(response for response in responses if response.status == 409)
    assert await error_of(loser) == {
        "code": 60016,
        "title": "CF-AsyncServiceInstanceOperationInProgress",
        "detail": "An operation for service instance name of i-1 is in progress.",
    }


async def test_it_accepts_fifty_posts_on_fifty_instances(client: Client, settings: Settings) -> None:
    guids = [f"i-{number}" for number in range(50)]
    seed(settings, instances=guids)
    paths = [f"/v3/service_instances/{guid}/backups" for guid in guids]
    responses = await asyncio.gather(*(client.post(path, headers=bearer(settings)) for path in paths))
    assert {response.status for response in responses} == {202}
    assert len({response.headers["Location"] for response in responses}) == 50


async def test_it_accepts_without_a_queue_and_says_that_it_is_degraded(
    client: Client, settings: Settings, hints: HintLog
) -> None:
    seed(settings)
    hints.is_away = True
    assert (await client.post(BACKUPS, headers=bearer(settings))).status == 202
    ready = await client.get("/readyz")
    assert ready.status == 200
    assert (await ready.json())["status"] == "degraded"


async def test_it_answers_503_without_a_database(client: Client, settings: Settings, postgres_url: str) -> None:
    seed(settings)
    name = settings.database_url.get_secret_value().rpartition("/")[2]
    try:
        rows(postgres_url, f"alter database {name} allow_connections false")
        rows(postgres_url, "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", name)
        response = await client.post(BACKUPS, headers=bearer(settings))
        assert response.status == 503
        assert (await error_of(response))["code"] == 10015
        assert int(response.headers["Retry-After"]) > 0
        assert (await client.get("/readyz")).status == 503
        assert (await client.get("/healthz")).status == 200
    finally:
        rows(postgres_url, f"alter database {name} allow_connections true")


# ---------------------------------------------------------------- refusing


@pytest.mark.parametrize(
    "guid",
    [
        "no-such-instance",
        "not a uuid",
        "%00",
        "i-1%00",
        "%F0%9F%92%BE",
        "..%2F..%2Fetc",
        "x" * 6_000,
        "%27%3B drop table jobs--",
    ],
)
async def test_item_10_it_knows_no_instance_of_any_other_name(client: Client, settings: Settings, guid: str) -> None:
    seed(settings)
    for method, path in (("POST", "backups"), ("GET", "backups"), ("POST", "actions/restore")):
        response = await client.request(
            method, f"/v3/service_instances/{guid}/{path}", headers=bearer(settings), json={"backup_id": "x"}
        )
        assert response.status == 404
        assert await error_of(response) == {
            "code": 10010,
            "title": "CF-ResourceNotFound",
            "detail": "Service instance not found",
        }


@pytest.mark.parametrize("guid", ["x", "%00", "%E2%98%83", str(uuid.uuid4()), "x" * 6_000])
async def test_item_10_it_knows_no_job_of_any_other_guid(client: Client, settings: Settings, guid: str) -> None:
    response = await client.get(f"/v3/jobs/{guid}", headers=bearer(settings))
    assert response.status == 404
    assert (await error_of(response))["detail"] == "Job not found"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 10002),
        ({"Authorization": ""}, 10002),
        ({"Authorization": "Basic dTpw"}, 10002),
        ({"Authorization": "bearer"}, 10002),
        ({"Authorization": "bearer  "}, 10002),
        ({"Authorization": "bearer nonsense"}, 1000),
        ({"Authorization": "BEARER a.b.c"}, 1000),
    ],
)
async def test_it_tells_no_token_from_a_bad_one(client: Client, headers: dict[str, str], code: int) -> None:
    for method, path in (("POST", BACKUPS), ("GET", BACKUPS), ("POST", RESTORE), ("GET", "/v3/jobs/x")):
        response = await client.request(method, path, headers=headers)
        assert response.status == 401
        assert (await error_of(response))["code"] == code


async def test_it_lets_every_reader_with_the_guid_read_a_job(client: Client, settings: Settings) -> None:
    seed(settings)
    accepted = await client.post(BACKUPS, headers=bearer(settings))
    path = accepted.headers["Location"].removeprefix("https://safekeep.example")
    stranger = bearer(settings, "stranger", scopes=["cloud_controller.read"])
    assert (await client.get(path, headers=stranger)).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v3/nothing"),
        ("DELETE", BACKUPS),
        ("PUT", "/v3/jobs/x"),
        ("POST", "/v3/info"),
        ("GET", RESTORE),
        ("OPTIONS", BACKUPS),
        ("GET", "/v3/service_instances/i-1/backups/"),
    ],
)
async def test_item_10_it_knows_no_other_routes_and_says_so_to_anybody(client: Client, method: str, path: str) -> None:
    response = await client.request(method, path)
    assert response.status == 404
    assert await error_of(response) == {"code": 10000, "title": "CF-NotFound", "detail": "Unknown request"}


# ---------------------------------------------------------------- listing


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "Limit must be between 1 and 1000"),
        ("limit=-1", "Limit must be between 1 and 1000"),
        ("limit=1001", "Limit must be between 1 and 1000"),
        ("limit=ten", "Limit must be between 1 and 1000"),
        ("limit=1.5", "Limit must be between 1 and 1000"),
        ("limit=", "Limit must be between 1 and 1000"),
        ("limit=%D9%A3", "Limit must be between 1 and 1000"),
        ("limit=" + "9" * 500, "Limit must be between 1 and 1000"),
        ("limit=1&limit=2", "'limit' is given more than once"),
        ("page=2", "Unknown query parameter(s): 'page'. Valid parameters are: 'limit'"),
    ],
)
async def test_item_08_it_refuses_other_limits(client: Client, settings: Settings, query: str, words: str) -> None:
    seed(settings)
    response = await client.get(f"{BACKUPS}?{query}", headers=bearer(settings))
    assert response.status == 400
    error = await error_of(response)
    assert (error["code"], error["detail"]) == (10005, f"The query parameter is invalid: {words}")


async def test_item_08_it_lists_backups_newest_first(client: Client, settings: Settings) -> None:
    seed(settings)
    for _ in range(3):
        assert (await client.post(BACKUPS, headers=bearer(settings))).status == 202
        end_job(settings)
    assert (await client.post(BACKUPS, headers=bearer(settings))).status == 202  # open: not listed
    listed = await (await client.get(BACKUPS, headers=bearer(settings))).json()
    assert list(listed) == ["backups"]
    assert len(listed["backups"]) == 3
    assert all(set(backup) == {"id", "created_at"} for backup in listed["backups"])
    assert all(type(backup["created_at"]) is int for backup in listed["backups"])
    stored = rows(
        settings.database_url.get_secret_value(),
        "select guid from backups where state = 'succeeded' order by created_at desc",
    )
    assert [backup["id"] for backup in listed["backups"]] == [str(row["guid"]) for row in stored]
    one = await (await client.get(f"{BACKUPS}?limit=1", headers=bearer(settings))).json()
    assert one["backups"] == listed["backups"][:1]


# ---------------------------------------------------------------- restoring


async def backed_up(client: Client, settings: Settings) -> str:
    assert (await client.post(BACKUPS, headers=bearer(settings))).status == 202
    end_job(settings)
    listed = await (await client.get(f"{BACKUPS}?limit=1", headers=bearer(settings))).json()
    return str(listed["backups"][0]["id"])


async def test_it_accepts_a_restore_of_a_listed_backup(client: Client, settings: Settings) -> None:
    seed(settings)
    backup_id = await backed_up(client, settings)
    response = await client.post(RESTORE, headers=bearer(settings), json={"backup_id": backup_id})
    assert response.status == 202
    assert await response.read() == b""
    path = response.headers["Location"].removeprefix("https://safekeep.example")
    job = await (await client.get(path, headers=bearer(settings))).json()
    assert job["operation"] == "service_instance.restore"


async def test_it_does_not_restore_while_a_backup_is_made(client: Client, settings: Settings) -> None:
    seed(settings)
    backup_id = await backed_up(client, settings)
    assert (await client.post(BACKUPS, headers=bearer(settings))).status == 202
    response = await client.post(RESTORE, headers=bearer(settings), json={"backup_id": backup_id})
    assert response.status == 409
    assert (await error_of(response))["code"] == 60016


async def test_it_restores_from_another_instance(client: Client, settings: Settings) -> None:
    seed(settings, instances=["i-1", "i-2"])
    backup_id = await backed_up(client, settings)
    path = "/v3/service_instances/i-2/actions/restore"
    body = {"backup_id": backup_id, "source_service_instance_guid": "i-1"}
    assert (await client.post(path, headers=bearer(settings), json=body)).status == 202
    stored = rows(settings.database_url.get_secret_value(), "select request_body::jsonb as body from jobs")[-1]["body"]
    assert (stored["backup_id"], stored["source_instance_id"]) == (backup_id, "i-1")
    # Without naming the source it is no backup of this instance.
    end_job(settings)
    response = await client.post(path, headers=bearer(settings), json={"backup_id": backup_id})
    assert response.status == 422


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"{", 400, 1001, "invalid request body"),
        (b"[]", 400, 1001, "invalid request body"),
        (b"7", 400, 1001, "invalid request body"),
        (b"null", 400, 1001, "invalid request body"),
        (b"\xff", 400, 1001, "invalid request body"),
        (b"[" * 5_000, 400, 1001, "invalid request body"),
        (b'{"a": 1, "b": 2}', 422, 10008, "Unknown field(s): 'a', 'b'"),
        (b'{"backup_id": 7}', 422, 10008, "backup_id"),
        (b'{"backup_id": ""}', 422, 10008, "backup_id"),
        (b'{"backup_id": "a\\u0000"}', 422, 10008, "backup_id"),
        (b'{"target_timestamp": "yesterday"}', 422, 10008, "target_timestamp: must be a date-time of RFC 3339"),
        (b'{"target_timestamp": "2026-11-23"}', 422, 10008, "target_timestamp"),
        (b'{"target_timestamp": "2026-11-23T10:00:00"}', 422, 10008, "target_timestamp"),
        (b'{"target_timestamp": 7}', 422, 10008, "target_timestamp"),
        (b"", 422, 10008, "One of backup_id, target_timestamp and restore_point must be given"),
        (b"{}", 422, 10008, "One of backup_id, target_timestamp and restore_point must be given"),
        (b'{"source_service_instance_guid": "i-1"}', 422, 10008, "One of backup_id"),
        (b'{"backup_id": "none"}', 422, 10008, "has no backup none that succeeded"),
        (b'{"restore_point": "pitr"}', 422, 10008, "does not support restoring to a point in time"),
        (b'{"target_timestamp": "2026-11-23T10:00:00Z"}', 422, 10008, "restoring to a point in time"),
        (b'{"backup_id": "x", "source_service_instance_guid": "i-9"}', 422, 10008, "Source service instance i-9 not"),
        (b'{"backup_id": "' + b"x" * 70_000 + b'"}', 413, 1004, "too large"),
    ],
)
async def test_item_09_it_says_what_is_wrong_with_a_restore(
    client: Client, settings: Settings, body: bytes, status: int, code: int, words: str
) -> None:
    seed(settings)
    headers = bearer(settings) | {"Content-Type": "application/json"}
    response = await client.post(RESTORE, headers=headers, data=body)
    error = await error_of(response)
    assert (response.status, error["code"]) == (status, code)
    assert words in error["detail"]


# ---------------------------------------------------------------- around it


async def test_it_tells_clients_where_everything_is(client: Client) -> None:
    root = await (await client.get("/")).json()
    assert root["links"]["cloud_controller_v3"]["href"] == "https://safekeep.example/v3"
    assert re.fullmatch(r"3\.\d+\.\d+", root["links"]["cloud_controller_v3"]["meta"]["version"])
    assert (await (await client.get("/v3")).json())["links"]["self"]["href"] == "https://safekeep.example/v3"
    info = await (await client.get("/v3/info")).json()
    assert (info["name"], info["custom"]) == ("Safekeep", {"chaos_allowed": False})
    health = await client.get("/healthz")
    assert (health.status, await health.text()) == (200, "OK")
    ready = await client.get("/readyz")
    assert await ready.json() == {"status": "ok", "database": "ok", "queue": "ok"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1_2", "abc-1_2::"), ("a b\tc$%", "abc::"), ("$$$", ""), ("x" * 400, "x" * 255 + "::")],
)
async def test_item_11_it_gives_every_request_an_id_by_a_known_rule(client: Client, sent: str, kept: str) -> None:
    for path in ("/healthz", "/v3/nothing", "/v3/jobs/x"):
        response = await client.get(path, headers={"X-Vcap-Request-Id": sent})
        assert re.fullmatch(re.escape(kept) + r"[0-9a-f-]{36}", response.headers["X-VCAP-Request-ID"])


async def test_it_stores_the_request_id_and_trace_with_the_job(client: Client, settings: Settings) -> None:
    seed(settings)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = bearer(settings) | {"X-Vcap-Request-Id": "mine", "traceparent": trace}
    response = await client.post(BACKUPS, headers=headers)
    (job,) = rows(settings.database_url.get_secret_value(), "select request_id, traceparent, user_guid from jobs")
    assert job == {
        "request_id": response.headers["X-VCAP-Request-ID"],
        "traceparent": trace,
        "user_guid": "developer-guid",
    }


async def test_it_takes_the_plans_limit_as_the_deadline_when_it_is_shorter(client: Client, settings: Settings) -> None:
    seed(settings)
    url = settings.database_url.get_secret_value()
    rows(url, "update service_plans set maximum_polling_duration_s = 90")
    await client.post(BACKUPS, headers=bearer(settings))
    assert rows(url, "select extract(epoch from deadline_at - created_at)::int as s from jobs") == [{"s": 90}]


async def test_it_refuses_tokens_of_another_installation(client: Client, settings: Settings) -> None:
    other = DevelopmentTokens(settings.model_copy(update={"token_audience": "elsewhere"}))
    token = other.sign("u", "u", USER_SCOPES, 60)
    assert (await client.get("/v3/jobs/x", headers={"Authorization": f"bearer {token}"})).status == 401
