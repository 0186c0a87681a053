"""Who may do what to an instance, over HTTP: every role and global scope, in every kind of place."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from shared.security.tokens import USER_SCOPES
from tests.support import DEVELOPER, bearer, rows, seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import ClientResponse

    from shared.settings import Settings
    from tests.integration.conftest import Client, HintLog

BACKUPS = "/v3/service_instances/i-1/backups"
RESTORE = "/v3/service_instances/i-1/actions/restore"
ONE_BACKUP = f"{BACKUPS}/00000000-0000-4000-8000-000000000001"
CALLER = "caller-guid"

# What is answered: status, and of an error its code and text.
MEANING = {
    "ok": None,
    "no": (403, 10003, "You are not authorized to perform the requested action"),
    "none": (404, 10010, "Service instance not found"),
    "org-off": (403, 10017, "The organization is suspended"),
    "off": (403, 10019, "The space is suspended"),
    "org-del": (422, 10020, "The organization is being deleted"),
    "del": (422, 10020, "The space is being deleted"),
}

# To POST and GET of the backups. Scopes come with cloud_controller.read and .write, so that it is not they that decide.
# In the last column the caller has the role where the instance is only shared to.
MATRIX = """
                                  active     org suspended  space suspended  org deleting  space deleting  shared to
admin                             ok/ok      ok/ok          ok/ok            ok/ok         ok/ok           ok/ok
admin_read_only                   no/ok      no/ok          no/ok            no/ok         no/ok           no/ok
global_auditor                    no/ok      no/ok          no/ok            no/ok         no/ok           no/ok
space_developer                   ok/ok      org-off/ok     off/ok           org-del/ok    del/ok          no/no
space_manager                     no/ok      no/ok          no/ok            no/ok         no/ok           no/no
space_auditor                     no/ok      no/ok          no/ok            no/ok         no/ok           no/no
space_supporter                   no/ok      no/ok          no/ok            no/ok         no/ok           no/no
organization_manager              no/ok      no/ok          no/ok            no/ok         no/ok           no/no
organization_auditor              none/none  none/none      none/none        none/none     none/none       none/none
organization_billing_manager      none/none  none/none      none/none        none/none     none/none       none/none
organization_user                 none/none  none/none      none/none        none/none     none/none       none/none
no_role                           none/none  none/none      none/none        none/none     none/none       none/none
space_developer+organization_manager  ok/ok  org-off/ok     ok/ok            org-del/ok    ok/ok           no/no
space_developer+admin             ok/ok      ok/ok          ok/ok            ok/ok         ok/ok           ok/ok
space_developer+global_auditor    ok/ok      org-off/ok     off/ok           org-del/ok    del/ok          no/ok
organization_user+space_developer ok/ok      org-off/ok     off/ok           org-del/ok    del/ok          no/no
"""

SITUATIONS = {
    "active": (),
    "org suspended": ("update organizations set status = 'suspended'",),
    "space suspended": ("update spaces set status = 'suspended'",),
    "org deleting": ("update organizations set status = 'deleting'",),
    "space deleting": ("update spaces set status = 'deleting'",),
    "shared to": ("insert into service_instance_shares values ('i-1', 'other-space')",),
}

ROWS = [
    (caller, dict(zip(SITUATIONS, cells, strict=True)))
    for caller, *cells in map(str.split, MATRIX.strip("\n").splitlines()[1:])
]
UNDO = (
    "update organizations set status = 'active'",
    "update spaces set status = 'active'",
    "truncate service_instance_shares, jobs cascade",
)


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Every request sees the directory as it is, and not as it was for the request before it."""
    return make_settings(external_url="https://safekeep.example", directory_staleness_s=0)


def become(caller: str, url: str, *, organization: str = "org", space: str = "space") -> list[str]:
    """Give the caller the roles of a row of the matrix in that place; the scopes of their token."""
    scopes = list(USER_SCOPES)
    rows(url, "insert into users values (%s, 'caller') on conflict do nothing", CALLER)
    for part in caller.split("+"):
        if part.startswith("space_"):
            rows(url, "insert into roles values (%s, %s, %s, null)", CALLER, part, space)
        elif part.startswith("organization_"):
            rows(url, "insert into roles values (%s, %s, null, %s)", CALLER, part, organization)
        elif part != "no_role":
            scopes.append(f"cloud_controller.{part}")
    return scopes


async def answer_of(response: ClientResponse) -> tuple[int, int, str]:
    """Status, code and text of an error."""
    (error,) = (await response.json())["errors"]
    return response.status, error["code"], error["detail"]


