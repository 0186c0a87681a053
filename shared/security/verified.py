"""Tokens that were verified and need not be again: a signature that fitted fits as long as the keys are the same.

What depends on more than the token is not taken for granted. An entry holds for the versions of keys and issuer that it
was verified with, so that a key that is withdrawn ends it at once; and the time at which the token ends is looked at
whenever it is used. So no answer is older than it would be if every request verified its token anew.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from shared.security.callers import Caller

#: A token has one to two thousand characters, so that this is some ten megabytes at worst.
ENTRIES_MAX: Final = 4096


class VerifiedTokens:
    """Callers by their tokens. When there are too many, those go whose tokens were verified first."""

    def __init__(self) -> None:
        self._callers: dict[str, tuple[Caller, tuple[int, ...]]] = {}

    def has(self, token: str) -> bool:
        """Whether `token` was verified once, by whichever versions."""
        return token in self._callers

    def find(self, token: str, *versions: int) -> Caller | None:
        """The caller of `token`, if it was verified by the same `versions` of what is needed for that."""
        found = self._callers.get(token)
        if found is None:
            return None
        caller, verified_by = found
        if verified_by != versions or time.time() >= caller.expires_at_s:
            del self._callers[token]
            return None
        return caller

    def keep(self, token: str, caller: Caller, *versions: int) -> None:
        """Keep the caller of a token that was verified just now, by these versions of what is needed for that."""
        if len(self._callers) >= ENTRIES_MAX:
            del self._callers[next(iter(self._callers))]
        self._callers[token] = (caller, versions)
