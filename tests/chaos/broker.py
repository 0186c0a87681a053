"""A service broker that keeps its promises and is hard to talk to: a process of its own, started by the stack.

It implements the backup protocol (create, poll, read, list, delete; the same id never starts a second backup; an id
that was deleted stays dead). Around that it times out, cuts, errs, is busy and talks nonsense, drawn from a seed. What
really happened is in its ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web

from tests.chaos.ledger import NEVER_S, Begun, Ledger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.chaos.ledger import Memory

USERNAME: Final = "safekeep"
OFFERING, PLAN = "faulty", "small"
SERVICE_ID, PLAN_ID = "faulty-service", "faulty-plan"
#: Longer than the platform waits for an answer.
HOLD_S: Final = 2.0
SLOW_S: Final = 0.7
RETRY_AFTER: Final = {"Retry-After": "1"}
SUCCESS: Final = (200, 201, 202)
#: Answers of faults, by the second half of their names.
TOLD: Final[dict[str, tuple[int, dict[str, str], dict[str, str]]]] = {
    "404": (404, {}, {}),
    "422 ConcurrencyError": (422, {"error": "ConcurrencyError", "description": "busy"}, {}),
    "429": (429, {"description": "too many requests"}, {}),
    "500": (500, {"description": "an error of the broker"}, {}),
    "503 with Retry-After": (503, {"description": "back soon"}, RETRY_AFTER),
}
MALFORMED: Final = ('{"state": "wonderful"}', "{}", "[]", '"succeeded"', "null", "<html>", "")
NOT_ADMITTED: Final = ("start: 500 after", "start: cut after", "start: malformed 2xx after")

#: How often each fault comes, per call. "after": when the broker has done what it was asked to.
START_FAULTS: Final = {
    "start: cut before": 0.04,
    "start: 422 ConcurrencyError": 0.03,
    "start: 429": 0.03,
    "start: 503 with Retry-After": 0.03,
    "start: slow": 0.05,
    "start: timeout after": 0.04,
    "start: 500 after": 0.04,
    "start: cut after": 0.04,
    "start: malformed 2xx after": 0.04,
}
POLL_FAULTS: Final = {
    "poll: cut": 0.03,
    "poll: 500": 0.04,
    "poll: timeout": 0.02,
    "poll: malformed": 0.03,
    "poll: slow": 0.03,
    "poll: 404": 0.02,
}
DELETE_FAULTS: Final = {
    "delete: cut before": 0.05,
    "delete: 429": 0.05,
    "delete: 500 after": 0.05,
    "delete: cut after": 0.05,
    "delete: timeout after": 0.03,
}
READ_FAULTS: Final = {"read: 500": 0.05, "read: malformed": 0.05, "read: cut": 0.03}
#: How a begun backup goes; the rest succeeds after a moment.
MANNERS: Final = {
    "backup: fails": 0.06,
    "backup: synchronous 201": 0.06,
    "backup: begun, but never admitted": 0.03,
    "backup: never ends": 0.01,
}
DURATION_S: Final = (0.2, 1.5)

CATALOG: Final = {
    "services": [
        {
            "id": SERVICE_ID,
            "name": OFFERING,
            "description": "Hard to talk to",
            "bindable": False,
            "metadata": {"osmapi": {"version": "1.0", "features": ["backup", "backup.delete"]}},
            "plans": [{"id": PLAN_ID, "name": PLAN, "description": "One"}],
        }
    ]
}


class FaultyBroker:
    """The broker's routes. `rng` draws the faults; `rate` scales how often they come."""

    def __init__(self, ledger: Ledger, rng: random.Random, *, rate: float, password: str) -> None:
        self._ledger = ledger
        self._rng = rng
        self._rate = rate
        self._authorization = aiohttp.encode_basic_auth(USERNAME, password)

    @property
    def _memory(self) -> Memory:
        return self._ledger.memory

    def application(self) -> web.Application:
        """The broker as aiohttp runs it."""
        app = web.Application(middlewares=[self._authenticate])
        backup = "/v2/service_instances/{instance}/backups"
        app.add_routes(
            [
                web.get("/v2/catalog", self._catalog),
                web.get(backup, self._list),
                web.put(f"{backup}/{{id}}", self._start),
                web.get(f"{backup}/{{id}}", self._read),
                web.delete(f"{backup}/{{id}}", self._delete),
                web.get(f"{backup}/{{id}}/last_operation", self._poll),
            ]
        )
        return app

    @web.middleware
    async def _authenticate(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.headers.get("Authorization") != self._authorization:
            return web.json_response({"description": "who are you?"}, status=401)
        return await handler(request)

    async def _catalog(self, _request: web.Request) -> web.Response:
        return web.json_response(CATALOG)

    async def _list(self, request: web.Request) -> web.Response:
        now = time.time()
        instance = request.match_info["instance"]
        found = [b for b in self._memory.backups.values() if b.instance == instance and b.state(now) != "gone"]
        found.sort(key=lambda backup: -backup.begun_at)
        return web.json_response({"backups": [_present(backup, now) for backup in found]})

    async def _read(self, request: web.Request) -> web.StreamResponse:
        if (fault := await self._before(request, self._draw(READ_FAULTS))) is not None:
            return fault
        backup = self._memory.backups.get(request.match_info["id"])
        now = time.time()
        if backup is None or backup.state(now) == "gone":
            return web.json_response({}, status=404)
        return web.json_response(_present(backup, now))

    async def _start(self, request: web.Request) -> web.StreamResponse:
        guid = request.match_info["id"]
        job = request.headers.get("X-Broker-API-Request-Identity", "")
        body = await request.json()
        self._ledger.write("put", id=guid, job=job)
        kind = self._draw(START_FAULTS)
        if (fault := await self._before(request, kind)) is not None:
            return fault
        answer = self._begin_or_adopt(guid, request.match_info["instance"], job, body)
        backup = self._memory.backups.get(guid)
        if backup is not None and backup.is_stubborn and answer.status in SUCCESS:
            kind = self._rng.choice(NOT_ADMITTED)
        return await self._after(request, kind) or answer

    async def _before(self, request: web.Request, kind: str) -> web.StreamResponse | None:
        """What a fault answers before anything is done; None when the request goes its way."""
        word = kind.partition(": ")[2]
        if word in {"slow", "timeout"}:
            await asyncio.sleep(SLOW_S if word == "slow" else HOLD_S)
        if word in {"cut before", "cut", "timeout"}:
            return _cut(request)
        if word == "malformed":
            return web.Response(text=self._rng.choice(MALFORMED), content_type="application/json")
        if word in TOLD:
            status, body, headers = TOLD[word]
            return web.json_response(body, status=status, headers=headers)
        return None

    async def _after(self, request: web.Request, kind: str) -> web.StreamResponse | None:
        """What a fault answers when the broker has done what it was asked to; None for the true answer."""
        word = kind.partition(": ")[2]
        if word == "timeout after":
            await asyncio.sleep(HOLD_S)
        if word in {"timeout after", "cut after"}:
            return _cut(request)
        if word == "500 after":
            return web.json_response({"description": "an error of the broker"}, status=500)
        if word == "malformed 2xx after":
            return web.Response(status=self._rng.choice(SUCCESS), text='{"operation":')
        return None

    def _begin_or_adopt(self, guid: str, instance: str, job: str, body: Mapping[str, Any]) -> web.Response:
        attributes = json.dumps([instance, *(body.get(key) for key in ("service_id", "plan_id", "parameters"))])
        now = time.time()
        if guid in self._memory.tombstones:
            return web.json_response({"description": "this backup was deleted"}, status=410)
        backup = self._memory.backups.get(guid)
        if backup is None:
            backup = self._new(guid, instance, job, attributes, now)
            self._ledger.write("begin", backup=asdict(backup))
            if backup.ends_at == backup.begun_at:
                return web.json_response(_present(backup, now), status=201)
        elif backup.attributes != attributes:
            self._ledger.write("conflict", id=guid)
            return web.json_response({"description": "this id was used for another backup"}, status=409)
        if backup.state(now) == "succeeded":
            return web.json_response(_present(backup, now))
        return web.json_response({"operation": f"create {guid}"}, status=202)

    def _new(self, guid: str, instance: str, job: str, attributes: str, now: float) -> Begun:
        manner = self._draw(MANNERS)
        ends_at = {
            "backup: synchronous 201": now,
            "backup: never ends": now + NEVER_S,
        }.get(manner, now + self._rng.uniform(*DURATION_S))
        return Begun(
            id=guid,
            instance=instance,
            job=job,
            attributes=attributes,
            begun_at=now,
            ends_at=ends_at,
            outcome="failed" if manner == "backup: fails" else "succeeded",
            is_stubborn=manner == "backup: begun, but never admitted",
        )

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        if (fault := await self._before(request, self._draw(POLL_FAULTS))) is not None:
            return fault
        backup = self._memory.backups.get(request.match_info["id"])
        state = backup.state(time.time()) if backup else "unknown"
        if state in {"gone", "unknown"}:
            return web.json_response({}, status=410 if state == "gone" else 404)
        if state == "failed":
            return web.json_response({"state": "failed", "description": "the disk of the instance is full"})
        return web.json_response({"state": "in progress" if state == "deleting" else state})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        kind = self._draw(DELETE_FAULTS)
        if (fault := await self._before(request, kind)) is not None:
            return fault
        answer = self._bury(request.match_info["id"])
        return await self._after(request, kind) or answer

    def _bury(self, guid: str) -> web.Response:
        now = time.time()
        backup = self._memory.backups.get(guid)
        state = backup.state(now) if backup else "unknown"
        if state == "deleting":
            return web.json_response({"operation": f"delete {guid}"}, status=202)
        if state in {"gone", "unknown"}:
            # Known or not: a PUT that was sent before and comes later must find a tombstone.
            if guid not in self._memory.tombstones:
                self._ledger.write("delete", id=guid, gone_at=now)
            return web.json_response({}, status=410)
        takes_s = self._rng.choice([0.0, 0.5])
        self._ledger.write("delete", id=guid, gone_at=now + takes_s)
        return web.json_response({"operation": f"delete {guid}"} if takes_s else {}, status=202 if takes_s else 200)

    def _draw(self, kinds: Mapping[str, float]) -> str:
        """One of `kinds`, or, mostly, an empty text. What was drawn is in the ledger."""
        left = self._rng.random()
        for kind, share in kinds.items():
            left -= share * self._rate
            if left < 0:
                self._ledger.write("fault", kind=kind)
                return kind
        return ""


def _present(backup: Begun, now: float) -> dict[str, Any]:
    state = backup.state(now)
    return {
        "id": backup.id,
        "state": state,
        "created_at": int(backup.begun_at),
        "trigger": "on_demand",
        **({"completed_at": int(backup.ends_at), "size_bytes": 4711} if state == "succeeded" else {}),
    }


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # nobody gets it


def main() -> None:
    """Serve until SIGTERM, with what the stack put into the environment."""
    with closing(Ledger(Path(os.environ["CHAOS_BROKER_LEDGER"]))) as ledger:
        broker = FaultyBroker(
            ledger,
            random.Random(os.environ["CHAOS_BROKER_SEED"]),
            rate=float(os.environ["CHAOS_BROKER_RATE"]),
            password=os.environ["CHAOS_BROKER_PASSWORD"],
        )
        web.run_app(
            broker.application(),
            host="127.0.0.1",
            port=int(os.environ["CHAOS_BROKER_PORT"]),
            print=None,
            access_log=None,
            shutdown_timeout=0.1,
        )


if __name__ == "__main__":
    main()
