"""The reference broker as a process of its own on a real PostgreSQL, and a platform that talks to it."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest

from deploy.local.osb import BrokerAccount
from deploy.local.postgres import find_postgres_tool
from deploy.local.processes import ChildProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message
    from pathlib import Path

PASSWORD = "platform-password"


class Platform:
    """Sends what a platform sends, and reads what the broker's ledger says was really started."""

    def __init__(self, account: BrokerAccount, process: ChildProcess, directory: Path) -> None:
        self.account = account
        self.process = process
        self.directory = directory
        self.plan = account.find_plan("postgres", "small")
        self.instances: list[str] = []

    def instance(self, plan: str = "small") -> str:
        guid = str(uuid.uuid4())
        self.account.provision(guid, self.account.find_plan("postgres", plan), "org", "space")
        self.instances.append(guid)
        return guid

    def bind(self, instance: str) -> str:
        return self.account.bind(instance, "binding", self.plan)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any], Message]:
        """Status, body, headers; unlike `BrokerAccount.call` it takes every status."""
        credentials = base64.b64encode(f"{self.account.username}:{self.account.password}".encode()).decode()
        default = {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/json",
            "X-Broker-API-Version": "2.17",
        }
        sent = {name: value for name, value in (default | dict(headers or {})).items() if value}
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        request = Request(f"{self.account.url}/v2/service_instances/{path}", method=method, data=data, headers=sent)
        try:
            with urlopen(request, timeout=30) as response:
                return response.status, json.load(response), response.headers
        except HTTPError as error:
            return error.code, json.loads(error.read()), error.headers

    def start(self, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
        return self.send("PUT", f"{path}?accepts_incomplete=true", {**self.plan, **more})[:2]

    def finish(self, path: str) -> dict[str, Any]:
        """The last answer of `last_operation`, once the operation is over."""
        deadline = time.monotonic() + 60
        while True:
            status, body, _ = self.send("GET", f"{path}/last_operation")
            assert status == 200
            if body["state"] != "in progress":
                return body
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def backed_up(self, instance: str) -> str:
        backup = str(uuid.uuid4())
        path = f"{instance}/backups/{backup}"
        assert self.start(path)[0] == 202
        assert self.finish(path) == {"state": "succeeded", "description": ""}
        return backup

    def ledger(self) -> Counter[str]:
        file = self.directory / "ledger.jsonl"
        return Counter(json.loads(line)["id"] for line in file.read_text().splitlines()) if file.exists() else Counter()

    def restart(self) -> None:
        self.process.kill()
        self.process.start()
        self.process.wait_until(self.account.answers, 30)


@pytest.fixture
def platform(postgres_url: str, tmp_path: Path) -> Iterator[Platform]:
    port = free_port()
    account = BrokerAccount(f"http://127.0.0.1:{port}", "platform", PASSWORD)
    settings = {
        "DATABASE_URL": postgres_url,
        "DATA_DIRECTORY": str(tmp_path / "data"),
        "USERNAME": account.username,
        "PASSWORD": account.password,
        "PORT": str(port),
        "PG_BIN": str(find_postgres_tool("pg_dump").parent),
    }
    environment = os.environ | {f"POSTGRES_BROKER_{name}": value for name, value in settings.items()}
    process = ChildProcess(
        "broker", [sys.executable, "-m", "deploy.postgres_broker"], log=tmp_path / "log", environment=environment
    )
    process.start()
    try:
        process.wait_until(account.answers, 30)
        platform = Platform(account, process, tmp_path / "data")
        yield platform
        for instance in platform.instances:
            account.deprovision(instance, platform.plan)
    finally:
        process.stop()


def execute(uri: str, statement: str) -> list[Any]:
    with psycopg.connect(uri, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(name="execute")
def execute_fixture() -> Any:
    return execute
