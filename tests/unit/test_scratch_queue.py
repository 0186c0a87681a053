"""What the local stack leaves on a queue of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fakeredis
import redis

from deploy.local.stack import _clear_queue

if TYPE_CHECKING:
    import pytest


def test_it_removes_its_own_keys_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    server = fakeredis.FakeRedis()
    server.mset({"safekeep-1:start": "x", "safekeep-1:_kombu.binding.poll": "x", "safekeep-2:start": "x", "other": "x"})
    monkeypatch.setattr(redis.Redis, "from_url", lambda _url: server)
    _clear_queue("redis://h", "safekeep-1:")
    assert sorted(server.keys()) == [b"other", b"safekeep-2:start"]
