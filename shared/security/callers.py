"""Who sends a request and what the token behind it allows; how a token is verified is in `tokens.py` and `uaa.py`.

Apart from those, which bring cryptography, so that whoever only asks what a caller may do starts without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

READING_SCOPES: Final = frozenset(
    {
        "cloud_controller.read",
        "cloud_controller.admin",
        "cloud_controller.admin_read_only",
        "cloud_controller.global_auditor",
    }
)
GLOBAL_READING_SCOPES: Final = READING_SCOPES - {"cloud_controller.read"}
WRITING_SCOPES: Final = frozenset({"cloud_controller.write", "cloud_controller.admin"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `user_guid` is the token's `user_id`, or its `client_id` where no person is behind it."""

    user_guid: str
    user_name: str
    scopes: frozenset[str]
    #: When the token ends, in seconds since 1970. Who somebody is does not depend on it.
    expires_at_s: float = field(default=math.inf, compare=False)

    @property
    def is_admin(self) -> bool:
        """Whether every instance may be read and written."""
        return "cloud_controller.admin" in self.scopes

    @property
    def sees_everything(self) -> bool:
        """Whether every instance may be read, whatever the roles say."""
        return not self.scopes.isdisjoint(GLOBAL_READING_SCOPES)

    @property
    def may_read(self) -> bool:
        """Whether the token allows reading at all."""
        return not self.scopes.isdisjoint(READING_SCOPES)

    @property
    def may_write(self) -> bool:
        """Whether the token allows writing at all."""
        return not self.scopes.isdisjoint(WRITING_SCOPES)


class TokenVerifier(Protocol):
    """Turns a bearer token into a caller. Use it with `async with`, on the loop that verifies."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def verify(self, token: str) -> Caller:
        """The caller that `token` speaks for.

        Raises InvalidAuthTokenError whatever is wrong with the token, and UaaUnavailableError or UaaRateLimitedError
        when nobody can say whether anything is.
        """
        ...
