"""The client of these tests fails the test in which the API answers something that its document does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import bearer, seed

if TYPE_CHECKING:
    from shared.settings import Settings
    from tests.integration.conftest import Client


async def test_it_fails_a_test_whose_answer_is_not_documented(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(settings)
    path = "/v3/service_instances/i-1/backups"
    assert (await client.get(path, headers=bearer(settings))).status == 200
    monkeypatch.setattr("api.handlers.backups.present_backups", lambda _backups: {"backups": [], "extra": 1})
    with pytest.raises(AssertionError, match="'extra' was unexpected"):
        await client.get(path, headers=bearer(settings))
