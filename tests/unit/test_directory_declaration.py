"""The directory file: what it may say, and what is answered to everything else."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import ValidationError

from shared.directory import document
from shared.directory.declaration import (
    Declaration,
    ManagedInstance,
    OrganizationRoles,
    SpaceRoles,
    UserProvidedInstance,
    parse_declaration,
    read_declaration,
)
from shared.directory.errors import DirectoryError
from shared.directory.roles import ACCESS_OF_ROLE, ACCESS_OF_SCOPE
from shared.security.callers import GLOBAL_READING_SCOPES

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = Path(__file__).parents[2] / "deploy" / "local" / "directory.example.yaml"
ENVIRONMENT = {"BROKER_USERNAME": "broker", "BROKER_PASSWORD": "s3cret", "EMPTY": "", "ORG": "s3cret-org"}


def parse(text: str | bytes, environment: Mapping[str, str] = ENVIRONMENT) -> Declaration:
    raw = text if isinstance(text, bytes) else dedent(text).encode()
    return parse_declaration("directory.yaml", raw, environment)


def problems(text: str | bytes, environment: Mapping[str, str] = ENVIRONMENT) -> list[str]:
    """What is wrong, without the file's name, which every line starts with."""
    with pytest.raises(DirectoryError) as refusal:
        parse(text, environment)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith("directory.yaml:") for line in lines)
    return [line.removeprefix("directory.yaml:").strip() for line in lines]


def broker(**changes: str) -> str:
    """A file with one broker, `changes` written as they are in YAML."""
    keys = {"name": "pg", "url": "http://127.0.0.1:9001", "username": "u", "password": "p"} | changes
    return "brokers:\n- " + "\n  ".join(f"{key}: {value}" for key, value in keys.items() if value)


def instance(keys: str) -> str:
    """A file with one instance, in line 8."""
    return (
        dedent(
            """\
        brokers: [{name: pg, url: http://h, username: u, password: p}]
        organizations:
        - guid: o
          name: o
          spaces:
          - guid: s
            name: s
            service_instances: [{%s}]
        """
        )
        % keys
    )


def test_it_takes_the_example() -> None:
    declaration = read_declaration(EXAMPLE, ENVIRONMENT)
    assert declaration.brokers[0].username == "broker"
    assert declaration.brokers[0].password.get_secret_value() == "s3cret"
    assert declaration.brokers[0].limits.model_dump() == {"calls_in_flight": 10, "calls_per_minute": 600}
    instances = {instance.name: instance for _, _, instance in declaration.instances()}
    assert isinstance(instances["orders-db"], ManagedInstance)
    assert isinstance(instances["mail"], UserProvidedInstance)
    assert instances["orders-db"].last_operation.state == "succeeded"
    assert instances["reports-db"].last_operation.state == "in progress"
    assert [space.roles.space_developer for _, space in declaration.spaces()] == [("developer",), ("auditor",)]
    assert [space.status for _, space in declaration.spaces()] == ["active", "suspended"]
    archive = declaration.organizations[0].spaces[1]
    assert instances["orders-db"].shared_to == (archive.guid,)


def test_it_takes_a_file_that_declares_nothing() -> None:
    for text in ("{}", "brokers: []\nusers: []\norganizations: []"):
        assert parse(text).model_dump() == {"brokers": (), "users": (), "organizations": ()}


def test_it_takes_a_byte_order_mark() -> None:
    assert parse(b"\xef\xbb\xbfbrokers: []").brokers == ()


def test_it_knows_the_roles_that_the_directory_knows() -> None:
    assert {*OrganizationRoles.model_fields, *SpaceRoles.model_fields} == set(ACCESS_OF_ROLE)


def test_it_knows_the_scopes_that_tokens_know() -> None:
    assert set(ACCESS_OF_SCOPE) == GLOBAL_READING_SCOPES


@pytest.mark.parametrize("status", ["active", "suspended", "deleting"])
def test_it_takes_the_status_of_organizations_and_spaces(status: str) -> None:
    (organization,) = parse(
        f"organizations: [{{guid: o, name: o, status: {status}, spaces: [{{guid: s, name: s, status: {status}}}]}}]"
    ).organizations
    assert (organization.status, organization.spaces[0].status) == (status, status)


