"""Clients that know nothing of us, on a running stack that trusts a UAA: the PyPI package `cloudfoundry-client` as it
is published, then curl, and Python's own urllib.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import pytest
from cloudfoundry_client.client import CloudFoundryClient
from cloudfoundry_client.errors import InvalidStatusCode

from tests.acceptance.conftest import stack_on
from tests.support import eventually, rows
from tests.uaa import Account, Uaa, uaa_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.local.stack import Stack

pytestmark = pytest.mark.timeout(180)

USER, PASSWORD = "ann@example.org", "pässword & more"


@pytest.fixture(scope="module")
def uaa() -> Iterator[Uaa]:
    with uaa_in_thread(Uaa()) as uaa:
        yield uaa


@pytest.fixture(scope="module")
def stack(postgres_url: str, queue_url: str, tmp_path_factory: pytest.TempPathFactory, uaa: Uaa) -> Iterator[Stack]:
    """A stack whose API takes the UAA's tokens only, and where `USER` is the Space Developer."""
    directory = tmp_path_factory.mktemp("stack")
    with stack_on(postgres_url, queue_url, directory, SAFEKEEP_UAA_URL=uaa.url, SAFEKEEP_UAA_PAUSE_S="0.1") as stack:
        uaa.accounts[USER] = Account(stack.identity.developer_guid, PASSWORD)
        yield stack


@pytest.fixture
def log_in(stack: Stack) -> Iterator[Callable[[], CloudFoundryClient]]:
    """Clients that know the API's URL, a user's name and the password, and find out all else."""
    clients = []

    def new() -> CloudFoundryClient:
        client = CloudFoundryClient(stack.api_url)
        client.init_with_user_credentials(USER, PASSWORD)
        clients.append(client)
        return client

    yield new
    for client in clients:
        client._get_session().close()


@pytest.fixture
def client(log_in: Callable[[], CloudFoundryClient]) -> CloudFoundryClient:
    return log_in()


@contextmanager
def closed(stack: Stack) -> Iterator[None]:
    """While this lasts, nobody can connect to the instance's database, and so the broker cannot dump it."""
    name = urlsplit(stack.bind()).path.removeprefix("/")
    rows(stack.server_url, f'alter database "{name}" allow_connections false')
    try:
        yield
    finally:
        rows(stack.server_url, f'alter database "{name}" allow_connections true')


def url_of_backups(stack: Stack, guid: str) -> str:
    return f"{stack.api_url}/v3/service_instances/{guid}/backups"


def instance_of(job: Any, client: CloudFoundryClient) -> Any:
    """What the job's link leads to.

    `job.service_instances()` asks for the same URL and, in version 1.40.4, then trips over a `guid` in the answer of
    whichever server it is: it takes a link with a plural name for one to a list.
    """
    assert callable(job.service_instances)
    return client.v3.service_instances._get(job["links"]["service_instances"]["href"])


def test_item_37_it_is_found_by_name_backed_up_and_listed(client: CloudFoundryClient, stack: Stack) -> None:
    identity = stack.identity
    instance = client.v3.service_instances.get_first(names=identity.instance_name, space_guids=identity.space_guid)
    assert instance["guid"] == identity.instance_guid
    assert client.v3.service_instances.get_first(names="no-such-instance") is None
    before = client.get(url_of_backups(stack, instance["guid"])).json()["backups"]

    accepted = client.v3.service_instances._post(url_of_backups(stack, instance["guid"]))
    job = client.v3.jobs.wait_for_job_completion(accepted.job()["guid"])
    assert (job["state"], job["errors"]) == ("COMPLETE", [])
    assert instance_of(job, client)["name"] == identity.instance_name

    listed = client.get(url_of_backups(stack, instance["guid"])).json()["backups"]
    assert len(listed) == len(before) + 1
    newest = client.get(url_of_backups(stack, instance["guid"]), params={"limit": 1}).json()["backups"]
    assert newest == listed[:1]


def test_item_37_it_shows_a_failed_job(client: CloudFoundryClient, stack: Stack) -> None:
    guid = stack.identity.instance_guid
    with closed(stack):
        accepted = client.v3.service_instances._post(url_of_backups(stack, guid))
        job = client.v3.jobs.wait_for_job_completion(accepted.job()["guid"])
    assert job["state"] == "FAILED"
    assert [(error["code"], error["title"]) for error in job["errors"]] == [(10009, "CF-UnableToPerform")]
    assert all(error["detail"] for error in job["errors"])
    assert instance_of(job, client)["guid"] == guid


