"""What the API answers to requests that no well-meaning client sends, over bare sockets. Lengths and time: the edge's.

Every answer is also held against the document, the form of errors and the rule for request ids (item_07, item_11).
"""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from api.routes import ENDPOINTS
from tests.contract import DOCUMENT
from tests.raw import (
    BAD_JSON,
    BAD_QUERY,
    BAD_TOKEN,
    FINE,
    NO_ROUTE,
    NO_THING,
    NO_TOKEN,
    NOT_HTTP,
    REFUSED,
    Expected,
    Target,
    exchange,
    json_request,
    request,
)
from tests.support import rows

if TYPE_CHECKING:
    from api.endpoint import Endpoint

BACKUPS = "/v3/service_instances/i-1/backups"
RESTORE = "/v3/service_instances/i-1/actions/restore"
JOB = "/v3/jobs/x"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")


# ---------------------------------------------------------------- what is no HTTP


async def test_it_answers_what_is_no_request(target: Target) -> None:
    table = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", NOT_HTTP),  # the beginning of TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NOT_HTTP),
        (b"\0" * 100 + b"\r\n\r\n", NOT_HTTP),
        (b"GET\r\n\r\n", NOT_HTTP),
        (b"GET /healthz\r\n\r\n", NOT_HTTP),
        (b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", NOT_HTTP),
        (b"GET /healthz HTTP/1.1\r\n\r\n", NOT_HTTP),  # no Host
        (b"GET /healthz HTTP/1.1\nHost: x\n\n", NOT_HTTP),
        (b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n", NOT_HTTP),
        (b"Get /healthz HTTP/1.1\r\nHost: x\r\n\r\n", NOT_HTTP),
        (b"UNHEARD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", NOT_HTTP),
        (b"\xff\xfe /healthz HTTP/1.1\r\nHost: x\r\n\r\n", NOT_HTTP),
    ]
    await target.check(table)


async def test_it_takes_no_header_that_can_be_read_in_two_ways(target: Target) -> None:
    table = [
        (request("GET /healthz", ": a"), NOT_HTTP),
        (request("GET /healthz", "A B: a"), NOT_HTTP),
        (request("GET /healthz", "Nothing"), NOT_HTTP),
        (request("GET /healthz", "A: a\r\n b"), NOT_HTTP),
        (request("GET /healthz", "A: a\rb"), NOT_HTTP),
        (request("GET /healthz", "A: a\nB: b"), NOT_HTTP),
        (request("GET /healthz", "A: a\0b"), NOT_HTTP),
        (request("GET /healthz", "Host: y"), NOT_HTTP),
        (request("GET /healthz", "User-Agent: a", "User-Agent: b"), NOT_HTTP),
        (request(f"POST {BACKUPS}", target.admin, "X-Vcap-Request-Id: other"), NOT_HTTP),
        (request(f"POST {BACKUPS}", target.admin, "Idempotency-Key: a", "Idempotency-Key: a"), NOT_HTTP),
        (request(f"GET {JOB}", target.admin, target.admin), NO_TOKEN),
        (request(f"GET {JOB}", target.admin, "Authorization: Basic dTpw"), NO_TOKEN),
        (request(f"GET {JOB}", target.admin + ", bearer x"), NO_TOKEN),
    ]
    await target.check(table)


async def test_it_takes_no_more_than_it_needs(target: Target) -> None:
    table = [
        (request("GET /" + "x" * 9_000), NOT_HTTP),
        (request("GET /healthz?" + "x" * 9_000), NOT_HTTP),
        (request("GET /healthz?" + "&".join(["x=1"] * 10_000)), NOT_HTTP),
        (request("GET /healthz", "A: " + "x" * 70_000), NOT_HTTP),
        (request("GET /healthz", "A" * 70_000 + ": x"), NOT_HTTP),
        (request("GET /healthz", *(f"A-{number}: x" for number in range(1_000))), NOT_HTTP),
        (request(f"GET {JOB}", "Authorization: bearer " + "x" * 7_000), BAD_TOKEN),
        (request(f"GET {JOB}?" + "&".join(["x"] * 3_500), target.admin), BAD_QUERY),
        (request(f"GET {JOB}?" + "&".join(f"x{number}" for number in range(1_000)), target.admin), BAD_QUERY),
    ]
    await target.check(table)


async def test_it_says_little_about_much(target: Target) -> None:
    names = {f"x{number}": 1 for number in range(1_000)} | {"y" * 10_000: 1}
    replies = [
        await exchange(target.server.port, request(f"GET {JOB}?" + "&".join(names)[:7_000], target.admin)),
        await exchange(target.server.port, json_request(f"POST {RESTORE}", target.admin, body=names)),
    ]
    assert [reply.code for reply in replies] == [10005, 10008]
    assert all(len(reply.body) < 1_000 for reply in replies)


async def test_it_knows_no_target_but_a_path(target: Target) -> None:
    table = [
        (request("GET http://evil.example/healthz"), FINE),  # RFC 9112, 3.2.2: a server takes it; the host is ignored
        (request("GET https://evil.example:99/healthz"), FINE),
        (request("GET http://evil.example"), NO_ROUTE),
        (request("GET http://a:b@evil.example:99999/healthz"), NOT_HTTP),
        (request("GET http://[::1/healthz"), NOT_HTTP),
        (request("GET evil.example:80"), NOT_HTTP),
        (request("CONNECT evil.example:80"), NO_ROUTE),
        (request("OPTIONS *"), NO_ROUTE),
        (request("GET *"), NOT_HTTP),
        (request("GET healthz"), NOT_HTTP),
        (request("GET /v3/jobs/a\tb"), NOT_HTTP),
        (request("GET /v3/jobs/a\0b"), NOT_HTTP),
        (request("GET /v3/jobs/ä"), NOT_HTTP),
        (request("GET /v3/jobs/\udcff"), NOT_HTTP),
    ]
    await target.check(table)


async def test_it_knows_every_path_by_one_spelling_only(target: Target) -> None:
    spellings = [
        "//v3/info",
        "/v3//info",
        "/v3/info/",
        "/./v3/info",
        "/v3/./info",
        "/v3/jobs/../info",
        "/v3/%2e%2e/healthz",
        "/../../healthz",
        "/v3%2finfo",
        "/%2fv3/info",
        "/V3/INFO",
        "/v3/info;x=1",
        "/v3;x/info",
        "/v3/info%00",
        "/v3/info%20",
        "/v3/info%2f",
        "/v3\\info",
        "/v3/info.json",
        "/healthz/..",
    ]
    await target.check([(request(f"GET {path}"), NO_ROUTE) for path in spellings])


# ---------------------------------------------------------------- operations


async def test_item_10_it_has_no_other_methods_and_needs_no_token_to_say_so(target: Target) -> None:
    """item_10: Cloud Foundry knows no 405."""
    known: dict[str, set[str]] = {}
    for operation in ENDPOINTS:
        known.setdefault(operation.path, set()).add(operation.method)
    table = [
        (request(f"{method} {filled(path, 'x')}"), NO_ROUTE)
        for path, methods in known.items()
        for method in METHODS
        if method not in methods | ({"HEAD"} if "GET" in methods else set())
    ]
    assert len(table) > 5 * len(known)
    await target.check(table)


async def test_it_cannot_be_talked_into_another_method(target: Target) -> None:
    names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    table: list[tuple[bytes, Expected]] = [(request("GET /healthz", f"{name}: DELETE"), FINE) for name in names]
    table += [(request("PUT /healthz?_method=GET", f"{name}: GET"), NO_ROUTE) for name in names]
    await target.check(table)


async def test_it_answers_head_as_get_without_the_body(target: Target) -> None:
    table = [
        (request("HEAD /healthz"), FINE),
        (request("HEAD /v3/nothing"), NO_ROUTE),
        (request(f"HEAD {JOB}"), NO_TOKEN),
        (request(f"HEAD {JOB}", target.admin), NO_THING),
        (request(f"HEAD {BACKUPS}?limit=0", target.admin), BAD_QUERY),
        (request(f"HEAD {BACKUPS}", target.admin), FINE),
        (request(f"HEAD {RESTORE}", target.admin), NO_ROUTE),
    ]
    await target.check(table)


#: Guids that are none, as they are sent.
GUIDS = {
    "x": NO_THING,
    "-": NO_THING,
    "null": NO_THING,
    "0": NO_THING,
    "%00": NO_THING,
    "x%00": NO_THING,
    "%0d%0aLocation:%20x": NO_THING,
    "%2F": NO_THING,
    "..%2F..%2Finfo": NO_THING,
    "%2e%2e%2f": NO_THING,
    "%252e%252e": NO_THING,
    "%5C..%5C": NO_THING,
    "%c0%af": NO_THING,  # an overlong slash
    "%c0%80": NO_THING,  # an overlong NUL
    "%e0%80%af": NO_THING,
    "%ff%fe": NO_THING,
    "%ed%a0%80": NO_THING,  # a half of a surrogate pair
    "%f4%90%80%80": NO_THING,  # beyond Unicode
    "%EF%BB%BFx": NO_THING,
    "%E2%80%AEx": NO_THING,  # right to left
    "%F0%9F%92%BE": NO_THING,
    "%zz": NO_THING,
    "%": NO_THING,
    "%1": NO_THING,
    "x;y=1": NO_THING,
    "x,y": NO_THING,
    "x&y": NO_THING,
    "*": NO_THING,
    "'%20or%201=1--": NO_THING,
    "%27%3B%20drop%20table%20jobs--": NO_THING,
    "{guid}": NO_ROUTE,  # the router takes no braces
    "$%7Bjndi:ldap:%2F%2Fx%7D": NO_ROUTE,
    "00000000-0000-0000-0000-000000000000": NO_THING,
    "%7B00000000-0000-0000-0000-000000000000%7D": NO_ROUTE,
    "urn:uuid:00000000-0000-0000-0000-000000000000": NO_THING,
    "9" * 400: NO_THING,
    "x" * 6_000: NO_THING,
    "%00" * 2_000: NO_THING,
    "x" * 10_000: NOT_HTTP,
    "": NO_ROUTE,
    "x/y/z/x/y/z": NO_ROUTE,
}

WITH_PARAMETERS = [operation for operation in ENDPOINTS if "{" in operation.path and not operation.is_public]


@pytest.mark.parametrize("operation", WITH_PARAMETERS, ids=lambda each: each.operation_id)
async def test_item_10_it_knows_nothing_by_such_a_guid(target: Target, operation: Endpoint) -> None:
    """item_10: in every place for a guid, while the others hold one that there is."""
    table = []
    for name in re.findall(r"{\w+}", operation.path):
        place = operation.path.replace(name, "\n")
        place = place.replace("{service_instance_guid}", "i-1")
        place = re.sub(r"{\w+}", str(uuid.uuid4()), place)
        table += [
            (request(f"{operation.method} {place.replace(chr(10), guid)}", target.admin), expected)
            for guid, expected in GUIDS.items()
        ]
    await target.check(table)
    assert rows(target.url, "select 1 from jobs") == []


# ---------------------------------------------------------------- values


async def test_it_survives_every_value_of_a_header(target: Target) -> None:
    odd = ["\udcff", "ä", "\t", "%00", "x" * 7_000, '"', "'", ";;;=", ",,,", "\x7f", "-1", "9" * 400, "NaN", "null"]
    expected = {"Authorization": NO_TOKEN, "Accept": NO_THING, "Expect": NOT_HTTP}
    names = ["Accept", "If-None-Match", "If-Match", "If-Modified-Since", "Range", "Cookie", "Origin", "Content-Type"]
    names += ["traceparent", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Accept-Encoding", "Referer", "Expect"]
    table = []
    for name in [*names, "Authorization"]:
        own = () if name == "Authorization" else (target.admin,)
        for value in odd:
            if (name, value) == ("Expect", "\t"):
                continue  # as good as none
            answer = NOT_HTTP if value == "\x7f" else expected.get(name, NO_THING)
            table.append((request(f"GET {JOB}", f"{name}: {value}", *own), answer))
    table += [
        (request(f"GET {JOB}", f"Authorization: bearer {value}"), BAD_TOKEN) for value in ("\udcff.a.b", "ä", "😀")
    ]
    await target.check(table)


async def test_it_keeps_what_no_header_should_be_out_of_the_database(target: Target) -> None:
    for value in ("\udcff", "x" * 7_000, "00-" + "0" * 32, "ä", "00-" + "g" * 32 + "-" + "0" * 16 + "-00"):
        raw = request(f"POST {BACKUPS}", target.admin, f"traceparent: {value}")
        assert (await exchange(target.server.port, raw)).status == 202
        assert rows(target.url, "delete from jobs returning traceparent") == [{"traceparent": None}]
    valid = f"traceparent: 00-{'a' * 32}-{'b' * 16}-01"
    for headers, kept in (([valid], valid.removeprefix("traceparent: ")), ([valid, valid], None)):
        assert (await exchange(target.server.port, request(f"POST {BACKUPS}", target.admin, *headers))).status == 202
        assert rows(target.url, "delete from jobs returning traceparent") == [{"traceparent": kept}]


async def test_it_survives_every_value_of_a_parameter(target: Target) -> None:
    """item_08: a repeated, huge or odd value of what there is, and every unknown parameter, are refused."""
    values = ["", "%00", "%ff", "%ed%a0%80", "%c0%af", "%zz", "%", "-1", "0", "1e3", "+1", "1%20", "0x1", "9" * 500]
    values += ["%D9%A3", "1,2", "[]", "null", "NaN", "%27", "true"]
    table: list[tuple[bytes, Expected]] = []
    table += [(request(f"GET {BACKUPS}?limit={value}", target.admin), BAD_QUERY) for value in values]
    others = ["limit=1&limit=1", "limit=1&LIMIT=1", "limit[]=1", "limit%00=1", "=", "=1", "%00", "%ff=%ff", "limit=1;x"]
    others += ["guid=x", "__proto__=1", "limit.x=1"]
    table += [(request(f"GET {BACKUPS}?{query}", target.admin), BAD_QUERY) for query in others]
    table += [
        (request(f"GET {BACKUPS}?{query}", target.admin), FINE) for query in ("", "&", "&&&", "limit=1&", "limit=01")
    ]
    await target.check(table)


@pytest.mark.parametrize(
    "operation", [each for each in ENDPOINTS if each.query is not None], ids=lambda each: each.operation_id
)
async def test_it_survives_every_value_of_every_parameter(target: Target, operation: Endpoint) -> None:
    """Nothing but an answer that is documented, for whatever operation; a wrong value is 400 or finds nothing."""
    documented = DOCUMENT["paths"][operation.path][operation.method.lower()]["parameters"]
    path = filled(operation.path, "x")
    found = []
    for name in [parameter["name"] for parameter in documented if parameter["in"] == "query"]:
        for value in (
            "%00",
            "%ff",
            "%ed%a0%80",
            "9" * 500,
            "a,,b",
            ",",
            "a" * 300,
            "-1",
            "%0a",
            "2026-13-45T99:99:99Z",
        ):
            raw = request(
                f"{operation.method} {path}?{name.replace('[', '%5B').replace(']', '%5D')}={value}", target.admin
            )
            reply = await exchange(target.server.port, raw)
            found += target.faults_of(reply, operation.method, path)
            if reply.status not in {200, 400, 404}:
                found.append(f"{name}={value}: {reply.status} {reply.body[:200]!r}")
    unknown = await exchange(target.server.port, request(f"{operation.method} {path}?unheard-of=1", target.admin))
    assert (unknown.status, unknown.code) == BAD_QUERY
    assert found == []


# ---------------------------------------------------------------- bodies


DEEP = 100_000 // 8

BODIES: list[tuple[bytes, Expected]] = [
    (b"{", BAD_JSON),
    (b"[]", BAD_JSON),
    (b'"x"', BAD_JSON),
    (b"null", BAD_JSON),
    (b"\0", BAD_JSON),
    (b"{} {}", BAD_JSON),
    (b"{}\0", BAD_JSON),
    (b"{'a': 1}", BAD_JSON),
    (b'{"a": 1,}', BAD_JSON),
    (b'{"a": 1, "a": 1}', BAD_JSON),
    (b'{"a": {"b": 1, "b": 2}}', BAD_JSON),
    (b'{"a": 1, "\\u0061": 1}', BAD_JSON),
    (b'{"a": NaN}', BAD_JSON),
    (b'{"a": -Infinity}', BAD_JSON),
    (b'{"a": ' + b"9" * 5_000 + b"}", BAD_JSON),
    (b'{"a": "\xff"}', BAD_JSON),
    (b'{"a": "\xed\xa0\x80"}', BAD_JSON),
    (b'{"a": "\xc0\x80"}', BAD_JSON),
    (b'{"a": "\n"}', BAD_JSON),
    (b"\xef\xbb\xbf{}", BAD_JSON),
    ('{"backup_id": "x"}'.encode("utf-16"), BAD_JSON),
    ('{"backup_id": "x"}'.encode("utf-32"), BAD_JSON),
    (b"[" * DEEP, BAD_JSON),
    (b'{"a":' * DEEP, BAD_JSON),
    (b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", BAD_JSON),
    (b'{"": 1}', REFUSED),
    (b'{"\\u0000": 1}', REFUSED),
    (b'{"\\ud800": 1}', REFUSED),
    (b'{"__proto__": {}}', REFUSED),
    (b'{"a": 1e999}', REFUSED),
    (b'{"a": ' + b"9" * 4_000 + b"}", REFUSED),
]


@pytest.mark.parametrize(
    "operation", [each for each in ENDPOINTS if each.body is not None], ids=lambda each: each.operation_id
)
async def test_it_takes_no_body_that_is_not_json_to_everybody(target: Target, operation: Endpoint) -> None:
    """item_09, item_10: for every operation that takes a body."""
    line = f"{operation.method} {filled(operation.path, 'i-1')}"
    await target.check([(json_request(line, target.admin, body=body), answer) for body, answer in BODIES])


async def test_it_hands_the_database_nothing_that_it_cannot_take(target: Target) -> None:
    rows(target.url, "update service_plans set backup_features = backup_features || '{restore.pitr}'")
    texts = ["\0", "a\0b", "\ud800", "\udfff\ud800", "x" * 256, "", "\x1f", "\n"]
    fields = ("backup_id", "restore_point", "source_service_instance_guid")
    table = [
        (json_request(f"POST {RESTORE}", target.admin, body={"restore_point": "x"} | {field: text}), REFUSED)
        for field in fields
        for text in texts
    ]
    wrong: list[Any] = [1, 1.5, True, [], {}, ["x"], {"x": 1}, 10**300]
    table += [
        (json_request(f"POST {RESTORE}", target.admin, body={field: value}), REFUSED)
        for field in (*fields, "target_timestamp")
        for value in wrong
    ]
    moments = ["", "2026-11-23", "2026-02-30T00:00:00Z", "2026-11-23T25:00:00Z", "0000-01-01T00:00:00Z", "\0", "now"]
    moments += ["infinity", "2026-11-23T10:00:00", "٢٠٢٦-11-23T10:00:00Z", "2026-11-23T10:00:00+99:00"]
    table += [
        (json_request(f"POST {RESTORE}", target.admin, body={"target_timestamp": moment}), REFUSED)
        for moment in moments
    ]
    await target.check(table)
    assert rows(target.url, "select 1 from jobs") == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_it_survives_the_ends_of_time(target: Target, moment: str) -> None:
    rows(target.url, "update service_plans set backup_features = backup_features || '{restore.pitr}'")
    raw = json_request(f"POST {RESTORE}", target.admin, body={"target_timestamp": moment})
    await target.check([(raw, REFUSED)])


async def test_it_ignores_bodies_that_say_that_they_are_something_else(target: Target) -> None:
    types = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", ";;;=json", ""]
    table = [
        (request(f"POST {RESTORE}", target.admin, f"Content-Type: {each}", "Content-Length: 1", body=b"{"), REFUSED)
        for each in types
    ]
    await target.check(table)


# ---------------------------------------------------------------- links


async def test_item_01_it_says_where_things_are_whatever_host_it_is_called_by(target: Target) -> None:
    """item_01: 202 with a zero-length body, and a Location made of the settings alone."""
    hosts = ["evil.example", "evil.example:99", "", "a b/c?d#e@", "[::1]", "safekeep.example.evil", "\udcff"]
    forwarded = ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: ftp", "Forwarded: host=evil.example")
    for host in hosts:
        reply = await exchange(target.server.port, request(f"POST {BACKUPS}", target.admin, *forwarded, host=host))
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (202, b"", "0")
        assert re.fullmatch(r"https://safekeep\.example/v3/jobs/[0-9a-f-]{36}", reply.headers["Location"])
        path = reply.headers["Location"].removeprefix("https://safekeep.example")
        for way in (path, f"http://evil.example{path}"):
            job = await exchange(target.server.port, request(f"GET {way}", target.admin, *forwarded, host=host))
            assert job.status == 200
            assert {link["href"].partition("/v3")[0] for link in json.loads(job.body)["links"].values()} == {
                "https://safekeep.example"
            }
        rows(target.url, "delete from jobs")


def filled(path: str, value: str) -> str:
    return re.sub(r"{\w+}", value, path)
