"""What a queue that hangs costs the API's callers: `python -m tests.bench.hung_queue --posts 500`.

The same POSTs to the same API, in turns with the queue in order and with it stopped by SIGSTOP, so that it accepts
connections and never answers. Prints median and 99th percentile of each, and their ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import quantiles

import aiohttp

from deploy.local.stack import QUEUE_VARIABLE, Stack
from deploy.local.valkey import ValkeyServer
from tests.support import rows

ROUNDS = 3
CONNECTIONS = 8


async def measure(stack: Stack, posts: int) -> list[float]:
    """The times in seconds of so many POSTs, each for an instance of its own."""
    guids = [str(uuid.uuid4()) for _ in range(posts)]
    rows(
        stack.database_url,
        "insert into service_instances (guid, name, type, space_guid, plan_guid)"
        " select unnest(%s::text[]), 'db', type, space_guid, plan_guid from service_instances where guid = %s",
        guids,
        stack.identity.instance_guid,
    )
    waiting = iter(guids)
    times: list[float] = []

    async def post(session: aiohttp.ClientSession) -> None:
        for guid in waiting:
            began = time.perf_counter()
            async with session.post(f"{stack.api_url}/v3/service_instances/{guid}/backups") as response:
                response.raise_for_status()
            times.append(time.perf_counter() - began)

    headers = {"Authorization": f"bearer {stack.developer_token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(post(session) for _ in range(CONNECTIONS)))
    return times


def main() -> int:
    """Measure and print; 0, since a number is not right or wrong by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=500, help="in each of six rounds")
    posts = parser.parse_args().posts
    found: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="safekeep-bench-") as home, ValkeyServer(Path(home, "valkey")) as queue:
        os.environ[QUEUE_VARIABLE] = queue.url()
        # No workers: what they do has its own benchmarks.
        with Stack(Path(home, "stack"), is_scratch=True, workers=0) as stack:
            asyncio.run(measure(stack, 50))
            for is_hung in (False, True) * ROUNDS:
                if is_hung:
                    os.kill(queue.pid, signal.SIGSTOP)
                try:
                    found[is_hung] += asyncio.run(measure(stack, posts))
                finally:
                    os.kill(queue.pid, signal.SIGCONT)
    percentiles = {is_hung: quantiles(times, n=100) for is_hung, times in found.items()}
    for is_hung, name in ((False, "queue in order"), (True, "queue hangs")):
        p50, p99 = percentiles[is_hung][49], percentiles[is_hung][98]
        print(f"{name:15} p50 {p50 * 1000:6.1f} ms  p99 {p99 * 1000:6.1f} ms  ({len(found[is_hung])} POSTs)")
    ratios = [percentiles[True][index] / percentiles[False][index] for index in (49, 98)]
    print(f"{'ratio':15} p50 {ratios[0]:6.2f}     p99 {ratios[1]:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
