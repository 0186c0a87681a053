"""The reference broker keeps every obligation of the backup extension (docs/broker-api.md)."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest

from deploy.postgres_broker.instances import database_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.postgres_broker.conftest import Platform

    Execute = Callable[[str, str], list[Any]]


def new() -> str:
    return str(uuid.uuid4())


def test_it_says_in_its_catalog_which_plans_have_backups(platform: Platform) -> None:
    (offering,) = platform.account.call("GET", "/v2/catalog")["services"]
    assert offering["metadata"]["osmapi"]["version"] == "1.0"
    assert {"backup", "restore"} <= set(offering["metadata"]["osmapi"]["features"])
    plans = {plan["name"]: plan for plan in offering["plans"]}
    assert plans["unprotected"]["metadata"]["osmapi"]["features"] == []
    assert plans["small"]["maximum_polling_duration"] == 7200


def test_it_starts_one_dump_for_many_equal_requests_at_once(platform: Platform) -> None:
    backup = new()
    path = f"{platform.instance()}/backups/{backup}"
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: platform.start(path), range(16)))
    assert {status for status, _ in answers} <= {200, 202}
    assert len({body["operation"] for status, body in answers if status == 202}) == 1
    platform.finish(path)
    assert platform.ledger() == {backup: 1}


def test_it_answers_a_finished_backup_with_the_backup(platform: Platform) -> None:
    instance = platform.instance()
    backup = platform.backed_up(instance)
    status, body = platform.start(f"{instance}/backups/{backup}", context={"instance_name": "renamed"})
    assert status == 200
    assert body == platform.send("GET", f"{instance}/backups/{backup}")[1]
    assert body["id"] == backup
    assert body["state"] == "succeeded"
    assert type(body["created_at"]) is int
    assert body["size_bytes"] > 0
    assert platform.ledger() == {backup: 1}


def test_it_refuses_an_id_that_is_in_use_with_other_attributes(platform: Platform) -> None:
    instance = platform.instance()
    backup = platform.backed_up(instance)
    status, body = platform.start(f"{instance}/backups/{backup}", parameters={"other": True})
    assert (status, bool(body["description"])) == (409, True)


def test_it_is_busy_with_one_operation_per_instance(platform: Platform, execute: Execute) -> None:
    instance = platform.instance()
    execute(
        platform.bind(instance), "create table t as select n, repeat(md5(n::text), 50) from generate_series(1, 50000) n"
    )
    first, second = f"{instance}/backups/{new()}", f"{instance}/backups/{new()}"
    assert platform.start(first)[0] == 202
    status, body, headers = platform.send("PUT", f"{second}?accepts_incomplete=true", platform.plan)
    assert (status, body["error"], headers["Retry-After"]) == (422, "ConcurrencyError", "1")
    platform.finish(first)
    assert platform.start(second)[0] == 202  # refused, it left nothing behind
    platform.finish(second)


def test_it_keeps_a_failed_backup_failed_and_says_why(platform: Platform, execute: Execute, postgres_url: str) -> None:
    instance = platform.instance()
    name = database_of(instance)
    execute(postgres_url, f"alter database {name} rename to {name}_away")
    backup = new()
    path = f"{instance}/backups/{backup}"
    platform.start(path)
    over = platform.finish(path)
    execute(postgres_url, f"alter database {name}_away rename to {name}")
    assert over["state"] == "failed"
    assert "does not exist" in over["description"]
    assert platform.start(path)[0] == 202
    assert platform.finish(path) == over
    assert platform.ledger() == {backup: 1}


@pytest.mark.parametrize("kind", ["backups", "restores"])
def test_it_never_uses_a_deleted_id_again_known_or_not(platform: Platform, kind: str) -> None:
    instance = platform.instance()
    path = f"{instance}/{kind}/{new()}"
    assert platform.send("DELETE", path)[0] == 410
    platform.restart()
    assert platform.start(path, **({"backup_id": new()} if kind == "restores" else {}))[0] in {410, 422}
    assert platform.ledger() == {}


def test_it_removes_a_backup_and_its_file(platform: Platform) -> None:
    instance = platform.instance()
    backup = platform.backed_up(instance)
    path = f"{instance}/backups/{backup}"
    assert platform.send("DELETE", path)[0] == 200
    assert platform.send("DELETE", path)[0] == 410
    assert platform.send("GET", path)[0] == 404
    assert platform.start(path)[0] == 410
    assert list((platform.directory / "dumps").iterdir()) == []


def test_it_stops_a_running_dump_that_is_deleted(platform: Platform, execute: Execute) -> None:
    instance = platform.instance()
    execute(
        platform.bind(instance), "create table t as select n, repeat(md5(n::text), 90) from generate_series(1, 90000) n"
    )
    path = f"{instance}/backups/{new()}"
    platform.start(path)
    assert platform.send("DELETE", path)[0] == 200
    platform.backed_up(instance)  # the instance is free, and the next one is whole
    assert len(list((platform.directory / "dumps").iterdir())) == 1


def test_it_finishes_after_a_restart_what_it_had_begun(platform: Platform, execute: Execute) -> None:
    instance = platform.instance()
    uri = platform.bind(instance)
    execute(uri, "create table t as select n, repeat(md5(n::text), 50) as w from generate_series(1, 90000) n")
    backup = new()
    path = f"{instance}/backups/{backup}"
    platform.start(path)
    platform.restart()
    assert platform.finish(path)["state"] == "succeeded"
    execute(uri, "drop table t")
    restore = f"{instance}/restores/{new()}"
    assert platform.start(restore, backup_id=backup)[0] == 202
    platform.restart()
    assert platform.finish(restore)["state"] == "succeeded"
    assert execute(uri, "select count(*) from t") == [(90000,)]


def test_it_restores_another_instances_backup(platform: Platform, execute: Execute) -> None:
    source, target = platform.instance(), platform.instance()
    execute(platform.bind(source), "create table t as select 7 as n")
    backup = platform.backed_up(source)
    path = f"{target}/restores/{new()}"
    assert platform.start(path, backup_id=backup)[0] == 422
    assert platform.start(path, backup_id=backup, source_instance_id=source)[0] == 202
    assert platform.finish(path)["state"] == "succeeded"
    assert execute(platform.bind(target), "select n from t") == [(7,)]


def test_it_restores_under_a_connected_application(platform: Platform, execute: Execute) -> None:
    instance = platform.instance()
    uri = platform.bind(instance)
    execute(uri, "create table t as select 1 as n")
    backup = platform.backed_up(instance)
    with psycopg.connect(uri, autocommit=True) as application:
        application.execute("update t set n = 2")
        path = f"{instance}/restores/{new()}"
        platform.start(path, backup_id=backup)
        assert platform.finish(path)["state"] == "succeeded"
        with pytest.raises(psycopg.OperationalError):
            application.execute("select 1")
    assert execute(uri, "select n from t") == [(1,)]


def test_it_leaves_the_old_data_when_a_restore_fails(platform: Platform, execute: Execute) -> None:
    instance = platform.instance()
    uri = platform.bind(instance)
    execute(uri, "create table t as select 1 as n")
    backup = platform.backed_up(instance)
    (dump,) = (platform.directory / "dumps").iterdir()
    dump.write_bytes(dump.read_bytes()[:200])
    execute(uri, "update t set n = 2")
    path = f"{instance}/restores/{new()}"
    platform.start(path, backup_id=backup)
    over = platform.finish(path)
    assert over["state"] == "failed"
    assert over["description"]
    assert execute(uri, "select n from t") == [(2,)]


def test_it_keeps_backups_of_an_instance_that_is_gone(platform: Platform) -> None:
    instance = platform.instance()
    backup = platform.backed_up(instance)
    platform.account.deprovision(instance, platform.plan)
    assert platform.send("GET", f"{instance}/backups/{backup}")[0] == 200
    assert platform.start(f"{instance}/backups/{new()}")[0] == 404


def test_it_lists_backups_newest_first(platform: Platform) -> None:
    instance = platform.instance()
    made = [platform.backed_up(instance) for _ in range(3)]
    listed = platform.send("GET", f"{instance}/backups")[1]["backups"]
    assert [backup["id"] for backup in listed] == made[::-1]
    assert len(platform.send("GET", f"{instance}/backups?limit=1")[1]["backups"]) == 1
    assert platform.send("GET", f"{instance}/backups?limit=0")[0] == 400


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"{}", 400, None),
        (b'{"service_id": "x", "plan_id": "y"}', 400, None),
    ],
)
def test_it_refuses_requests_that_make_no_sense(platform: Platform, body: bytes, status: int, word: str | None) -> None:
    path = f"{platform.instance()}/backups/{new()}?accepts_incomplete=true"
    answered, said, _ = platform.send("PUT", path, raw=body)
    assert (answered, said.get("error")) == (status, word)
    assert said["description"]


def test_it_wants_asynchronous_platforms_and_plans_with_backups(platform: Platform) -> None:
    status, body, _ = platform.send("PUT", f"{platform.instance()}/backups/{new()}", platform.plan)
    assert (status, body["error"]) == (422, "AsyncRequired")
    plan = platform.account.find_plan("postgres", "unprotected")
    path = f"{platform.instance('unprotected')}/backups/{new()}?accepts_incomplete=true"
    status, body, _ = platform.send("PUT", path, plan)
    assert (status, body["error"]) == (422, "BackupNotSupported")


def test_it_asks_for_credentials_and_a_version_and_echoes_the_request(platform: Platform) -> None:
    path = f"{new()}/backups"
    assert platform.send("GET", path, headers={"Authorization": ""})[0] == 401
    assert platform.send("GET", path, headers={"Authorization": "Basic eDp5"})[0] == 401
    assert platform.send("GET", path, headers={"X-Broker-API-Version": ""})[0] == 400
    assert platform.send("GET", path, headers={"X-Broker-API-Version": "2.1"})[0] == 412
    headers = platform.send("GET", path, headers={"X-Broker-API-Request-Identity": "mine"})[2]
    assert headers["X-Broker-API-Request-Identity"] == "mine"


def test_it_keeps_instances_apart(platform: Platform, execute: Execute) -> None:
    mine, other = platform.bind(platform.instance()), platform.bind(platform.instance())
    assert execute(mine, "select 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        execute(urlsplit(mine)._replace(path=urlsplit(other).path).geturl(), "select 1")


def test_it_puts_no_password_into_its_log(platform: Platform) -> None:
    platform.backed_up(platform.instance())
    log = platform.process.log.read_text()
    assert platform.account.password not in log