def another_place(url: str) -> None:
    rows(url, "insert into organizations values ('other-org', 'other')")
    rows(url, "insert into spaces values ('other-space', 'other', 'other-org')")


async def test_it_answers_everybody_by_their_own_roles_when_they_ask_at_the_same_time(
    client: Client, settings: Settings, url: str
) -> None:
    instances = [f"i-{number}" for number in range(5)]
    seed(settings, instances=instances)
    another_place(url)
    rows(url, "update service_instances set space_guid = 'other-space' where guid = 'i-4'")
    places = {"here": ["space"], "there": ["other-space"], "both": ["space", "other-space"], "nowhere": []}
    for user, spaces in places.items():
        rows(url, "insert into users values (%s, 'caller')", user)
        for space in spaces:
            rows(url, "insert into roles values (%s, 'space_auditor', %s, null)", user, space)

    async def is_seen(user: str, instance: str) -> bool:
        path = f"/v3/service_instances/{instance}/backups"
        return (await client.get(path, headers=bearer(settings, user))).status == HTTPStatus.OK

    asked = [(user, instance) for user in places for instance in [*instances, "i-unknown"]]
    seen = await asyncio.gather(*(is_seen(user, instance) for user, instance in asked))
    space_of = dict.fromkeys(instances, "space") | {"i-4": "other-space"}
    assert seen == [space_of.get(instance) in places[user] for user, instance in asked]


@pytest.mark.parametrize(("caller", "cells"), ROWS, ids=[caller for caller, _ in ROWS])
async def test_item_14_it_lets_each_caller_do_what_the_matrix_says(
    client: Client, settings: Settings, url: str, caller: str, cells: dict[str, str]
) -> None:
    seed(settings)
    another_place(url)
    for situation, cell in cells.items():
        prefix = "other-" if situation == "shared to" else ""
        rows(url, "delete from roles where user_guid = %s", CALLER)
        scopes = become(caller, url, organization=f"{prefix}org", space=f"{prefix}space")
        for statement in (*UNDO, *SITUATIONS[situation]):
            rows(url, statement)
        post, get = cell.split("/")
        for method, expected, success in (("POST", post, 202), ("GET", get, 200)):
            response = await client.request(method, BACKUPS, headers=bearer(settings, CALLER, scopes=scopes))
            if MEANING[expected] is None:
                assert response.status == success, situation
            else:
                assert await answer_of(response) == MEANING[expected], situation
        assert len(rows(url, "select * from jobs")) == (post == "ok"), situation


@pytest.mark.parametrize("organization", ["active", "suspended", "deleting"])
@pytest.mark.parametrize("space", ["active", "suspended", "deleting"])
async def test_item_14_it_names_deletion_before_suspension_and_the_organization_before_the_space(
    client: Client, settings: Settings, url: str, organization: str, space: str
) -> None:
    seed(settings)
    rows(url, "update organizations set status = %s", organization)
    rows(url, "update spaces set status = %s", space)
    order = [
        ("org-del", organization == "deleting"),
        ("del", space == "deleting"),
        ("org-off", organization == "suspended"),
        ("off", space == "suspended"),
        ("ok", True),
    ]
    expected = MEANING[next(name for name, is_so in order if is_so)]
    response = await client.post(BACKUPS, headers=bearer(settings))
    if expected is None:
        assert response.status == 202
    else:
        assert await answer_of(response) == expected


async def test_item_14_it_asks_for_the_same_rights_to_restore_to_delete_and_to_cancel(
    client: Client, settings: Settings, url: str
) -> None:
    seed(settings)
    scopes = become("space_auditor", url)
    accepted = await client.post(BACKUPS, headers=bearer(settings))
    cancel = accepted.headers["Location"].removeprefix("https://safekeep.example") + "/actions/cancel"
    rows(url, "update organizations set status = 'suspended'")
    for method, path in (("POST", RESTORE), ("DELETE", ONE_BACKUP), ("POST", cancel)):
        for user, expected in ((CALLER, "no"), ("stranger", "none"), (DEVELOPER, "org-off")):
            headers = bearer(settings, user, scopes=scopes)
            response = await client.request(method, path, headers=headers, json={"backup_id": "x"})
            assert await answer_of(response) == MEANING[expected]
    assert (await client.post(cancel, headers=bearer(settings, is_admin=True))).status == 202


