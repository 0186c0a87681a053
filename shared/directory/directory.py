"""The seam to whoever knows instances, offerings and brokers, and what a caller may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from shared.records import Instance
    from shared.security.tokens import Caller


class Directory(Protocol):
    """Answers for one caller at a time, so that what a caller may not read looks like what does not exist."""

    async def find_instance(self, guid: str, caller: Caller) -> Instance | None:
        """The instance as `caller` may see it, or None when it does not exist or may not be read.

        Raises ServiceUnavailableError when the directory cannot be asked.
        """
        ...
