"""The chaos program itself: a short run with every fault and every crash point, and what it refuses to touch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.chaos.clients import Seen, check
from tests.chaos.crashes import PLACES
from tests.chaos.faults import Kind, plan_faults
from tests.chaos.ledger import Begun, Ledger, read_ledger
from tests.chaos.report import percentile, recovery_times
from tests.chaos.verdict import Verdict, Wrong, judge_clients

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
SEED = 7


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SAFEKEEP_")}
    return clean | {"TMPDIR": str(tmp_path)}


def chaos(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.chaos", *arguments]


def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(chaos(*arguments), env=environment, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.timeout(240)
def test_it_loses_nothing_whatever_is_killed_frozen_or_cut_off(environment: dict[str, str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run("--jobs", "60", "--seed", str(SEED), "--json", str(report), environment=environment)
    print(done.stdout)  # noqa: T201 - the seed and the schedule, for whoever reads of a failure
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert {kind.value: found[kind.value] for kind in Wrong} == {kind.value: [] for kind in Wrong}
    assert set(found["faults from outside"]) == {kind.value for kind in Kind}
    assert len(found["crashes inside a step"]) == len(PLACES)
    assert all(found["crashes inside a step"].values())
    assert sum(found["jobs by end"].values()) >= 60
    assert sum(count for end, count in found["jobs by end"].items() if end == "COMPLETE") > 30
    assert found["starts adopted"] > 0
    assert f"seed {SEED}" in done.stdout
    assert list(tmp_path.glob("safekeep-*")) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_leaves_no_process_behind_when_it_is_interrupted(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    command = chaos("--jobs", "60", "--seed", str(SEED))
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        assert "the stack is up" in process.stdout.readline()
        children: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 7
        process.send_signal(number)
        process.wait(60)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert process.returncode == 128 + number
    assert list(tmp_path.glob("safekeep-*")) == []


# ---------------------------------------------------------------- the target


@pytest.fixture
def info() -> dict[str, Any]:
    """What the target's `/v3/info` says."""
    return {"custom": {"chaos_allowed": False}}


@pytest.fixture
async def target(info: dict[str, Any]) -> AsyncIterator[str]:
    """An installation in which backups are made, except that every third job is COMPLETE without one."""
    made: list[str] = []
    posted: list[str] = []

    async def show_info(_request: web.Request) -> web.Response:
        return web.json_response(info)

    async def post(request: web.Request) -> web.Response:
        posted.append("job")
        if len(posted) % 3:
            made.append(f"backup-{len(posted)}")
        return web.Response(status=202, headers={"Location": f"{request.url.origin()}/v3/jobs/{len(posted)}"})

    async def show_list(_request: web.Request) -> web.Response:
        return web.json_response({"backups": [{"id": guid, "created_at": 1} for guid in made]})

    async def show_job(_request: web.Request) -> web.Response:
        return web.json_response({"state": "COMPLETE", "errors": [], "warnings": []})

    app = web.Application()
    app.add_routes(
        [
            web.get("/v3/info", show_info),
            web.post("/v3/service_instances/i-1/backups", post),
            web.get("/v3/service_instances/i-1/backups", show_list),
            web.get("/v3/jobs/{guid}", show_job),
        ]
    )
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def ask(target: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        run,
        *("--target", target, "--instance", "i-1", "--spread-s", "1", "--seed", str(SEED), *arguments),
        environment=environment | {"SAFEKEEP_CHAOS_TOKEN": "token"},
    )


async def test_it_leaves_a_target_alone_that_is_not_marked(target: str, environment: dict[str, str]) -> None:
    done = await ask(target, environment, "--fault", "touch broken")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not marked as an installation that may be broken, so it is left alone" in done.stderr
    assert "SAFEKEEP_ALLOW_CHAOS=true" in done.stderr


@pytest.mark.parametrize("info", [{}, {"custom": None}, {"custom": {"chaos_allowed": "true"}}, []])
async def test_it_takes_nothing_else_for_the_mark(target: str, environment: dict[str, str]) -> None:
    assert (await ask(target, environment)).returncode == 2


def test_it_leaves_a_target_alone_that_does_not_answer(environment: dict[str, str]) -> None:
    token = {"SAFEKEEP_CHAOS_TOKEN": "token"}
    done = run("--target", "http://127.0.0.1:9", "--instance", "i-1", environment=environment | token)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be read, so it is left alone" in done.stderr


def test_it_says_what_is_missing_for_a_target(environment: dict[str, str]) -> None:
    done = run("--target", "http://127.0.0.1:9", environment=environment)
    assert done.returncode == 2
    assert "SAFEKEEP_CHAOS_TOKEN is not set" in done.stderr
    done = run("--target", "http://127.0.0.1:9", environment=environment | {"SAFEKEEP_CHAOS_TOKEN": "token"})
    assert done.returncode == 2
    assert "--instance" in done.stderr


