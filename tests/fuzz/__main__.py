"""`python -m tests.fuzz`: fuzz a system of its own for as long as one likes."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path

from deploy.local.databases import scratch_database
from deploy.local.postgres import PostgresServer
from shared.observability.logging import configure_logging
from shared.security.secrets import generate_key
from shared.settings import Settings
from shared.store.migrate import migrate
from tests.fuzz.runs import Budget, fuzz
from tests.fuzz.system import fuzz_settings, running


def main() -> int:
    """Run as both callers; the exit code says whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="for each operation (default: %(default)s)")
    parser.add_argument("--seconds", type=int, help="for each of two callers; unless given, until all is tried")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="the same one tries the same again")
    options = parser.parse_args()
    budget = Budget(examples=options.examples, seconds=options.seconds, seed=options.seed)
    with (
        tempfile.TemporaryDirectory() as directory,
        PostgresServer(Path(directory), is_durable=False) as server,
        scratch_database(server.url(), prefix="safekeep_fuzz") as url,
    ):
        migrate(url)
        settings = Settings(
            environment="development",
            database_url=url,
            queue_url="redis://nowhere",
            secret_keys=generate_key(),
            token_key=secrets.token_hex(32),
            log_level="ERROR",
            **fuzz_settings(),
        )
        configure_logging(settings, "fuzz")
        return asyncio.run(_run(settings, budget))


async def _run(settings: Settings, budget: Budget) -> int:
    async with running(settings) as system:
        outcomes = [await fuzz(system, budget, caller=caller, is_shown=True) for caller in system.tokens]
    for outcome in outcomes:
        print(f"as {outcome.caller}: {'nothing was found' if outcome.returncode == 0 else 'see above'}")  # noqa: T201
    print(f"seed: {budget.seed}")  # noqa: T201 - it talks to the person at the terminal
    return max(outcome.returncode for outcome in outcomes)


if __name__ == "__main__":
    raise SystemExit(main())
