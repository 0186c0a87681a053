"""The seam to the queue: who can send a hint. Celery is behind it, in the workers' package; the API is handed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from shared.states import JobState

if TYPE_CHECKING:
    from shared.records import Hint

#: Two queues, so that a burst of starts cannot keep the polls waiting.
QUEUE_OF_STATE: Final = {JobState.START: "start", JobState.POLL: "poll"}


class HintSender(Protocol):
    """Sends hints. Both calls block, for a few seconds at worst: never make them on an event loop."""

    def send(self, hint: Hint) -> None:
        """Put `hint` in its queue. Raises QueueLengthError where that is long enough, or another HintError."""
        ...

    def check(self) -> None:
        """Find out whether the queue can be reached. Raises HintError."""
        ...
