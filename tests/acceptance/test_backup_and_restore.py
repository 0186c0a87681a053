"""The main job, end to end on real parts, and what happens to it when parts are killed."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from deploy.local.stack import OFFERING, PLAN
from tests.acceptance.user import User, dumps_made, execute, provision
from tests.queues import empty, length
from tests.support import eventually, rows

if TYPE_CHECKING:
    from deploy.local.stack import Stack

pytestmark = pytest.mark.timeout(180)


async def test_it_backs_up_and_restores_a_real_database(user: User) -> None:
    database = user.stack.bind()
    execute(database, "create table orders as select n, md5(n::text) as word from generate_series(1, 20000) n")
    execute(database, "create sequence numbers start 42; create view big as select * from orders where n > 19990")
    before = execute(database, "select count(*), md5(string_agg(word, ',' order by n)) from orders")

    (job,) = await user.follow(await user.accepted())
    assert (job["state"], job["errors"], job["operation"]) == ("COMPLETE", [], "service_instance.create_backup")
    (backup,) = await user.backups()

    execute(database, "drop view big; drop sequence numbers; drop table orders; create table later (id int)")
    (job,) = await user.follow(await user.accepted("actions/restore", {"backup_id": backup["id"]}))
    assert (job["state"], job["operation"]) == ("COMPLETE", "service_instance.restore")

    assert execute(database, "select count(*), md5(string_agg(word, ',' order by n)) from orders") == before
    assert execute(database, "select nextval('numbers'), (select count(*) from big)") == [(42, 10)]
    assert execute(database, "select to_regclass('later')") == [(None,)]
    execute(database, "insert into orders values (0, 'the binding still owns it')")
    sizes = rows(user.stack.database_url, "select size_bytes from backups")
    assert sizes[0]["size_bytes"] > 1000


async def test_it_deletes_a_backup_with_its_dump_and_keeps_the_others(user: User) -> None:
    for _ in range(2):
        await user.follow(await user.accepted())
    gone, kept = await user.backups()
    broker = user.stack.directory / "broker"
    assert len(list(broker.rglob("*.dump"))) == 2
    status, location = await user.delete(user.path(f"backups/{gone['id']}"))
    assert status == 202
    (job,) = await user.follow(location)
    assert (job["state"], job["operation"]) == ("COMPLETE", "service_instance.delete_backup")
    assert await user.backups() == [kept]
    assert len(list(broker.rglob("*.dump"))) == 1


async def test_it_makes_fifty_backups_of_fifty_instances(user: User) -> None:
    guids = [str(uuid.uuid4()) for _ in range(50)]
    try:
        await asyncio.to_thread(provision, user.stack, guids)
        answers = await asyncio.gather(*(user.post(user.path("backups", guid)) for guid in guids))
        assert {status for status, _ in answers} == {202}
        jobs = await user.follow(*(location for _, location in answers))
        assert Counter(job["state"] for job in jobs) == {"COMPLETE": 50}
        assert sorted(dumps_made(user.stack).values()) == [1] * 50
    finally:
        plan = user.stack.broker.find_plan(OFFERING, PLAN)
        for guid in guids:
            user.stack.broker.deprovision(guid, plan)


async def test_it_loses_no_job_when_a_worker_is_killed_in_the_middle_of_a_call(user: User) -> None:
    stack = user.stack
    broker = stack.children["broker"]
    broker.signal(signal.SIGSTOP)  # so that the call is certainly under way
    try:
        location = await user.accepted()
        owner = "select lease_owner from jobs where lease_owner is not null"
        await eventually(lambda: bool(rows(stack.database_url, owner)))
        pid = int(rows(stack.database_url, owner)[0]["lease_owner"].rpartition(":")[2])
        next(child for child in stack.children.values() if child.pid == pid).kill()
    finally:
        broker.signal(signal.SIGCONT)
    (job,) = await user.follow(location)
    assert job["state"] == "COMPLETE"
    (stored,) = rows(stack.database_url, "select attempts, resource_guid from jobs")
    assert stored["attempts"] >= 2
    # The broker got the same id from both workers, and made one backup.
    assert dumps_made(stack) == {str(stored["resource_guid"]): 1}
    assert [backup["id"] for backup in await user.backups()] == [str(stored["resource_guid"])]


async def test_it_loses_no_job_when_all_workers_are_killed(user: User) -> None:
    stack = user.stack
    location = await user.accepted()
    for name in ("worker-1", "worker-2"):
        stack.children[name].kill()
    stack.start_worker("worker-3")
    (job,) = await user.follow(location)
    assert job["state"] == "COMPLETE"
    assert sum(dumps_made(stack).values()) == 1


async def test_it_loses_no_job_when_the_queue_is_emptied(user: User) -> None:
    stack = user.stack
    guids = [str(uuid.uuid4()) for _ in range(5)]
    await asyncio.to_thread(provision, stack, guids)
    for name in ("worker-1", "worker-2"):
        stack.children[name].stop()
    locations = [await user.accepted(instance=guid) for guid in guids]
    await eventually(lambda: length(stack.settings, "start") > 0)
    # Until nothing comes any more: the last hints may still be on their way.
    await eventually(lambda: empty(stack.settings) == 0)
    stack.start_worker("worker-3")
    jobs = await user.follow(*locations)
    assert {job["state"] for job in jobs} == {"COMPLETE"}
    assert sorted(dumps_made(stack).values()) == [1] * 5


async def test_it_goes_on_after_the_broker_was_killed(user: User) -> None:
    stack = user.stack
    database = stack.bind()
    execute(database, "create table big as select n, repeat(md5(n::text), 20) as t from generate_series(1, 60000) n")
    location = await user.accepted()
    await eventually(lambda: sum(dumps_made(stack).values()) > 0)
    broker = stack.children["broker"]
    broker.kill()
    broker.start()
    (job,) = await user.follow(location)
    assert job["state"] == "COMPLETE"
    (backup,) = await user.backups()
    execute(database, "drop table big")
    (job,) = await user.follow(await user.accepted("actions/restore", {"backup_id": backup["id"]}))
    assert job["state"] == "COMPLETE"
    assert execute(database, "select count(*) from big") == [(60000,)]


async def test_it_accepts_while_the_queue_is_away_and_does_the_job_later(
    stack_on_own_queue: Stack,
    own_queue: Any,  # a server of either kind
) -> None:
    async with aiohttp.ClientSession() as session:
        user = User(stack_on_own_queue, session)
        own_queue.kill()
        location = await user.accepted()
        assert (await user.get(f"{user.stack.api_url}/readyz"))["status"] == "degraded"
        own_queue.start()
        (job,) = await user.follow(location)
        assert job["state"] == "COMPLETE"


async def test_it_shows_no_secret_in_any_log(user: User) -> None:
    await user.follow(await user.accepted())
    identity = user.stack.identity
    secret = [identity.broker_password, identity.secret_key, identity.token_key, user.stack.developer_token]
    for log in user.stack.directory.glob("*.log"):
        text = log.read_text()
        assert text
        assert not [word for word in secret if word in text], log.name
