"""The embedded servers: start, restart, crash, and end with whoever started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from deploy.local.errors import LocalStackError
from deploy.local.postgres import PostgresServer
from deploy.local.valkey import ValkeyServer
from tests.support import rows

ROOT = Path(__file__).parents[3]


def test_it_keeps_data_over_restarts_and_crashes_in_a_long_path_with_spaces(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / ("a long path " + "x" * 150))
    with server:
        rows(server.url(), "create table t as select 1 as n")
        server.crash()
    with server:
        assert rows(server.url(), "select n from t") == [{"n": 1}]


def test_it_lets_nobody_in_without_the_password(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "pg", is_durable=False) as postgres, ValkeyServer(tmp_path / "v") as valkey:
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(f"postgresql://safekeep@127.0.0.1:{postgres.port}/postgres", passfile="/dev/null")
        with (
            redis.Redis(port=valkey.port) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()


def test_it_refuses_data_of_another_major_version(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "pg", is_durable=False)
    with server:
        pass
    (tmp_path / "pg" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(LocalStackError, match="was made by PostgreSQL 9"):
        server.start()


def test_it_shows_what_the_server_said_when_it_does_not_start(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "pg", is_durable=False)
    with server:
        pass
    (tmp_path / "pg" / "data" / "postgresql.conf").write_text("nonsense = true\n")
    with pytest.raises(LocalStackError, match='unrecognized configuration parameter "nonsense"'):
        server.start()


def test_it_brings_the_queue_back_on_the_same_port(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "v") as server:
        url = server.url()
        server.kill()
        server.start()
        assert server.url() == url
        with redis.Redis.from_url(url) as client:
            assert client.ping()


def test_it_ends_with_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from deploy.local.postgres import PostgresServer\n"
        "from deploy.local.valkey import ValkeyServer\n"
        "home = Path(sys.argv[1]); p = PostgresServer(home / 'p'); p.start(); v = ValkeyServer(home / 'v'); v.start()\n"
        "print(p.pid, v.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as supervisor:
        assert supervisor.stdout
        children = [psutil.Process(int(pid)) for pid in supervisor.stdout.readline().split()]
        everything = [grandchild for child in children for grandchild in (child, *child.children(recursive=True))]
        supervisor.kill()
    _, alive = psutil.wait_procs(everything, timeout=30)
    assert not alive
    assert not (tmp_path / "p" / "data" / "postmaster.pid").exists()  # it shut down in good order
