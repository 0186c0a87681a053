"""The two commands and the `safekeep` command as a person meets them: what they print, leave behind, and refuse."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.support import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell's environment without settings, whose kept data is the test's own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SAFEKEEP_")}
    return clean | {"SAFEKEEP_LOCAL_DIRECTORY": str(tmp_path / "kept"), "TMPDIR": str(tmp_path)}


def safekeep(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli.main", *arguments]


def run(*arguments: str, environment: Mapping[str, str], **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return] # the keywords are passed on
        safekeep(*arguments), env=environment, capture_output=True, text=True, check=False, cwd=ROOT, **more
    )


def descendants(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found


def assert_gone(processes: list[psutil.Process]) -> None:
    """Wait for the processes to end; those of a killed supervisor need a moment for it."""
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive


def wait_for_line(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return "".join(seen)
    raise AssertionError(f"ended without saying '{words}':\n{''.join(seen)}")


def test_it_shows_the_main_job_and_proves_it(environment: dict[str, str]) -> None:
    shown = run("demo", environment=environment)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.splitlines()[-1].startswith("PROVEN: 50000 rows were backed up, destroyed and restored")
    assert shown.stdout.count("$ curl -i -X POST") == 2
    assert "202 Accepted" in shown.stdout
    assert "    Location: http://127.0.0.1:" in shown.stdout
    assert shown.stderr == ""


def test_it_shows_live_progress_on_a_terminal(environment: dict[str, str]) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(safekeep("demo"), env=environment, stdout=slave, stderr=slave, cwd=ROOT) as process:
        os.close(slave)
        text = b""
        while True:
            try:
                text += os.read(master, 65536)
            except OSError:  # the other side is closed
                break
    os.close(master)
    assert process.returncode == 0
    assert b"\r  \xe2\x80\xa6 POLLING for " in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_no_process_behind_however_it_ends(environment: dict[str, str], number: signal.Signals) -> None:
    with subprocess.Popen(safekeep("demo"), env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        wait_for_line(process, "back it up")
        children = descendants(process.pid)
        assert len(children) >= 6
        process.send_signal(number)
        process.wait(60)
    assert_gone(children)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)


def test_it_fails_when_a_part_cannot_start(environment: dict[str, str]) -> None:
    failed = run("demo", environment=environment | {"SAFEKEEP_VALKEY_BIN": "/bin/false"})
    assert failed.returncode == 1
    assert "FAILED: Valkey ended with code 1" in failed.stdout
    assert "PROVEN" not in failed.stdout


def test_it_runs_twice_at_the_same_time(environment: dict[str, str]) -> None:
    both = [
        subprocess.Popen(safekeep("demo"), env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    texts = [process.communicate(timeout=150)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts


@pytest.fixture
def ready(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    yield from _up(environment, tmp_path / "ready.json")


def _up(environment: dict[str, str], ready_file: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    command = safekeep("up", "--ready-file", str(ready_file))
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + 60
            while not ready_file.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process, json.loads(ready_file.read_text())
        finally:
            children = descendants(process.pid) if process.poll() is None else []
            process.send_signal(signal.SIGINT)
            process.wait(60)
            assert_gone(children)
    assert not ready_file.exists()


def call(method: str, url: str, token: object) -> tuple[int, str, str]:
    request = Request(url, method=method, headers={"Authorization": f"bearer {token}"})
    with urlopen(request, timeout=10) as response:
        return response.status, response.headers.get("Location", ""), response.read().decode()


def test_it_stays_up_and_says_where_everything_is(
    environment: dict[str, str], ready: tuple[subprocess.Popen[str], dict[str, object]]
) -> None:
    process, facts = ready
    assert set(facts) == {
        "api_url",
        "token",
        "developer_token",
        "instance_guid",
        "instance_name",
        "space_guid",
        "database_url",
        "queue_url",
        "broker_url",
        "broker_username",
        "broker_password",
        "pids",
    }
    pids = facts["pids"]
    assert isinstance(pids, dict)
    assert set(pids) == {"postgres", "valkey", "broker", "api", "worker-1", "worker-2"}
    assert all(psutil.pid_exists(pid) for pid in pids.values())
    url = f"{facts['api_url']}/v3/service_instances/{facts['instance_guid']}/backups"
    for token in (facts["token"], facts["developer_token"]):
        assert call("GET", url, token)[0] == 200
    assert rows(str(facts["database_url"]), "select name from service_instances") == [{"name": facts["instance_name"]}]

    # Other commands of the same checkout find the stack.
    token = run("token", "--user", "somebody", "--admin", environment=environment).stdout.strip()
    assert call("GET", url, token)[0] == 200
    assert "up to date" in run("migrate", environment=environment).stdout
    second = run("up", environment=environment)
    assert (second.returncode, "already up" in second.stderr) == (1, True)

    process.send_signal(signal.SIGINT)
    assert wait_for_line(process, "the data is kept in")


def test_it_keeps_data_between_runs(environment: dict[str, str], tmp_path: Path) -> None:
    def once() -> Iterator[dict[str, object]]:
        for _, facts in _up(environment, tmp_path / "ready.json"):
            yield facts

    (first,) = [dict(facts, location=back_up(facts)) for facts in once()]
    for second in once():
        assert second["instance_guid"] == first["instance_guid"]
        url = f"{second['api_url']}/v3/service_instances/{second['instance_guid']}/backups"
        assert len(json.loads(call("GET", url, second["token"])[2])["backups"]) == 1


def back_up(facts: dict[str, object]) -> str:
    url = f"{facts['api_url']}/v3/service_instances/{facts['instance_guid']}/backups"
    location = call("POST", url, facts["token"])[1]
    deadline = time.monotonic() + 60
    while json.loads(call("GET", location, facts["token"])[2])["state"] != "COMPLETE":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return location


def test_it_names_what_is_missing(environment: dict[str, str]) -> None:
    failed = run("api", environment=environment)
    assert failed.returncode == 2
    assert failed.stderr == "safekeep: SAFEKEEP_DATABASE_URL: is not set\nSAFEKEEP_QUEUE_URL: is not set\n"


def test_it_signs_no_tokens_outside_development(environment: dict[str, str]) -> None:
    urls = {"SAFEKEEP_DATABASE_URL": "postgresql://h/d", "SAFEKEEP_QUEUE_URL": "redis://h"}
    failed = run("token", "--user", "u", environment=environment | urls | {"SAFEKEEP_TOKEN_KEY": "x" * 32})
    assert failed.returncode == 2
    assert "development" in failed.stderr


def test_it_prints_its_settings_without_secrets(environment: dict[str, str]) -> None:
    secret = {
        "SAFEKEEP_DATABASE_URL": "postgresql://u:hidden1@h/d",
        "SAFEKEEP_QUEUE_URL": "redis://:hidden2@h",
        "SAFEKEEP_SECRET_KEYS": "hidden3,hidden4",
        "SAFEKEEP_TOKEN_KEY": "hidden5",
    }
    shown = run("settings", environment=environment | secret)
    assert shown.returncode == 0
    assert "SAFEKEEP_LEASE_S=60.0" in shown.stdout
    assert "hidden" not in shown.stdout + shown.stderr


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and unpacked somewhere else, as pip would."""
    built = tmp_path_factory.mktemp("wheel")
    # From a copy: hatchling reads what git ignores from the checkout, and must not find the tests' own files.
    source = built / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".venv*", ".git", ".safekeep", "__pycache__", ".*_cache", "build")
    )
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("*.whl")
    target = built / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(target)], check=True)
    return target


def test_it_works_from_a_wheel_outside_the_checkout(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    outside = environment | {"PYTHONPATH": str(installed)}
    (entry,) = installed.glob("safekeep-*.dist-info/entry_points.txt")
    assert "safekeep = deploy.cli.main:main" in entry.read_text()
    code = "import sys, deploy.cli.main as m; sys.argv = ['safekeep', 'demo']; print(m.__file__); m.main()"
    shown = subprocess.run(
        [sys.executable, "-c", code], env=outside, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.splitlines()[0].startswith(str(installed))
    assert "PROVEN" in shown.stdout
    assert not list(installed.glob("tests*"))


def test_it_says_that_an_installed_package_cannot_break_itself(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    outside = environment | {"PYTHONPATH": str(installed)}
    code = "import sys, deploy.cli.main as m; sys.argv = ['safekeep', 'chaos']; m.main()"
    shown = subprocess.run(
        [sys.executable, "-c", code], env=outside, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert shown.returncode == 1
    assert "chaos is part of Safekeep's tests, which an installed package does not have" in shown.stderr
