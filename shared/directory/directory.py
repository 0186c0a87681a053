"""The seam to whoever knows instances, offerings and brokers, and what a caller may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.directory.resources import AnyResource
    from shared.lists import Page
    from shared.records import Instance
    from shared.security.callers import Caller


class Directory(Protocol):
    """Answers for one caller at a time, so that what a caller may not read looks like what does not exist."""

    async def find_instance(self, guid: str, caller: Caller) -> Instance | None:
        """The instance as `caller` may see it, or None when it does not exist or may not be read.

        Raises ServiceUnavailableError when the directory cannot be asked.
        """
        ...


class Reading(Protocol):
    """Shows one caller at a time what they may see, noun by noun."""

    async def list_page(
        self,
        kind: type[AnyResource],
        caller: Caller,
        *,
        filters: Mapping[str, Sequence[str]],
        order_by: str,
        offset: int,
        limit: int,
    ) -> Page[AnyResource]:
        """At most `limit` resources after the first `offset` of those that `caller` may see and every filter allows.

        Raises ServiceUnavailableError when the directory cannot be asked.
        """
        ...

    async def find(self, kind: type[AnyResource], guid: str, caller: Caller) -> AnyResource | None:
        """The resource, or None when it does not exist or `caller` may not see it. Raises as `list_page` does."""
        ...