def test_it_refuses_any_other_status() -> None:
    assert problems("organizations: [{guid: o, name: o, status: paused}]") == [
        "1:36: organizations[0].status: must be 'active', 'suspended' or 'deleting'"
    ]


def test_it_wants_an_instance_shared_to_other_spaces_of_the_file_once_each() -> None:
    found = problems("""\
        organizations:
        - guid: o1
          name: o1
          spaces:
          - {guid: s1, name: s1, service_instances: [{guid: i1, name: i1, type: user-provided, shared_to: [s2, s2]}]}
          - {guid: s2, name: s2, service_instances: [{guid: i2, name: i2, type: user-provided, shared_to: [s3, s1]}]}
        - {guid: o2, name: o2, spaces: [{guid: "${ORG}", name: s4}]}
    """)
    assert found == [
        "5:104: organizations[0].spaces[0].service_instances[0].shared_to[1]: 's2' is there already, in line 5",
        (
            "6:100: organizations[0].spaces[1].service_instances[0].shared_to[0]: the file has no space 's3'; "
            "there are: '${ORG}', 's1', 's2'"
        ),
    ]


def test_it_cannot_be_changed_and_shows_no_password() -> None:
    declaration = parse(broker(password="${BROKER_PASSWORD}"))
    assert "s3cret" not in repr(declaration)
    with pytest.raises(ValidationError):
        declaration.brokers[0].name = "other"  # type: ignore[misc] # what mypy sees, too


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("'${A}'", "1"),
        ("$${A}", "${A}"),
        ("'$A $$ $'", "$A $$ $"),
        ("${B}", "${A} $${A}"),
    ],
)
def test_it_puts_variables_into_texts_once(written: str, value: str) -> None:
    environment = {"A": "1", "B": "${A} $${A}"}
    assert parse(broker(username=written), environment).brokers[0].username == value


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("${NOPE}", "the environment variable NOPE is not set"),
        ("${EMPTY}", "the environment variable EMPTY is empty"),
        ("${NOPE}${EMPTY}${NOPE}", "the environment variable NOPE is not set; the environment variable EMPTY is empty"),
        ("'${NOPE:-x}'", "a variable is written ${NAME}, and the characters ${ themselves $${"),
        ("${", "a variable is written ${NAME}, and the characters ${ themselves $${"),
        ("'${}'", "a variable is written ${NAME}, and the characters ${ themselves $${"),
    ],
)
def test_it_names_variables_that_are_missing(written: str, problem: str) -> None:
    assert problems(broker(username=written)) == [f"4:3: brokers[0].username: {problem}"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("example.org", "must be an absolute http:// or https:// URL"),
        ("ftp://h", "must be an absolute http:// or https:// URL"),
        ("http:///path", "must be an absolute http:// or https:// URL"),
        ("http://h:port", "must be an absolute http:// or https:// URL"),
        ("http://h:70000", "must be an absolute http:// or https:// URL"),
        ("http://[::1", "must be an absolute http:// or https:// URL"),
        ("http://user:s3cret@h", "must not contain credentials: they belong in username and password"),
        ("http://@h", "must not contain credentials: they belong in username and password"),
        ("http://h/?s3cret", "must not have a query or fragment"),
        ("'http://h/#s3cret'", "must not have a query or fragment"),
        ("http://h/a b", "must be a URL: plain ASCII, other characters percent-encoded"),
        ("http://bücher.example", "must be a URL: plain ASCII, other characters percent-encoded"),
        ('"http://h/\\n"', "must not contain control characters or line breaks"),
        ("''", "must not be empty"),
    ],
)
def test_it_wants_a_broker_url_that_osb_paths_can_be_put_behind(url: str, problem: str) -> None:
    found = problems(broker(url=url))
    assert found == [f"3:3: brokers[0].url: {problem}"]
    assert "s3cret" not in found[0]


