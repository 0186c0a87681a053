"""schemathesis against `/openapi.json` on a running system: no 5xx, no undocumented answer, and no insides told.

A bounded budget that tries the same each time; `make fuzz` has a large one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.runs import Budget, fuzz
from tests.fuzz.system import fuzz_settings, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.settings import Settings


@pytest.mark.timeout(300)
async def test_it_stands_schemathesis(make_settings: Callable[..., Settings]) -> None:
    async with running(make_settings(**fuzz_settings())) as system:
        outcomes = await asyncio.gather(*(fuzz(system, Budget(examples=8), caller=caller) for caller in system.tokens))
    for outcome in outcomes:
        assert outcome.returncode == 0, f"as {outcome.caller}:\n{outcome.output}"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"backups": [{"id": 7, "created_at": 1}]}, "Response violates schema"),
        ({"backups": [], "extra": 1}, "'extra' was unexpected"),
        ({"backups": [object()]}, "Server error"),
    ],
)
async def test_it_would_find_what_is_wrong(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, change: object, finding: str
) -> None:
    monkeypatch.setattr("api.handlers.backups.present_backups", lambda _backups: change)
    only = ("/v3/service_instances/{service_instance_guid}/backups",)
    async with running(make_settings(**fuzz_settings())) as system:
        outcome = await fuzz(system, Budget(examples=10, phases=("fuzzing",), paths=only), caller="admin")
    assert outcome.returncode == 1
    assert finding in outcome.output
