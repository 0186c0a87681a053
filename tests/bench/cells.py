"""The cells of the benchmark, in the order of a round: their names, what the table calls them, and what runs them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from tests.bench import http_cells, round_trip_cells, work_cells
from tests.bench.work_cells import LATENCIES_MS, PEER_JOBS, Variant

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.measurement import Measurement
    from tests.bench.system import System

PEERS_MODULE: Final = "tests.bench.peers"
#: What the table calls the peers.
PEERS: Final = {
    "naive": "naive: task.delay(), Celery prefork -c 8",
    "procrastinate": "procrastinate",
    "dramatiq": "dramatiq",
    "taskiq": "taskiq",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table. `peer` is the one that it needs."""

    name: str
    section: str
    title: str
    run: Callable[[System], Measurement]
    peer: str | None = None


def all_cells() -> list[Cell]:
    """Every cell there is."""
    accept = "accept: POST …/backups, 64 connections"
    read = "read: GET /v3/jobs/…, 64 connections"
    cells = [
        Cell("accept.bare", accept, "limit: bare aiohttp handler", http_cells.accept_bare),
        Cell("accept.pgbench", accept, "limit: pgbench, one insert a commit", http_cells.accept_pgbench),
        Cell("accept.safekeep", accept, "Safekeep", http_cells.accept_safekeep),
        Cell("accept.safekeep-worker", accept, "Safekeep, one worker at work", http_cells.accept_safekeep_with_worker),
        Cell("accept.naive", accept, PEERS["naive"], http_cells.accept_naive, "naive"),
        Cell("read.bare", read, "limit: bare aiohttp handler", http_cells.read_bare),
        Cell("read.safekeep", read, "Safekeep, 200", http_cells.read_safekeep),
        Cell("read.safekeep-304", read, "Safekeep, If-None-Match, 304", http_cells.read_safekeep_unchanged),
    ]
    for latency_ms in LATENCIES_MS:
        cells += _work_cells(latency_ms)
    idle = "idle round trip: POST until the job has ended"
    return [
        *cells,
        Cell("round-trip.safekeep", idle, "Safekeep, API and one worker", round_trip_cells.round_trip_safekeep),
        Cell("round-trip.naive", idle, PEERS["naive"], round_trip_cells.round_trip_naive, "naive"),
    ]


def _work_cells(latency_ms: int) -> list[Cell]:
    work = f"work: jobs finished, broker {latency_ms} ms"
    name = f"work-{latency_ms}"
    limit = f"no queue, {work_cells.IN_FLIGHT[latency_ms]} in flight"
    each, shared, fewer = (Variant(*values) for values in ((3, False), (3, True), (2, True)))
    return [
        Cell(
            f"{name}.no-queue-each",
            work,
            f"limit: {limit}, a statement a job",
            work_cells.without_queue(each, latency_ms),
        ),
        Cell(
            f"{name}.no-queue", work, f"limit: {limit}, shared statements", work_cells.without_queue(shared, latency_ms)
        ),
        Cell(
            f"{name}.no-queue-2-calls",
            work,
            f"{limit}, shared, calls of the peers",
            work_cells.without_queue(fewer, latency_ms),
        ),
        Cell(f"{name}.safekeep", work, "Safekeep, 2 workers", work_cells.with_safekeep(2, latency_ms)),
        Cell(f"{name}.safekeep-1", work, "Safekeep, 1 worker", work_cells.with_safekeep(1, latency_ms)),
        *(
            Cell(f"{name}.{peer}", work, PEERS[peer], work_cells.with_peer(peer, latency_ms), peer)
            for peer in PEER_JOBS
        ),
    ]


def why_missing(peer: str) -> str | None:
    """Why a peer cannot run here; None when it can."""
    if find_spec(PEERS_MODULE) is None:
        return "not there"
    if not importlib.import_module(PEERS_MODULE).is_installed(peer):
        return "not installed: make bench-peers"
    return None