def test_item_37_it_says_what_was_wrong_with_a_request(client: CloudFoundryClient, stack: Stack) -> None:
    with pytest.raises(InvalidStatusCode) as refusal:
        client.get(url_of_backups(stack, stack.identity.instance_guid), params={"limit": 0})
    assert refusal.value.status_code == 400
    assert refusal.value.body["errors"][0]["code"] == 10005
    assert refusal.value.request_id


def test_item_37_it_refreshes_a_token_that_is_no_longer_good(
    log_in: Callable[[], CloudFoundryClient], client: CloudFoundryClient, stack: Stack, uaa: Uaa
) -> None:
    url = url_of_backups(stack, stack.identity.instance_guid)
    old = client._access_token
    assert client.get(url).status_code == 200
    # The key of the old token is withdrawn, of which the API learns by a token of the new one.
    uaa.keys = (uaa.keys[0] + 1,)
    assert log_in().get(url).status_code == 200
    status, _, body = with_urllib("GET", url, {"Authorization": f"bearer {old}"})
    assert (status, json.loads(body)["errors"][0]["code"]) == (401, 1000)

    asked = uaa.asked["/oauth/token"]
    assert client.get(url).status_code == 200
    assert client._access_token != old
    assert uaa.asked["/oauth/token"] == asked + 1


# ---------------------------------------------------------------- other clients


def with_curl(
    method: str, url: str, headers: dict[str, str], form: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body, as the program curl sees them."""
    given = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    fields = [part for name, value in (form or {}).items() for part in ("--data-urlencode", f"{name}={value}")]
    command = ["curl", "--silent", "--show-error", "--include", "--http1.1", "--max-time", "30", "--request", method]
    done = subprocess.run([*command, *given, *fields, url], capture_output=True, check=True)
    head, _, body = done.stdout.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body


def with_urllib(
    method: str, url: str, headers: dict[str, str], form: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body, as Python's standard library sees them."""
    request = Request(url, method=method, headers=headers, data=urlencode(form).encode() if form else None)
    try:
        with urlopen(request, timeout=30) as response:
            return (
                response.status,
                {name.lower(): value for name, value in response.headers.items()},
                response.read().decode(),
            )
    except HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read().decode()


@pytest.mark.parametrize(
    "fetch",
    [
        pytest.param(
            with_curl, id="curl", marks=pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
        ),
        pytest.param(with_urllib, id="urllib"),
    ],
)
async def test_item_38_it_is_used_by_who_only_follows_location(
    stack: Stack, fetch: Callable[..., tuple[int, dict[str, str], str]]
) -> None:
    status, _, text = await asyncio.to_thread(fetch, "GET", f"{stack.api_url}/", {})
    assert status == 200
    login = json.loads(text)["links"]["login"]["href"]
    form = {"grant_type": "password", "username": USER, "password": PASSWORD}
    basic = {"Authorization": f"Basic {base64.b64encode(b'cf:').decode()}", "Accept": "application/json"}
    status, _, text = await asyncio.to_thread(fetch, "POST", f"{login}/oauth/token", basic, form)
    assert status == 200
    bearer = {"Authorization": f"bearer {json.loads(text)['access_token']}"}

    url = url_of_backups(stack, stack.identity.instance_guid)
    status, headers, text = await asyncio.to_thread(fetch, "POST", url, bearer)
    assert (status, len(text)) == (202, 0)
    job: dict[str, Any] = {}

    async def is_over() -> bool:
        status, _, text = await asyncio.to_thread(fetch, "GET", headers["location"], bearer)
        assert status == 200
        job.update(json.loads(text))
        return job["state"] not in {"PROCESSING", "POLLING"}

    await eventually(is_over, 60)
    assert (job["state"], job["errors"]) == ("COMPLETE", [])
    status, _, text = await asyncio.to_thread(fetch, "GET", url, bearer)
    made = rows(stack.database_url, "select resource_guid from jobs where guid = %s", job["guid"])
    assert json.loads(text)["backups"][0]["id"] == str(made[0]["resource_guid"])