@pytest.mark.parametrize(
    ("url", "kept"), [("https://h:8443/base/", "https://h:8443/base"), ("http://[::1]:9001", "http://[::1]:9001")]
)
def test_it_keeps_a_broker_url_without_the_last_slash(url: str, kept: str) -> None:
    assert parse(broker(url=url)).brokers[0].url == kept


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("name", "", "is missing"),
        ("name", "''", "must not be empty"),
        ("name", "x" * 256, "must not be longer than 255 characters"),
        ("name", "12", "must be text, not a number: put it in quotes"),
        ("name", "1.5", "must be text, not a number: put it in quotes"),
        ("name", "no", "must be text, not a truth value: put it in quotes"),
        ("name", "2026-01-01", "must be text, not a date: put it in quotes"),
        ("name", "~", "must be text, and is empty"),
        ("name", "[pg]", "must be text, not a list"),
        ("name", "{pg: 1}", "must be text, not a mapping"),
        ("name", '"a\\0b"', "must not contain control characters or line breaks"),
        ("name", "!!binary aGk=", "tags are not allowed; a text that starts with ! needs quotes"),
        ("name", "!!set {a}", "tags are not allowed"),
        ("username", "'a:b'", "must not contain a colon, which ends the user name in basic authentication (RFC 7617)"),
        ("password", "''", "must not be empty"),
        ("password", "7", "must be text, not a number: put it in quotes"),
        ("password", '"s3cret\\n"', "must not contain control characters or line breaks"),
        ("urll", "x", "unknown key; did you mean 'url'?"),
        ("zone", "x", "unknown key; there are: 'limits', 'name', 'password', 'url', 'username'"),
    ],
)
def test_it_names_the_place_of_what_is_wrong_with_a_broker(key: str, value: str, problem: str) -> None:
    lines = {"name": 2, "username": 4, "password": 5}
    assert problems(broker(**{key: value})) == [f"{lines.get(key, 6)}:3: brokers[0].{key}: {problem}"]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("<<", "6:3: brokers[0].'<<': unknown key; "),
        ('"\\e[2J"', r"6:3: brokers[0].'\x1b[2J': unknown key; "),
        ("? [a]", "6:5: brokers[0]: a key must be a text"),
    ],
)
def test_it_refuses_keys_that_are_no_words(key: str, problem: str) -> None:
    (found,) = problems(broker(**{key: "x"}))
    assert found.startswith(problem)


@pytest.mark.parametrize("value", ["\udcff", "a\x00b", "a\nb"])
def test_it_refuses_a_variable_with_unfit_characters_without_showing_it(value: str) -> None:
    for key in ("username", "password"):
        (found,) = problems(broker(**{key: "${ODD}"}), {"ODD": f"s3cret{value}"})
        assert f"brokers[0].{key}: must " in found
        assert "s3cret" not in found


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("broker: pg, offering: x, plan: y, type: managd", "78: type: must be 'managed' or 'user-provided'"),
        ("broker: pg, offering: x, plan: y, type: 7", "78: type: must be 'managed' or 'user-provided'"),
        ("broker: pg, offering: x, size: y", "25: plan: is missing|69: size: unknown key; there are: "),
        ("broker: pq, offering: x, plan: y", "44: broker: the file has no broker 'pq'; there are: 'pg'"),
        (
            "type: user-provided, plan: x",
            "65: plan: unknown key; there are: 'guid', 'last_operation', 'name', 'shared_to', 'type'",
        ),
        (
            "type: user-provided, last_operation: {state: done}",
            "82: last_operation.state: must be 'initial', 'in progress', 'succeeded' or 'failed'",
        ),
        (
            "type: user-provided, last_operation: {stat: x}",
            "82: last_operation.stat: unknown key; did you mean 'state'?",
        ),
        ("type: user-provided, last_operation: succeeded", "65: last_operation: must be a mapping, not text"),
        ("type: user-provided, shared_to: s", "65: shared_to: must be a list, not text"),
        ("type: user-provided, shared_to: [7]", "77: shared_to[0]: must be text, not a number: put it in quotes"),
        ("type: user-provided, shared_to: [x]", "77: shared_to[0]: the file has no space 'x'; there are: 's'"),
        ("type: user-provided, shared_to: [s]", "77: shared_to[0]: 's' is the space that the instance lives in"),
    ],
)
def test_it_names_the_place_of_what_is_wrong_with_an_instance(keys: str, expected: str) -> None:
    found = problems(instance(f"guid: i, name: i, {keys}"))
    assert len(found) == len(expected.split("|"))
    for line, end in zip(found, expected.split("|"), strict=True):
        column, _, rest = end.partition(": ")
        assert line.startswith(f"8:{column}: organizations[0].spaces[0].service_instances[0].{rest}")