async def test_item_14_it_shows_no_single_backup_of_what_is_only_shared_either(
    client: Client, settings: Settings, url: str
) -> None:
    seed(settings)
    another_place(url)
    scopes = become("space_developer", url, organization="other-org", space="other-space")
    rows(url, "insert into service_instance_shares values ('i-1', 'other-space')")
    headers = bearer(settings, CALLER, scopes=scopes)
    for method in ("GET", "DELETE"):
        assert await answer_of(await client.request(method, ONE_BACKUP, headers=headers)) == MEANING["no"]
    assert (await client.get("/v3/service_instances/i-1", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("method", "scopes"),
    [
        ("POST", ["cloud_controller.read"]),
        ("POST", ["cloud_controller.admin_read_only"]),
        ("POST", ["cloud_controller.global_auditor"]),
        ("POST", ["openid"]),
        ("GET", ["cloud_controller.write"]),
        ("GET", []),
    ],
)
async def test_item_15_it_wants_the_scope_before_it_looks_anything_up(
    client: Client, settings: Settings, url: str, method: str, scopes: list[str]
) -> None:
    seed(settings)
    rows(url, "update organizations set status = 'suspended'")
    headers = bearer(settings, scopes=scopes)
    answers = [
        await client.request(method, path, headers=headers, data="{", params={"unknown": "x"})
        for path in (BACKUPS, "/v3/service_instances/none/backups", "/v3/service_instances/%00/backups")
    ]
    assert [await answer_of(answer) for answer in answers] == [MEANING["no"]] * 3
    assert len({await answer.read() for answer in answers}) == 1


@pytest.mark.parametrize(("method", "path"), [("POST", BACKUPS), ("GET", BACKUPS), ("POST", RESTORE)])
@pytest.mark.parametrize("role", ["no_role", "organization_user"])
async def test_item_15_it_shows_what_may_not_be_read_as_what_does_not_exist(
    client: Client, settings: Settings, url: str, role: str, method: str, path: str
) -> None:
    seed(settings)
    scopes = become(role, url)
    rows(url, "update spaces set status = 'deleting'")
    headers = bearer(settings, CALLER, scopes=scopes)
    seen = []
    for place in (path, path.replace("i-1", "i-2"), path.replace("i-1", "%00")):
        response = await client.request(method, place, headers=headers)
        left_out = {"X-VCAP-Request-ID", "Date"}
        seen.append(
            (
                response.status,
                await response.read(),
                [(name, value) for name, value in response.headers.items() if name not in left_out],
                left_out <= set(response.headers),
            )
        )
    assert seen[0][0] == 404
    assert seen == [seen[0]] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "update service_plans set backup_features = '{}'",
            "The service offering postgres does not support backups with the plan small.",
        ),
        (
            "update service_instances set type = 'user-provided', plan_guid = null",
            "Service instance name of i-1 is user-provided: no service broker manages it, so it has no backups.",
        ),
        (
            "update service_instances set last_operation_state = 'initial'",
            "Service instance name of i-1 is not ready: its creation is in progress.",
        ),
        (
            "update service_instances set last_operation_state = 'in progress'",
            "Service instance name of i-1 is not ready: its creation is in progress.",
        ),
        (
            "update service_instances set last_operation_state = 'failed'",
            "Service instance name of i-1 is not ready: its creation is failed.",
        ),
    ],
)
async def test_item_30_it_says_why_an_instance_cannot_be_backed_up_and_stores_nothing(
    client: Client, settings: Settings, hints: HintLog, url: str, change: str, words: str
) -> None:
    seed(settings)
    rows(url, change)
    for path in (BACKUPS, RESTORE):
        response = await client.post(path, headers=bearer(settings), json={"backup_id": "x"})
        status, code, text = await answer_of(response)
        assert (status, code) == (422, 10008)
        if path == BACKUPS:
            assert text == words
    assert rows(url, "select from jobs") + rows(url, "select from backups") + rows(url, "select from restores") == []
    assert hints.hints == []


async def test_item_30_it_asks_for_the_role_and_the_place_before_it_says_what_is_not_supported(
    client: Client, settings: Settings, url: str
) -> None:
    seed(settings, features=())
    scopes = become("space_auditor", url)
    rows(url, "update spaces set status = 'suspended'")
    assert await answer_of(await client.post(BACKUPS, headers=bearer(settings, CALLER, scopes=scopes))) == MEANING["no"]
    assert await answer_of(await client.post(BACKUPS, headers=bearer(settings))) == MEANING["off"]


@pytest.mark.parametrize("state", ["in progress", "failed", "succeeded"])
async def test_item_30_it_backs_up_an_instance_whose_update_has_not_succeeded(
    client: Client, settings: Settings, url: str, state: str
) -> None:
    seed(settings)
    rows(url, "update service_instances set last_operation_type = 'update', last_operation_state = %s", state)
    assert (await client.post(BACKUPS, headers=bearer(settings))).status == 202
