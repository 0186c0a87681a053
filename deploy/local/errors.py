"""What can go wrong with the local stack, in words for the person at the terminal."""

from __future__ import annotations

from shared.errors import SafekeepError


class LocalStackError(SafekeepError):
    """A part of the local stack could not be started, or stopped too soon; the text names it and shows why."""