@pytest.mark.parametrize(
    ("written", "in_flight", "per_minute"),
    [
        ("", None, None),
        ("{}", None, None),
        ("{calls_in_flight: 1}", 1, None),
        ("{calls_per_minute: 2147483647}", None, 2147483647),
        ("{calls_in_flight: '3', calls_per_minute: '${LIMIT}'}", 3, 60),
    ],
)
def test_it_takes_limits_of_a_broker(written: str, in_flight: int | None, per_minute: int | None) -> None:
    limits = parse(broker(limits=written), {"LIMIT": "60"}).brokers[0].limits
    assert (limits.calls_in_flight, limits.calls_per_minute) == (in_flight, per_minute)


@pytest.mark.parametrize(
    "value",
    ["0", "-1", "1.5", "1e3", "010", "0x10", "1_000", "10:00", "2147483648", "9" * 5000, "yes", "~", "''", "x", "'1 '",
     "[1]", "{a: 1}", "2026-01-01", "'\u0661'", "${SECRET}"],
)  # fmt: skip
def test_it_wants_a_limit_to_be_a_plain_number(value: str) -> None:
    text = broker(limits=f"\n    calls_in_flight: {value}")
    assert problems(text, {"SECRET": "s3cret"}) == [
        "7:5: brokers[0].limits.calls_in_flight: must be a whole number from 1 to 2147483647"
    ]


def test_it_names_the_place_of_what_is_wrong_with_limits() -> None:
    place = "6:3: brokers[0].limits:"
    assert problems(broker(limits="~")) == [f"{place} must be a mapping, and is empty"]
    assert problems(broker(limits="10")) == [f"{place} must be a mapping, not a number"]
    assert problems(broker(limits="{calls_in_fligth: 1}")) == [
        "6:12: brokers[0].limits.calls_in_fligth: unknown key; did you mean 'calls_in_flight'?"
    ]


def test_it_refuses_names_and_guids_that_are_there_twice() -> None:
    found = problems("""\
        brokers:
        - {name: pg, url: http://h, username: u, password: p}
        - {name: pg, url: http://h, username: u, password: p}
        users:
        - {guid: u1, name: ann}
        - {guid: u1, name: bob}
        - {guid: u2, name: ann}
        organizations:
        - guid: o1
          name: acme
          roles: {organization_manager: [ann, bob, ann]}
          spaces:
          - {guid: s1, name: dev, service_instances: [{guid: i1, name: db, type: user-provided}]}
          - {guid: s2, name: dev, service_instances: [{guid: i2, name: db, type: user-provided}]}
        - guid: o1
          name: acme
          spaces:
          - guid: s1
            name: dev
            roles: {space_developer: [ann], space_auditor: [ann, ann]}
            service_instances:
            - {guid: i1, name: db, type: user-provided}
            - {guid: i3, name: db, type: user-provided}
    """)
    assert found == [
        "3:4: brokers[1].name: 'pg' is there already, in line 2",
        "6:4: users[1].guid: 'u1' is there already, in line 5",
        "7:14: users[2].name: 'ann' is there already, in line 5",
        "11:44: organizations[0].roles.organization_manager[2]: 'ann' is there already, in line 11",
        "14:16: organizations[0].spaces[1].name: 'dev' is there already, in line 13",
        "15:3: organizations[1].guid: 'o1' is there already, in line 9",
        "16:3: organizations[1].name: 'acme' is there already, in line 10",
        "18:5: organizations[1].spaces[0].guid: 's1' is there already, in line 13",
        "20:58: organizations[1].spaces[0].roles.space_auditor[1]: 'ann' is there already, in line 20",
        "22:8: organizations[1].spaces[0].service_instances[0].guid: 'i1' is there already, in line 13",
        "23:18: organizations[1].spaces[0].service_instances[1].name: 'db' is there already, in line 22",
    ]


