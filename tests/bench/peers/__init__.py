"""Peers: other ways to have the same work done in the background, to compare Safekeep with in one run.

Each does what its own documentation recommends; `work.py` holds the work, which is the same for all.
`python -m tests.bench.peers.NAME worker` works until SIGTERM, `… enqueue COUNT` makes so many jobs and publishes them,
and `python -m tests.bench.peers.naive api PORT` accepts them over HTTP. Addresses come from the environment, see
`work.py`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

NAMES: Final = ("naive", "procrastinate", "dramatiq", "taskiq")

#: What a peer needs beyond the packages of developers: the dependency group `bench`.
_PACKAGES: Final = {
    "procrastinate": ("procrastinate",),
    "dramatiq": ("dramatiq",),
    "taskiq": ("taskiq", "taskiq_redis"),
}


def is_installed(name: str) -> bool:
    """Whether the packages of the peer are there; `make bench-peers` installs them. The naive peer needs none."""
    return all(find_spec(package) for package in _PACKAGES.get(name, ()))
