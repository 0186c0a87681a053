"""`safekeep demo`: the main job, shown on real parts, each request as a curl line that could be typed.

Rows go into a database instance, a backup is made, the rows are destroyed, and a restore brings them back. It exits
with 0 only if that is what happened.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from deploy.local.errors import LocalStackError
from deploy.local.http import Http
from deploy.local.locks import only_one
from deploy.local.signals import Stopped, stops_raise
from deploy.local.stack import Stack, require_local_extra
from shared.environment import PREFIX
from shared.errors import SafekeepError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.local.http import Response

ROWS: Final = 50_000
JOB_TIMEOUT_S: Final = 120
LOOK_PAUSE_S: Final = 0.05
#: The reference broker is ours alone and done in a moment; by default a broker is left alone for a second first.
SETTINGS: Final = {f"{PREFIX}POLL_INTERVAL_S": "0.25"}
SIGNAL_EXIT_BASE: Final = 128  # a shell's way of saying which signal it was

FILL = """
create table orders (id bigint primary key, customer text not null, cents bigint not null);
insert into orders select n, 'customer ' || n % 997, n * 37 % 10007 from generate_series(1, %s) n;
"""
FINGERPRINT = "select count(*), md5(string_agg(o::text, ',' order by id)) from orders o"


def run_demo() -> int:
    """Run the demo and return the exit code: 0 only when the rows were destroyed and came back."""
    require_local_extra()
    home = Path(tempfile.mkdtemp(prefix="safekeep-demo-"))
    started = time.monotonic()
    try:
        with stops_raise(), kept_postgres() as kept, _stack(home, kept) as stack:
            say(f"the stack is up after {time.monotonic() - started:.1f} s: {', '.join(stack.pids)}")
            show(stack)
        say(f"everything that was started has been stopped; {time.monotonic() - started:.1f} s in all")
    except Stopped as stopped:
        say(f"stopped by {stopped}; everything that was started has been stopped")
        return SIGNAL_EXIT_BASE + stopped.number
    except (SafekeepError, psycopg.Error) as error:
        say(f"FAILED: {error}")
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(f"PROVEN: {ROWS} rows were backed up, destroyed and restored; every one of them is back.", flush=True)
    return 0


def _stack(home: Path, kept: Path | None) -> Stack:
    return Stack(home, is_scratch=True, postgres_directory=kept, settings=SETTINGS)


@contextmanager
def kept_postgres() -> Iterator[Path | None]:
    """Where PostgreSQL's data can stay for the next demo, which then starts sooner.

    None where nothing is kept, or while another demo uses it: this one then makes data of its own.
    """
    home = os.environ.get("SAFEKEEP_LOCAL_DIRECTORY")
    with ExitStack() as stack:
        try:
            if home:
                stack.enter_context(only_one(Path(home, "demo")))
        except LocalStackError:
            home = None
        yield Path(home, "demo", "postgres") if home else None


def show(stack: Stack) -> None:
    """Go through the main job. Raises LocalStackError when anything is not as it should be."""
    instance = f"{stack.api_url}/v3/service_instances/{stack.identity.instance_guid}"
    http = Http(stack.developer_token)
    database = stack.bind()

    heading(f"{ROWS} rows in the database of the service instance '{stack.identity.instance_name}'")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(FILL.replace("%s", str(ROWS)).encode())
    before = fingerprint(database)
    say(f"table orders: {before[0]} rows, md5 {before[1]}")

    heading("back it up")
    accepted = http.send("POST", f"{instance}/backups", expect=202)
    follow(http, accepted)
    backups = http.send("GET", f"{instance}/backups", expect=200).json["backups"]

    heading("destroy the rows")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop table orders")
    say("table orders: dropped")

    heading("restore them")
    accepted = http.send("POST", f"{instance}/actions/restore", {"backup_id": backups[0]["id"]}, expect=202)
    follow(http, accepted)
    after = fingerprint(database)
    say(f"table orders: {after[0]} rows, md5 {after[1]}")
    if after != before:
        raise LocalStackError(f"the restored rows are not the ones that were backed up: {before} before, {after} after")


def follow(http: Http, accepted: Response) -> None:
    """Look at the job in `Location` until it has ended; only the first and the last look are printed in full."""
    url = accepted.headers.get("Location", "")
    job = http.send("GET", url, expect=200).json
    started = time.monotonic()
    with progress() as show_progress:
        while job["state"] not in {"COMPLETE", "FAILED"}:
            seconds = time.monotonic() - started
            if seconds > JOB_TIMEOUT_S:
                raise LocalStackError(f"the job {job['guid']} has not ended after {JOB_TIMEOUT_S} s: {job}")
            show_progress(job["state"], seconds)
            time.sleep(LOOK_PAUSE_S)
            job = http.send("GET", url, expect=200, is_quiet=True).json
    job = http.send("GET", url, expect=200).json
    if job["state"] != "COMPLETE":
        raise LocalStackError(f"the job failed: {job['errors']}")


def fingerprint(database: str) -> tuple[int, str]:
    """How many rows there are, and a digest of all they say. Raises psycopg.Error when the table is not there."""
    with psycopg.connect(database) as connection:
        row = connection.execute(FINGERPRINT).fetchone()
    if row is None:
        raise LocalStackError("the database did not count its rows")
    return row[0], row[1]


@contextmanager
def progress() -> Iterator[Any]:  # Any: a function of a state and seconds
    """A line that changes in place on a terminal; elsewhere a line for each new state."""
    last = ""
    is_live = sys.stdout.isatty()

    def show_progress(state: str, seconds: float) -> None:
        nonlocal last
        if is_live:
            print(f"\r  … {state} for {seconds:.1f} s ", end="", flush=True)
        elif state != last:
            say(f"… {state}")
        last = state

    yield show_progress
    if is_live and last:
        print("\r" + " " * 40 + "\r", end="")


def heading(text: str) -> None:
    """A step of the story."""
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    """A line of the story."""
    print(f"  {text}", flush=True)
