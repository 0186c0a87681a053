"""The limit of the API: aiohttp alone, in one process, with answers made beforehand. `python -m tests.bench.bare PORT`.

Any POST is accepted, and any GET answers the JSON of a job.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from aiohttp import web

LOCATION = "http://127.0.0.1/v3/jobs/0e5a3d0e-4f3d-4f0e-9f53-5f0f6a3a1c55"
JOB = json.dumps(
    {
        "guid": "0e5a3d0e-4f3d-4f0e-9f53-5f0f6a3a1c55",
        "created_at": "2026-11-24T10:00:00Z",
        "updated_at": "2026-11-24T10:00:00Z",
        "operation": "service_instance.create_backup",
        "state": "PROCESSING",
        "links": {
            "self": {"href": LOCATION},
            "service_instance": {"href": "http://127.0.0.1/v3/service_instances/c4d9b1a4-3f7f-4b0c-8f7b-6a3d8f1f0c11"},
        },
        "errors": [],
        "warnings": [],
    }
).encode()


async def accept(_request: web.Request) -> web.Response:
    return web.Response(status=202, headers={"Location": LOCATION})


async def read(_request: web.Request) -> web.Response:
    return web.Response(body=JOB, content_type="application/json")


async def serve(port: int) -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.add_routes(
        [
            web.post("/v3/service_instances/{guid}/backups", accept),
            web.get("/v3/jobs/{guid}", read),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
