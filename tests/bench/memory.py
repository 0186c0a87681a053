"""How much memory a worker process needs after so many steps: `python -m tests.bench.memory --steps 100000`.

One engine on its own PostgreSQL drives jobs that never end; the broker is another process. Prints the resident memory
after every tenth of the steps, and at the end how much it grew after the first fifth, in which caches and pools fill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import secrets
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from aiohttp import web

from deploy.local.postgres import PostgresServer
from deploy.local.processes import free_port
from shared.observability.logging import configure_logging
from shared.security.secrets import generate_key
from shared.settings import Settings
from shared.store.database import Database
from shared.store.jobs import Jobs
from shared.store.migrate import migrate
from tests.support import job_request, rows, seed
from worker.engine import Engine

if TYPE_CHECKING:
    from shared.records import Hint

JOBS = 200
ROUNDS = 10


def serve(port: int) -> None:
    """A broker that accepts everything and finishes nothing."""

    async def start(_request: web.Request) -> web.Response:
        return web.json_response({"operation": "op"}, status=202)

    async def poll(_request: web.Request) -> web.Response:
        return web.json_response({"state": "in progress", "description": secrets.token_hex(20)})

    app = web.Application()
    path = "/v2/service_instances/{instance}/backups/{id}"
    app.add_routes([web.put(path, start), web.get(f"{path}/last_operation", poll)])
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


class Loopback:
    """A queue without delay."""

    engine: Engine

    def send(self, hint: Hint) -> None:
        """Hand the hint to the engine."""
        self.engine.take(hint.job_guids)

    def check(self) -> None:
        """It is always there."""


def measure(steps: int, directory: Path) -> dict[str, Any]:
    """The resident memory in MiB after every tenth of `steps`, and the time that they took."""
    port = free_port()
    broker = multiprocessing.get_context("spawn").Process(target=serve, args=(port,), daemon=True)
    broker.start()
    try:
        with PostgresServer(directory, is_durable=False) as server:
            migrate(server.url())
            settings = Settings.model_validate(
                {
                    "database_url": server.url(),
                    "queue_url": "redis://127.0.0.1:1",
                    "secret_keys": generate_key(),
                    "poll_interval_s": 0.01,
                    "poll_interval_max_s": 0.02,
                    "dispatch_interval_s": 0.02,
                    "log_level": "WARNING",
                }
            )
            configure_logging(settings, "bench")
            broker_guid = seed(settings, broker_url=f"http://127.0.0.1:{port}").broker_guid
            return _run(settings, broker_guid, steps)
    finally:
        broker.terminate()
        broker.join()


def _run(settings: Settings, broker_guid: uuid.UUID, steps: int) -> dict[str, Any]:
    url = settings.database_url.get_secret_value()
    sender = Loopback()
    sender.engine = Engine(settings, sender, "bench")
    sender.engine.start()
    try:
        _accept(settings, broker_guid)
        began = time.monotonic()
        memory = []
        for number in range(1, ROUNDS + 1):
            while rows(url, "select coalesce(sum(fence), 0) as n from jobs")[0]["n"] < steps * number / ROUNDS:
                time.sleep(0.2)
            memory.append(round(psutil.Process().memory_info().rss / 2**20, 1))
            print(f"{steps * number // ROUNDS:>9} steps  {memory[-1]:6.1f} MiB", flush=True)
        return {"steps": steps, "memory_mib": memory, "duration_s": round(time.monotonic() - began, 1)}
    finally:
        sender.engine.stop()


def _accept(settings: Settings, broker_guid: uuid.UUID) -> None:
    async def accept() -> None:
        async with Database(settings, size=1, name="bench") as database:
            requests = [job_request(broker_guid, str(uuid.uuid4()), user_guid=f"u{n % 20}") for n in range(JOBS)]
            await Jobs(database, settings).accept(requests)

    asyncio.run(accept())


def main() -> int:
    """Measure and print; 0, since a number is not right or wrong by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="safekeep-bench-") as directory:
        result = measure(arguments.steps, Path(directory))
    grown = result["memory_mib"][-1] - result["memory_mib"][1]
    rate = result["steps"] / result["duration_s"]
    print(f"grown after the first fifth: {grown:+.1f} MiB; {rate:.0f} steps a second")
    if arguments.json:
        arguments.json.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
