"""Loaded by schemathesis into its own process: a check of ours on every answer, and restores of what there is."""

from __future__ import annotations

import os
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import schemathesis
from hypothesis import strategies
from multidict import CIMultiDict

from tests.contract import Answered, faults

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, Response


RICH: Final = os.environ["FUZZ_RICH"]
BACKUPS: Final = os.environ["FUZZ_BACKUPS"].split(",")


_FIRST: Final = datetime(1000, 1, 1)  # noqa: DTZ001 - strategies take naive ends
# Most filters take times in one form, which would hardly ever be found by chance among those of RFC 3339.
_whole = strategies.datetimes(_FIRST).map(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}")
_odd = strategies.datetimes(timezones=strategies.timezones()).map(datetime.isoformat)
schemathesis.openapi.format("date-time", _whole | _whole | _whole | _odd)


@schemathesis.hook
def map_case(_context: schemathesis.HookContext, case: Case[Any]) -> Case[Any]:
    """Let half of the valid restores that name a backup name one that there is; dictionaries do not reach bodies."""
    is_valid = case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE
    if is_valid and isinstance(case.body, dict):
        backup_id = case.body.get("backup_id")
        number = zlib.crc32(repr(backup_id).encode())
        if isinstance(backup_id, str) and number % 2:
            case.body["backup_id"] = BACKUPS[number % len(BACKUPS)]
            case.path_parameters["service_instance_guid"] = RICH
    return case


@schemathesis.check
def keeps_the_contract(_ctx: CheckContext, response: Response, _case: Case[Any]) -> None:
    """Request ids, the form and the table of errors, closed schemas, and nothing told of our insides."""
    url = response.request.path_url
    found = faults(
        Answered(
            method=response.request.method or "",
            path=url.partition("?")[0],
            status=response.status_code,
            headers=CIMultiDict((name, values[0]) for name, values in response.headers.items()),
            body=response.content,
        )
    )
    assert not found, "\n".join(found)
