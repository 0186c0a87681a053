"""The places inside a step where a test may look in, or end the process: each is a different thing to recover from."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from shared.records import Claim


class Point(StrEnum):
    """A moment of one step, in their order."""

    BEFORE_CALL = "before call"  # claimed, and the broker knows nothing of it yet
    AFTER_CALL = "after call"  # the broker has answered
    BEFORE_RECORD = "before record"  # we know what the answer means, and the database does not
    AFTER_RECORD = "after record"  # the database knows


#: Called at each point of each step, on the event loop.
Hook = Callable[[Point, Claim], None]


def pass_by(_point: Point, _claim: Claim) -> None:
    """The hook of every real worker: nothing happens."""
