"""`safekeep reconcile` as an operator runs it, on the reference broker and a backup that somebody deleted there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from deploy.local.stack import OFFERING, PLAN
from tests.acceptance.user import User

if TYPE_CHECKING:
    from deploy.local.stack import Stack

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)


def safekeep(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", *arguments],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


async def test_it_finds_and_mends_what_was_deleted_at_the_broker(stack: Stack) -> None:
    instance = stack.identity.instance_guid
    async with aiohttp.ClientSession() as session:
        user = User(stack, session)
        for _ in range(2):
            (job,) = await user.follow(await user.accepted())
            assert job["state"] == "COMPLETE"
        kept, gone = [backup["id"] for backup in await user.backups()]

        agreed = safekeep(stack, "reconcile")
        assert (agreed.returncode, agreed.stdout) == (0, "")

        ids = stack.broker.find_plan(OFFERING, PLAN)
        query = "&".join(f"{name}={value}" for name, value in {**ids, "accepts_incomplete": "true"}.items())
        stack.broker.call("DELETE", f"/v2/service_instances/{instance}/backups/{gone}?{query}")

        found = safekeep(stack, "reconcile", "--instance", instance)
        assert found.returncode == 3, found.stderr
        assert found.stdout == (
            f"instance {instance}\t{gone}\tpostgres-broker\tgone at the broker\tsucceeded\tnot there"
            "\t--fix would mark it as deleted\n"
        )
        assert found.stderr.splitlines()[-1].startswith("1 instance, 1 finding, --fix would mend 1")
        assert len(await user.backups()) == 2

        mended = safekeep(stack, "reconcile", "--broker", "postgres-broker", "--fix", "--json")
        assert mended.returncode == 0, mended.stderr
        assert [each["remedy"] for each in json.loads(mended.stdout)["findings"]] == ["marked as deleted"]
        assert [backup["id"] for backup in await user.backups()] == [kept]
        status, _ = await user.post(user.path("actions/restore"), {"backup_id": gone})
        assert status == 422
        assert safekeep(stack, "reconcile").returncode == 0
        assert safekeep(stack, "clean-ups").stdout == ""