@pytest.mark.parametrize("info", [{"custom": {"chaos_allowed": True}}])
async def test_it_runs_the_operators_faults(target: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = await ask(target, environment, "--jobs", "2", "--fault", f"touch {tmp_path}/broken")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "broken").exists()
    assert "2  COMPLETE" in done.stdout


@pytest.mark.parametrize("info", [{"custom": {"chaos_allowed": True}}])
async def test_it_notices_a_complete_job_without_a_backup(target: str, environment: dict[str, str]) -> None:
    done = await ask(target, environment, "--jobs", "3")
    assert done.returncode == 1
    assert "i-1 has 2 new backups of 3 jobs that are COMPLETE" in done.stdout


@pytest.mark.parametrize("info", [{"custom": {"chaos_allowed": True}}])
async def test_it_proves_nothing_when_a_fault_could_not_be_injected(target: str, environment: dict[str, str]) -> None:
    done = await ask(target, environment, "--jobs", "1", "--fault", "exit 3")
    assert done.returncode == 1
    assert "exit 3: ended with code 3" in done.stdout


# ---------------------------------------------------------------- the parts that judge


def test_it_plans_the_same_for_the_same_seed_and_every_kind_in_each_round() -> None:
    assert plan_faults(1, 60) == plan_faults(1, 60)
    assert plan_faults(1, 60) != plan_faults(2, 60)
    assert {fault.kind for fault in plan_faults(3, 1)} == set(Kind)
    assert max(fault.at_s for fault in plan_faults(4, 300)) <= 300


def job(state: str, **more: Any) -> dict[str, Any]:
    errors = [{"code": 1, "title": "t", "detail": "d"}] if state == "FAILED" else []
    return {"state": state, "errors": errors, "warnings": [], "updated_at": "1", "links": {}} | more


@pytest.mark.parametrize(
    ("answers", "problems"),
    [
        ([job("PROCESSING"), job("POLLING"), job("COMPLETE"), job("COMPLETE", links={"more": 1})], 0),
        ([job("POLLING"), job("PROCESSING"), job("FAILED")], 0),
        ([job("COMPLETE"), job("POLLING")], 1),
        ([job("FAILED"), job("COMPLETE")], 1),
        ([job("COMPLETE"), job("COMPLETE", updated_at="2")], 1),
        ([job("FAILED", errors=[])], 1),
        ([job("COMPLETE", errors=[{}])], 1),
        ([job("RUNNING")], 1),
    ],
)
def test_it_sees_what_a_job_may_not_do(answers: list[dict[str, Any]], problems: int) -> None:
    seen = Seen("i-1", location="http://host/v3/jobs/1")
    for answer in answers:
        check(seen, answer)
    assert len(seen.problems) == problems


def test_it_tells_lost_from_stuck() -> None:
    verdict = Verdict()
    lost = Seen("i", location="http://host/v3/jobs/1", is_missing=True)
    stuck = Seen("i", location="http://host/v3/jobs/2", state="POLLING")
    judge_clients(verdict, [lost, stuck, Seen("never accepted"), Seen("i", "http://host/v3/jobs/3", "COMPLETE", {})])
    assert {kind: len(texts) for kind, texts in verdict.found.items()} == {
        Wrong.LOST: 1,
        Wrong.STUCK: 2,
        Wrong.DOUBLED: 0,
        Wrong.CONTRADICTING: 0,
    }


def test_it_notices_two_posts_with_one_job() -> None:
    verdict = Verdict()
    judge_clients(verdict, [Seen("i", "http://host/v3/jobs/1", "COMPLETE", {})] * 2)
    assert len(verdict.found[Wrong.LOST]) == 1


def test_it_keeps_the_ledger_over_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    backup = Begun("b-1", "i-1", "j-1", "{}", begun_at=0.0, ends_at=10.0, outcome="succeeded")
    with closing(Ledger(file)) as ledger:
        ledger.write("put", id="b-1", job="j-1")
        ledger.write("begin", backup=asdict(backup))
    with file.open("ab") as cut:
        cut.write(b'{"event": "beg')
    with closing(Ledger(file)) as ledger:
        ledger.write("delete", id="b-1", gone_at=20.0)
    memory = read_ledger(file)
    assert (memory.begins, memory.puts, memory.tombstones) == ({"b-1": 1}, {"b-1": 1}, {"b-1"})
    assert [memory.backups["b-1"].state(now) for now in (15.0, 25.0)] == ["deleting", "gone"]
    assert [backup.state(now) for now in (5.0, 15.0)] == ["in progress", "succeeded"]


def test_it_measures_recovery_to_the_next_step() -> None:
    assert recovery_times([1.0, 2.5, 9.0], [0.5, 2.0, 4.0]) == [1.0, 1.5]
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.5, 0.99)] == [2.0, 3.0]
    assert percentile([], 0.5) == 0.0
