"""`safekeep up`: the same stack as the demo's, staying up until Ctrl-C, with data that is kept between runs."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deploy.local.environment import ENVIRONMENT_FILE, write_whole
from deploy.local.errors import LocalStackError
from deploy.local.http import curl
from deploy.local.locks import only_one
from deploy.local.signals import Stopped, stops_raise
from deploy.local.stack import Stack, require_local_extra

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCH_PAUSE_S: Final = 0.5
DIRECTORY_DEFAULT: Final = ".safekeep"


def run_up(directory: Path | None, ready_file: Path | None) -> int:
    """Bring the stack up, say where it is, and stay until told to stop; the exit code.

    Raises LocalStackError when another stack uses the directory, or a part of this one ends by itself.
    """
    require_local_extra()
    home = (directory or Path(DIRECTORY_DEFAULT)).absolute()
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    try:
        with stops_raise(), only_one(home), Stack(home, is_scratch=False) as stack, published(home, stack):
            introduce(stack)
            if ready_file is not None:
                write_whole(ready_file, json.dumps(describe(stack), indent=2) + "\n")
            watch(stack)
    except Stopped:
        print("\nstopped; the data is kept in", home, flush=True)
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
    return 0


def describe(stack: Stack) -> dict[str, object]:
    """What a program needs to use the stack."""
    identity = stack.identity
    return {
        "api_url": stack.api_url,
        "token": stack.admin_token,
        "developer_token": stack.developer_token,
        "instance_guid": identity.instance_guid,
        "instance_name": identity.instance_name,
        "space_guid": identity.space_guid,
        "database_url": stack.database_url,
        "queue_url": stack.queue_url,
        "broker_url": stack.broker.url,
        "broker_username": identity.broker_username,
        "broker_password": identity.broker_password,
        "pids": stack.pids,
    }


def introduce(stack: Stack) -> None:
    """Say what there is and give lines to paste."""
    instance = f"{stack.api_url}/v3/service_instances/{stack.identity.instance_guid}"
    restore = {"backup_id": "…an id from the list…"}
    print(
        f"Safekeep is up at {stack.api_url}\n"
        f"  service instance  {stack.identity.instance_name}  {stack.identity.instance_guid}\n"
        f"  its database      {stack.bind()}\n"
        f"  what the API can  {stack.api_url}/docs\n"
        f"  logs and data     {stack.directory}\n\n"
        f"To paste:\n"
        f"  export TOKEN={stack.admin_token}\n"
        f"  {curl('POST', f'{instance}/backups')}\n"
        f"  {curl('GET', f'{instance}/backups')}\n"
        f"  {curl('POST', f'{instance}/actions/restore', restore)}\n\n"
        "Ctrl-C stops it; the data is kept.",
        flush=True,
    )


def watch(stack: Stack) -> None:
    """Wait until told to stop. Raises LocalStackError when a part ends by itself."""
    while True:
        for name, child in stack.children.items():
            if child.exit_code is not None:
                raise LocalStackError(f"{name} has ended with code {child.exit_code}:\n{child.log_tail()}")
        time.sleep(WATCH_PAUSE_S)


@contextmanager
def published(home: Path, stack: Stack) -> Iterator[None]:
    """Leave the stack's settings where other commands of the same checkout find them while it is up."""
    file = home / ENVIRONMENT_FILE
    write_whole(file, json.dumps(stack.environment))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
