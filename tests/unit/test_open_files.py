"""How many connections an API process takes: as many as the system lets it have open."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

SCRIPT = """
import resource
from deploy.cli.api import _allow_connections
from shared.settings import Settings

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, min(most, 512)))
values = {"database_url": "postgresql://x", "queue_url": "redis://x", "job_watchers_max": %d}
_allow_connections(Settings.model_validate(values))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@cache
def run(watchers_max: int) -> str:
    """What the script prints."""
    done = subprocess.run([sys.executable, "-c", SCRIPT % watchers_max], capture_output=True, text=True, check=True)
    return done.stdout


def test_it_opens_as_many_files_as_it_may() -> None:
    assert run(100).endswith("512\n")


def test_it_says_when_fewer_may_be_open_than_requests_may_wait() -> None:
    assert "fewer files may be open" in run(10_000)
    assert "fewer files may be open" not in run(100)
