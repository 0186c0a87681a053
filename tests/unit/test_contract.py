"""The check of answers against the document can fail, whatever is wrong with an answer."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.contract import Answered, faults

BACKUPS = "/v3/service_instances/i-1/backups"
GOOD = {"backups": [{"id": "b-1", "created_at": 1}]}
OWN = {"X-VCAP-Request-ID": str(uuid.uuid4()), "Server": "Safekeep"}
NOT_FOUND = {"code": 10010, "title": "CF-ResourceNotFound", "detail": "Service instance not found"}


def answered(**values: Any) -> Answered:
    defaults: dict[str, Any] = {
        "method": "GET",
        "path": BACKUPS,
        "status": 200,
        "headers": OWN | {"Content-Type": "application/json; charset=utf-8"},
        "body": GOOD,
    }
    values = defaults | values
    if not isinstance(values["body"], bytes):
        values["body"] = json.dumps(values["body"]).encode()
    return Answered(**values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": "HEAD", "body": b""},
        {"status": 404, "body": {"errors": [NOT_FOUND]}},
        {"path": BACKUPS.replace("i-1", "%00"), "status": 404, "body": {"errors": [NOT_FOUND]}},
        {
            "path": "/v3/nothing",
            "status": 404,
            "body": {"errors": [{"code": 10000, "title": "CF-NotFound", "detail": "Unknown request"}]},
        },
    ],
)
def test_it_accepts_what_is_documented(values: dict[str, Any]) -> None:
    assert faults(answered(**values)) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"headers": {"Content-Type": "application/json"}}, "no X-VCAP-Request-ID"),
        ({"headers": {"Content-Type": "application/json", "X-VCAP-Request-ID": "x"}}, "no X-VCAP-Request-ID"),
        ({"headers": OWN | {"Content-Type": "text/plain"}}, "text/plain is not"),
        ({"headers": OWN | {"Server": "Python/3.11 aiohttp/3.14.5"}}, "what it is made of"),
        ({"status": 201}, "not among the documented"),
        ({"status": 418, "body": {"errors": [NOT_FOUND]}}, "not among the documented"),
        ({"path": "/v3/nothing"}, "no documented operation"),
        ({"method": "PUT"}, "no documented operation"),
        ({"body": {"backups": [{"id": 7, "created_at": 1}]}}, "backups/0/id: 7 is not of type"),
        ({"body": {"backups": [{"id": "b-1"}]}}, '"created_at" is a required property'),
        ({"body": GOOD | {"secret": 1}}, "'secret' was unexpected"),
        ({"body": b"{"}, "no JSON"),
        ({"method": "POST", "status": 202, "body": GOOD}, "a body that is not documented"),
        ({"status": 404}, "not an error's body"),
        ({"status": 404, "body": b"404: Not Found"}, "no JSON"),
        ({"status": 404, "body": {"errors": []}}, "not an error's body"),
        ({"status": 404, "body": {"errors": [NOT_FOUND | {"test": 1}]}}, "not the three keys"),
        ({"status": 404, "body": {"errors": [NOT_FOUND | {"detail": ""}]}}, "not the three keys"),
        ({"status": 404, "body": {"errors": [NOT_FOUND | {"code": 7}]}}, "no row of the table"),
        ({"status": 401, "body": {"errors": [NOT_FOUND]}}, "no row of the table"),
        ({"status": 404, "body": {"errors": [NOT_FOUND | {"title": "NotFound"}]}}, "no row of the table"),
    ],
)
def test_it_says_what_an_answer_breaks(values: dict[str, Any], words: str) -> None:
    assert words in "\n".join(faults(answered(**values)))


@pytest.mark.parametrize(
    "detail",
    [
        'Traceback (most recent call last):\n  File "/srv/api/app.py", line 3',
        "KeyError: 'guid'",
        "builtins.str",
        'relation "jobs" does not exist\nLINE 1: select 1',
        'duplicate key value violates unique constraint "jobs_pkey"',
        "SELECT guid FROM jobs",
        "insert into jobs values (1)",
        "<api.app.Thing object at 0x7f0000000000>",
        "connection to 10.0.0.7:5432 failed",
        "psycopg.OperationalError",
        "cannot open /var/lib/postgresql",
    ],
)
def test_it_notices_details_that_tell_of_us(detail: str) -> None:
    found = faults(answered(status=404, body={"errors": [NOT_FOUND | {"detail": detail}]}))
    assert "the detail tells of" in "\n".join(found)
