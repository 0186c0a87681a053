"""Hints and pulses through a real queue, with a worker process that does nothing else."""

from __future__ import annotations

import base64
import json
import signal
import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from deploy.local.processes import ChildProcess
from deploy.local.valkey import ValkeyServer
from shared.errors import HintError, QueueLengthError
from shared.records import Hint
from tests.queues import empty, length, names
from tests.support import eventually
from worker.celery_app import PULSE_EXPIRES_S, CeleryHints, delete_queues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.settings import Settings

ROOT = Path(__file__).parents[2]
#: Prints a line for everything that arrives.
WORKER = """
import json, sys
from shared.settings import Settings
from worker.celery_app import run_worker
say = lambda *words: print("said", *words, flush=True)
sys.exit(run_worker(
    Settings.model_validate(json.loads(sys.argv[1])), lambda guids: say("take", *guids), lambda: say("ready"),
    on_pulse=lambda: say("pulse"), name=sys.argv[2],
))
"""


class Worker(ChildProcess):
    """A process that consumes hints and the pulses of its name."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.key = uuid.uuid4().hex
        values = {
            "database_url": "postgresql://unused/unused",
            "queue_url": settings.queue_url.get_secret_value(),
            "queue_prefix": settings.queue_prefix,
        }
        super().__init__(
            "worker",
            [sys.executable, "-c", WORKER, json.dumps(values), self.key],
            log=directory / "worker.log",
            environment={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )

    def said(self) -> list[str]:
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [line.removeprefix("said ") for line in lines if line.startswith("said ")]

    @property
    def pulse_key(self) -> str:
        return f"{self.settings.queue_prefix}pulse.{self.key}"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey") as server:
        yield server


@pytest.fixture(params=["valkey", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> Any:  # a server of either kind
    return request.getfixturevalue(request.param)


on_valkey = pytest.mark.parametrize("server", ["valkey"], indirect=True)


@pytest.fixture
def settings(server: Any, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(queue_url=server.url(), database_url="postgresql://unused/unused", queue_length_max=3)


@pytest.fixture
def hints(settings: Settings) -> Iterator[CeleryHints]:
    with closing(CeleryHints(settings)) as hints:
        yield hints


other_hints = hints


@pytest.fixture
async def worker(settings: Settings, tmp_path: Path) -> Any:
    worker = Worker(settings, tmp_path)
    worker.start()
    await eventually(lambda: worker.said() == ["ready"])
    yield worker
    worker.stop()


def repeat(call: Callable[[], None], times: int = 100_000) -> None:
    for _ in range(times):
        call()


def test_it_refuses_hints_while_the_queue_is_long_enough(settings: Settings, hints: CeleryHints) -> None:
    sent = 0

    def send_one() -> None:
        nonlocal sent
        hints.send(Hint("start", ("a",)))
        sent += 1

    with pytest.raises(QueueLengthError, match="the queue is long enough"):
        repeat(send_one)
    assert length(settings, "start") == sent >= 3
    hints.send(Hint("poll", ("a",)))  # each queue has a length of its own


async def test_it_takes_hints_again_when_the_queue_is_shorter(settings: Settings, hints: CeleryHints) -> None:
    with pytest.raises(QueueLengthError, match="the queue is long enough"):
        repeat(lambda: hints.send(Hint("start", ("a",))))
    empty(settings)
    await eventually(lambda: is_taken(hints))


def is_taken(hints: CeleryHints) -> bool:
    try:
        hints.send(Hint("start", ("a",)))
    except HintError:
        return False
    return True


@on_valkey
def test_it_keeps_one_list_for_each_queue_and_nothing_else(settings: Settings, hints: CeleryHints) -> None:
    hints.send(Hint("start", ("a",)))
    hints.send(Hint("poll", ("a",)))
    with redis.Redis.from_url(settings.queue_url.get_secret_value()) as client:
        keys = sorted(client.keys())
        assert keys == sorted(f"{settings.queue_prefix}{name}".encode() for name in ("start", "poll"))


async def test_it_hands_over_hints(worker: Worker, hints: CeleryHints) -> None:
    hints.send(Hint("start", ("a", "b")))
    hints.send(Hint("poll", ("c",)))
    await eventually(lambda: sorted(worker.said()) == ["ready", "take a b", "take c"])


@on_valkey
async def test_it_leaves_no_trace_of_a_hint(worker: Worker, hints: CeleryHints) -> None:
    hints.send(Hint("start", ("a",)))
    await eventually(lambda: "take a" in worker.said())
    with redis.Redis.from_url(worker.settings.queue_url.get_secret_value()) as client:
        assert client.keys() == []


@on_valkey
def test_it_carries_guids_and_nothing_else(settings: Settings, hints: CeleryHints) -> None:
    guids = [str(uuid.uuid4()), str(uuid.uuid4())]
    hints.send(Hint("start", tuple(guids)))
    with redis.Redis.from_url(settings.queue_url.get_secret_value()) as client:
        (message,) = client.lrange(f"{settings.queue_prefix}start", 0, -1)
    arguments, keywords, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    assert (arguments, keywords) == ([guids], {})


@on_valkey
async def test_it_drops_what_is_no_message_and_lives_on(worker: Worker, hints: CeleryHints, settings: Settings) -> None:
    junk = [
        b"junk",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"body": 5, "properties": {}, "headers": {}}',
        (
            b'{"body": "e30=", "content-encoding": "utf-8", "content-type": "x/y", "headers": {"task": "t", "id": "i"},'
            b' "properties": {"body_encoding": "base64", "delivery_tag": "d", "delivery_info": {}}}'
        ),
    ]
    with redis.Redis.from_url(settings.queue_url.get_secret_value()) as client:
        for entry in junk:
            client.lpush(f"{settings.queue_prefix}start", entry)
        await eventually(lambda: client.llen(f"{settings.queue_prefix}start") == 0)
    hints.send(Hint("start", ("a", "b")))
    await eventually(lambda: "take a b" in worker.said())
    assert worker.said().count("ready") == 1


async def test_it_feels_its_own_pulse_and_no_other(worker: Worker, hints: CeleryHints) -> None:
    hints.send_pulse(uuid.uuid4().hex)
    hints.send_pulse(worker.key)
    await eventually(lambda: worker.said() == ["ready", "pulse"])


async def test_it_feels_its_pulse_again_after_a_restart_of_the_queue(
    worker: Worker, hints: CeleryHints, server: Any
) -> None:
    hints.send_pulse(worker.key)
    await eventually(lambda: worker.said().count("pulse") == 1)
    server.kill()
    with pytest.raises(HintError):
        hints.send_pulse(worker.key)
    server.start()

    def has_felt_another() -> bool:
        hints.send_pulse(worker.key)
        return worker.said().count("pulse") > 1

    await eventually(has_felt_another)
    assert worker.said().count("ready") == 1
    assert worker.exit_code is None


@on_valkey
async def test_it_leaves_no_pulse_for_ever(worker: Worker, hints: CeleryHints) -> None:
    worker.kill()
    hints.send_pulse(worker.key)
    with redis.Redis.from_url(worker.settings.queue_url.get_secret_value()) as client:
        keys = client.keys()
        assert keys == [worker.pulse_key.encode()]
        assert 0 < client.ttl(worker.pulse_key) <= PULSE_EXPIRES_S


@on_valkey
async def test_it_has_room_made_for_a_queue_by_whoever_finds_it_blocked(worker: Worker, hints: CeleryHints) -> None:
    with redis.Redis.from_url(worker.settings.queue_url.get_secret_value()) as client:
        for name in ("start", "poll", f"pulse.{worker.key}"):
            client.set(worker.settings.queue_prefix + name, "nonsense")
        # The worker meets them by itself.
        await eventually(lambda: client.keys() == [])
    hints.send(Hint("start", ("a",)))
    hints.send_pulse(worker.key)
    await eventually(lambda: sorted(worker.said()) == ["pulse", "ready", "take a"])


@pytest.mark.parametrize(
    ("server", "fault"), [("valkey", "gone"), ("valkey", "hung"), ("rabbitmq", "hung")], indirect=["server"]
)
async def test_it_says_so_when_nobody_answers(
    hints: CeleryHints, other_hints: CeleryHints, server: Any, fault: str
) -> None:
    hints.send_pulse("x")  # so that one of the two has a connection already
    server.kill() if fault == "gone" else server.signal(signal.SIGSTOP)
    try:
        for call in (other_hints.check, lambda: hints.send_pulse("x"), lambda: other_hints.send(Hint("start", ("a",)))):
            with pytest.raises(HintError):
                call()
    finally:
        server.start() if fault == "gone" else server.signal(signal.SIGCONT)
    await eventually(lambda: is_taken(hints) and is_taken(other_hints))
    other_hints.check()


def test_it_deletes_its_own_queues_and_no_others(
    settings: Settings, make_settings: Callable[..., Settings], hints: CeleryHints
) -> None:
    others = make_settings(queue_url=settings.queue_url, database_url="postgresql://unused/unused")
    with closing(CeleryHints(others)) as other_hints:
        other_hints.send(Hint("start", ("a",)))
    hints.send(Hint("start", ("a",)))
    delete_queues(settings)
    assert names(settings, others) == {f"{others.queue_prefix}start"}
    delete_queues(settings)  # fine where there are none
    delete_queues(others)
    assert names(settings, others) == set()
