"""POSTs that are sent again: the same key and request get the same answer, and begin nothing twice."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from shared.records import IdempotencyKey
from shared.store.database import Database
from shared.store.idempotency_keys import IdempotencyKeys
from shared.store.jobs import Jobs
from tests.integration.scene import PATH, SUCCEEDED, Scene
from tests.support import bearer, eventually, job_request, rows

if TYPE_CHECKING:
    from collections.abc import Callable

RESTORE = "/v3/service_instances/i-1/actions/restore"
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


def jobs_in(scene: Scene) -> int:
    return len(rows(scene.url, "select 1 from jobs"))


async def test_it_gives_the_same_answer_to_the_same_request(scene: Scene, engine_of: Callable[..., Any]) -> None:
    first = await scene.ask("POST", PATH, headers=KEY)
    assert first[0] == 202
    assert await scene.ask("POST", PATH, headers=KEY) == first  # and not 409, though its job is open
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
    assert await scene.ask("POST", PATH, headers=KEY) == first
    assert jobs_in(scene) == 1
    assert (await scene.ask("POST", PATH, headers={"Idempotency-Key": "another"}))[1] != first[1]
    assert jobs_in(scene) == 2


async def test_it_takes_a_key_with_or_without_quotes_for_the_same(scene: Scene) -> None:
    first = await scene.ask("POST", PATH, headers={"Idempotency-Key": "key"})
    assert await scene.ask("POST", PATH, headers={"Idempotency-Key": '"key"'}) == first


async def test_it_begins_one_operation_however_many_send_it_at_once(scene: Scene) -> None:
    answers = await asyncio.gather(*(scene.ask("POST", PATH, headers=KEY) for _ in range(30)))
    assert {status for status, _ in answers} == {202}
    assert len({location for _, location in answers}) == 1
    assert jobs_in(scene) == 1


async def test_it_refuses_the_key_for_another_request(scene: Scene) -> None:
    backup, other = str(uuid.uuid4()), str(uuid.uuid4())
    rows(scene.url, SUCCEEDED, backup)
    rows(scene.url, SUCCEEDED, other)
    assert (await scene.ask("POST", RESTORE, headers=KEY, json={"backup_id": backup}))[0] == 202
    for path, body in (
        (RESTORE, {"backup_id": other}),
        (PATH, None),
        ("/v3/service_instances/i-2/backups", None),
    ):
        status, answer = await scene.ask("POST", path, headers=KEY, json=body)
        assert status == 422
        assert answer["errors"] == [
            {
                "code": 10008,
                "title": "CF-UnprocessableEntity",
                "detail": "The Idempotency-Key was used with another request.",
            }
        ]


async def test_it_gives_the_same_answer_though_the_backup_is_gone_since(scene: Scene) -> None:
    backup = str(uuid.uuid4())
    rows(scene.url, SUCCEEDED, backup)
    first = await scene.ask("POST", RESTORE, headers=KEY, json={"backup_id": backup})
    rows(scene.url, "update backups set state = 'deleted'")
    assert await scene.ask("POST", RESTORE, headers=KEY, json={"backup_id": backup}) == first


async def test_it_keeps_the_keys_of_users_apart(scene: Scene) -> None:
    first = await scene.ask("POST", PATH, headers=KEY)
    admin = bearer(scene.settings, "admin", is_admin=True)
    assert (await scene.ask("POST", PATH, headers=KEY | admin))[0] == 409
    second = await scene.ask("POST", "/v3/service_instances/i-2/backups", headers=KEY | admin)
    assert second[0] == 202
    assert second[1] != first[1]


async def test_it_does_not_keep_a_key_of_what_was_refused(scene: Scene, engine_of: Callable[..., Any]) -> None:
    await scene.ask("POST", PATH)
    assert (await scene.ask("POST", PATH, headers=KEY))[0] == 409
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
    assert (await scene.ask("POST", PATH, headers=KEY))[0] == 202


async def test_it_forgets_a_key_after_a_day(scene: Scene, engine_of: Callable[..., Any]) -> None:
    first = await scene.ask("POST", PATH, headers=KEY)
    rows(scene.url, "update idempotency_keys set created_at = now() - interval '23 hours 59 minutes'")
    assert await scene.ask("POST", PATH, headers=KEY) == first
    rows(scene.url, "update idempotency_keys set created_at = now() - interval '24 hours 1 second'")
    assert (await scene.ask("POST", PATH, headers=KEY))[0] == 409
    async with engine_of(scene.settings):
        await eventually(lambda: rows(scene.url, "select 1 from idempotency_keys") == [])
        await eventually(lambda: rows(scene.url, "select 1 from jobs where completed_at is null") == [])
    rows(
        scene.url,
        "insert into idempotency_keys select user_guid, 'old', 'f', guid, now() - interval '2 days' from jobs",
    )
    again = await scene.ask("POST", PATH, headers={"Idempotency-Key": "old"})
    assert again[0] == 202
    assert await scene.ask("POST", PATH, headers={"Idempotency-Key": "old"}) == again


async def test_it_makes_cancelling_repeatable(scene: Scene) -> None:
    _, location = await scene.ask("POST", PATH)
    cancelled = await scene.ask("POST", f"{location}/actions/cancel", headers=KEY)
    assert cancelled == (202, location)
    assert await scene.ask("POST", f"{location}/actions/cancel", headers=KEY) == cancelled
    assert (await scene.ask("POST", f"{location}/actions/cancel"))[0] == 422


@pytest.mark.parametrize("key", ["", '""', '"open', "two words", "x" * 256, "sm\u00f6rg\u00e5s", "back\\slash"])
async def test_it_refuses_what_is_no_key(scene: Scene, key: str) -> None:
    status, answer = await scene.ask("POST", PATH, headers={"Idempotency-Key": key})
    assert (status, answer["errors"][0]["code"]) == (400, 1004)
    assert "Idempotency-Key must be" in answer["errors"][0]["detail"]
    assert jobs_in(scene) == 0


async def test_it_lets_the_first_count_when_requests_with_one_key_share_a_statement(scene: Scene) -> None:
    (broker,) = rows(scene.url, "select guid from brokers")
    key = IdempotencyKey("k", "f")
    async with Database(scene.settings, size=1, name="test") as database:
        requests = [job_request(broker["guid"], instance, key=key) for instance in ("i-1", "i-2")]
        first, second = await Jobs(database, scene.settings).accept(requests)
        assert (first.is_stored, first.known) == (True, None)
        assert second.known == (requests[0].guid, "f")
        assert not second.is_stored
        assert await IdempotencyKeys(database).find("u", "k") == (requests[0].guid, "f")
