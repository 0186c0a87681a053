"""Whether the API can do its work, and what it lacks."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class ReadinessJson(TypedDict):
    """`degraded`: requests are accepted and wait, since the queue is away."""

    status: Literal["ok", "degraded", "unavailable"]
    database: str
    queue: NotRequired[str]