def test_it_quotes_what_the_file_says_and_never_the_value_of_a_variable() -> None:
    found = problems("""\
        users: [{guid: u1, name: "${ORG}"}]
        organizations:
        - {guid: o1, name: "${ORG}", roles: {organization_user: [s3cret]}}
        - {guid: "${ORG}", name: "${ORG}", roles: {organization_user: ["x${ORG}"]}}
    """)
    assert found == [
        "3:58: organizations[0].roles.organization_user[0]: the file has no user 's3cret'; there are: '${ORG}'",
        "4:20: organizations[1].name: '${ORG}' is there already, in line 3",
        "4:64: organizations[1].roles.organization_user[0]: the file has no user 'x${ORG}'; did you mean '${ORG}'?",
    ]


def test_it_does_not_report_what_only_follows_from_a_missing_variable() -> None:
    found = problems("""\
        users: [{guid: u1, name: "${NOPE}"}]
        organizations: [{guid: o1, name: o, roles: {organization_user: [ann]}}]
    """)
    assert found == ["1:20: users[0].name: the environment variable NOPE is not set"]


def test_it_reports_everything_at_once_by_line() -> None:
    found = problems("""\
        brokers:
        - {name: pg, url: h, username: "${NOPE}", password: 7, colour: red}
        users: none
        organizations:
        - guid: o
          guid: p
          roles: {organization_manger: [ann]}
        extra: 1
    """)
    assert found == [
        "2:14: brokers[0].url: must be an absolute http:// or https:// URL",
        "2:22: brokers[0].username: the environment variable NOPE is not set",
        "2:43: brokers[0].password: must be text, not a number: put it in quotes",
        "2:56: brokers[0].colour: unknown key; there are: 'limits', 'name', 'password', 'url', 'username'",
        "3:1: users: must be a list, not text",
        "5:3: organizations[0].name: is missing",
        "6:3: organizations[0].guid: the key is there already, in line 5",
        "7:11: organizations[0].roles.organization_manger: unknown key; did you mean 'organization_manager'?",
        "7:33: organizations[0].roles.organization_manger[0]: the file has no user 'ann'; there is none",
        "8:1: extra: unknown key; there are: 'brokers', 'organizations', 'users'",
    ]


@pytest.fixture(params=[yaml.SafeLoader, getattr(yaml, "CSafeLoader", None)], ids=["python", "libyaml"])
def _each_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param is None:
        pytest.skip("PyYAML is built without libyaml")
    monkeypatch.setattr(document, "_LOADER", request.param)


@pytest.mark.usefixtures("_each_parser")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"---\n...\n", "the file is empty"),
        (b"- a", "1:1: must be a mapping, not a list"),
        (b"text", "1:1: must be a mapping, not text"),
        (b"7", "1:1: must be a mapping, not a number"),
        (b"brokers:", "1:1: brokers: must be a list, and is empty"),
        (b"users: []\n---\nusers: []\n", "2:1: a second document starts here, and there may be only one"),
        (b"users: &a []\nbrokers: *a", "2:10: aliases are not allowed; a text that starts with * needs quotes"),
        (b"users: " + b"[" * 50_000, "1:39: is nested too deeply"),
        (b"users: []\nbrokers: \xff", "2:10: the file is not UTF-8 text"),
        (b"users: []\nbrokers: \x07", "2:10: a control character is not allowed here"),
        (b"users: [a\nbrokers: ", "2:8: is not YAML: "),
        (b"users: 'a", "1:10: is not YAML: "),
        (b"users: a: b", "1:9: is not YAML: "),
        (b"users: @a", "1:8: is not YAML: "),
    ],
)
def test_it_names_what_is_wrong_with_the_file_as_yaml(raw: bytes, expected: str) -> None:
    (found,) = problems(raw)
    if expected.endswith("YAML: "):
        assert ": is not YAML: " in found
        assert found.partition(":")[0] == expected.partition(":")[0]
    else:
        assert found == expected


@pytest.mark.usefixtures("_each_parser")
def test_it_refuses_a_bomb_of_aliases_at_once() -> None:
    bomb = b"a: &a [x]\n" + b"".join(b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in b"bcdefgh")
    assert len(problems(bomb)) == 7 * 9


def test_it_refuses_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "FILE_BYTES_MAX", 1 << 20)
    assert problems(b"#" * ((1 << 20) + 1)) == ["the file is larger than 1 MiB"]


def test_it_says_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(DirectoryError) as refusal:
            read_declaration(path, {})
        assert str(refusal.value) == f"{path}: the file cannot be read: {reason}"
