"""The life of a job as data: its states, what may happen in each, and the name a client sees for it.

Code, drawing and tests are all made from this table. Deciding *which* event a broker's answer is, is the work of
`worker/broker/outcome.py`; writing a transition down is the store's.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    """What a job does. The values are the public `operation` of a job, in the pattern of Cloud Foundry's names."""

    CREATE_BACKUP = "service_instance.create_backup"
    RESTORE = "service_instance.restore"
    DELETE_BACKUP = "service_instance.delete_backup"
    # Removing at the broker what a failed or cancelled operation may have left; each is a job of its own.
    CLEAN_UP_BACKUP = "service_instance.clean_up_backup"
    CLEAN_UP_RESTORE = "service_instance.clean_up_restore"

    @property
    def is_clean_up(self) -> bool:
        """Whether it removes what another operation left. Nobody waits for it, and it does not hold its instance."""
        return self in CLEAN_UP_OF.values()

    @property
    def is_removal(self) -> bool:
        """Whether it removes something at the broker, where doing so again does no harm and leaves nothing."""
        return self.is_clean_up or self is Operation.DELETE_BACKUP

    @property
    def noun(self) -> str:
        """What texts for people call it."""
        return _NOUNS.get(self, "clean-up")


class JobState(StrEnum):
    """The states that we store. A client sees only the four of `PublicState`."""

    START = "start"  # the broker has not accepted the operation yet, as far as we know
    POLL = "poll"  # the broker works on it; we ask from time to time
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PublicState(StrEnum):
    """Cloud Foundry's four job states; its clients know no others."""

    PROCESSING = "PROCESSING"
    POLLING = "POLLING"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"


class Event(StrEnum):
    """What one step can find out about a job."""

    ACCEPTED = "accepted"  # the broker works on it and will be polled
    IN_PROGRESS = "in progress"  # polled, not finished
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the broker says that it failed, or refuses to start it
    TRY_AGAIN = "try again"  # busy, unreachable or unclear: the same call later
    GIVEN_UP = "given up"  # out of attempts, out of patience with a busy broker, or its workers keep dying
    EXPIRED = "expired"  # the deadline has passed
    START_OVER = "start over"  # the broker's removal failed; a clean-up asks for it again
    CANCELLED = "cancelled"  # somebody no longer wants it


_NOUNS: Final = {
    Operation.CREATE_BACKUP: "backup",
    Operation.RESTORE: "restore",
    Operation.DELETE_BACKUP: "deletion of the backup",
}

#: The clean-up of each operation that may leave something at a broker.
CLEAN_UP_OF: Final = {
    Operation.CREATE_BACKUP: Operation.CLEAN_UP_BACKUP,
    Operation.RESTORE: Operation.CLEAN_UP_RESTORE,
}

TRANSITIONS: Final[dict[tuple[JobState, Event], JobState]] = {
    (JobState.START, Event.ACCEPTED): JobState.POLL,
    (JobState.START, Event.SUCCEEDED): JobState.SUCCEEDED,
    (JobState.START, Event.FAILED): JobState.FAILED,
    (JobState.START, Event.TRY_AGAIN): JobState.START,
    (JobState.START, Event.GIVEN_UP): JobState.FAILED,
    (JobState.START, Event.EXPIRED): JobState.FAILED,
    (JobState.START, Event.CANCELLED): JobState.CANCELLED,
    (JobState.POLL, Event.IN_PROGRESS): JobState.POLL,
    (JobState.POLL, Event.SUCCEEDED): JobState.SUCCEEDED,
    (JobState.POLL, Event.FAILED): JobState.FAILED,
    (JobState.POLL, Event.TRY_AGAIN): JobState.POLL,
    (JobState.POLL, Event.GIVEN_UP): JobState.FAILED,
    (JobState.POLL, Event.START_OVER): JobState.START,
    (JobState.POLL, Event.EXPIRED): JobState.FAILED,
    (JobState.POLL, Event.CANCELLED): JobState.CANCELLED,
}

TERMINAL_STATES: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

PUBLIC_STATES: Final[dict[JobState, PublicState]] = {
    JobState.START: PublicState.PROCESSING,
    JobState.POLL: PublicState.POLLING,
    JobState.SUCCEEDED: PublicState.COMPLETE,
    JobState.FAILED: PublicState.FAILED,
    JobState.CANCELLED: PublicState.FAILED,
}


def next_state(state: JobState, event: Event) -> JobState:
    """The state after `event` in `state`.

    Raises KeyError for a pair that the table does not have: that is a bug of the caller, never of a broker.
    """
    return TRANSITIONS[state, event]
