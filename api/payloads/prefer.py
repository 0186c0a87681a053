"""The request header `Prefer` of RFC 7240, of which we know `wait`: how long an answer may be held back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's name for a word without quotes
_WORD: Final = rf'(?:{_TOKEN}|"(?:[^"\\]|\\.)*")'
#: What stands between two commas: quoted texts may have commas of their own.
_MEMBER: Final = re.compile(r'((?:[^",]|"(?:[^"\\]|\\.)*")*)(?:,|$)')
_PREFERENCE: Final = re.compile(
    rf"[ \t]*(?P<name>{_TOKEN})(?:[ \t]*=[ \t]*(?P<value>{_WORD}))?[ \t]*"
    rf"(?:;[ \t]*(?:{_TOKEN}(?:[ \t]*=[ \t]*{_WORD})?[ \t]*)?)*"
)
#: Reading takes longer than the text is long; nobody has so many preferences.
LENGTH_MAX: Final = 1000
_SECONDS: Final = re.compile(r'"?(\d+)"?', re.ASCII)


def preferred_wait_s(headers: Iterable[str], *, longest_s: int) -> int | None:
    """For how many seconds, and at most `longest_s`, the client would wait; None when it does not say.

    `headers` are the values of all `Prefer` headers. What we cannot read is passed over, and of what is given twice
    the first counts: RFC 7240, 2.
    """
    for member in _members(",".join(headers)):
        preference = _PREFERENCE.fullmatch(member)
        if preference and preference["name"].lower() == "wait":
            seconds = _SECONDS.fullmatch(preference["value"] or "")
            return min(int(seconds[1]), longest_s) if seconds else None
    return None


def _members(text: str) -> Iterator[str]:
    """What stands between the commas, up to a quote that is not closed."""
    start = 0
    while start < len(text) <= LENGTH_MAX and (member := _MEMBER.match(text, start)):
        yield member[1]
        start = member.end()
