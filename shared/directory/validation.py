"""What the directory file and broker catalogs have in common when they are checked: texts, paths, words for mistakes.

Values are never put into a message here: they may have come from an environment variable, and be secret.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BeforeValidator, StringConstraints

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

#: The keys and indexes that lead to a value of a file.
KeyPath = tuple[str | int, ...]

TEXT_LENGTH_MAX: Final = 255
COUNT_MAX: Final = 2**31 - 1  # PostgreSQL's integer
ALTERNATIVES_SHOWN_MAX: Final = 20
#: Controls and separators break lines and terminals; PostgreSQL stores neither NUL nor half of a surrogate pair.
_UNFIT_CATEGORIES: Final = {"Cc", "Cs", "Zl", "Zp"}
_COUNT: Final = re.compile(r"[1-9][0-9]{0,9}")
_SIMPLE_KEY: Final = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class OtherScalar:
    """A value that YAML did not read as text. Hardly anything in a directory file is anything else."""

    kind: str  #: in words, such as "a number"
    written: str = ""  #: as the file has it; variables stand in texts only


def check_characters(text: str) -> str:
    """`text`, unchanged. Raises ValueError when it has characters that no name, guid or credential may have."""
    if any(unicodedata.category(character) in _UNFIT_CATEGORIES for character in text):
        raise ValueError("must not contain control characters or line breaks")
    return text


def read_count(value: object) -> int:
    """The number that `value`, a scalar of a file, is. Raises ValueError unless it is a plain one from 1 on."""
    text = value.written if isinstance(value, OtherScalar) else value
    if not isinstance(text, str) or not _COUNT.fullmatch(text) or int(text) > COUNT_MAX:
        raise ValueError(f"must be a whole number from 1 to {COUNT_MAX}")
    return int(text)


#: A number of things, None only by default; a text is one, too, since variables stand in texts.
Count = Annotated[int | None, BeforeValidator(read_count)]

#: A name or a guid: 1 to 255 characters, all of them printable.
Text = Annotated[
    str, StringConstraints(min_length=1, max_length=TEXT_LENGTH_MAX, strict=True), AfterValidator(check_characters)
]


def path_in_words(path: Iterable[str | int]) -> str:
    """A path as people write it: `brokers[0].url`; a key that is not a plain word is quoted."""
    words = ""
    for part in path:
        if isinstance(part, int):
            words += f"[{part}]"
        else:
            key = part if _SIMPLE_KEY.fullmatch(part) else repr(part)
            words += f".{key}" if words else key
    return words


def describe(problem: ErrorDetails, *, mapping: str) -> str:
    """What is wrong, for people, without the value; `mapping` is what the format calls a set of keys and values."""
    wanted = {
        "string_type": "text",
        "tuple_type": "a list",
        "list_type": "a list",
        "model_type": mapping,
        "literal_error": str(problem.get("ctx", {}).get("expected")),
    }
    kind = problem["type"]
    if kind in wanted:
        return f"must be {wanted[kind]}{_but_is(problem['input'], kind, mapping)}"
    texts = {
        "missing": "is missing",
        "string_unicode": "must be Unicode text",
        "string_too_short": "must not be empty",
        "string_too_long": f"must not be longer than {TEXT_LENGTH_MAX} characters",
    }
    return texts.get(kind) or problem["msg"].removeprefix("Value error, ")


def _but_is(value: object, kind: str, mapping: str) -> str:
    """What it is instead, where that helps."""
    match value:
        case None:
            return ", and is empty"
        case OtherScalar():
            return f", not {value.kind}" + (": put it in quotes" if kind == "string_type" else "")
        case str():
            return "" if kind == "literal_error" else ", not text"
        case dict():
            return f", not {mapping}"
        case tuple() | list():
            return ", not a list"
        case _:  # JSON only
            return ", not a truth value" if isinstance(value, bool) else ", not a number"


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message on an unknown word: the one that was probably meant, or those that there are."""
    names = sorted(known)
    if close := get_close_matches(word, names, n=1):
        return f"did you mean {close[0]!r}?"
    if not names:
        return "there is none"
    shown = ", ".join(map(repr, names[:ALTERNATIVES_SHOWN_MAX]))
    more = len(names) - ALTERNATIVES_SHOWN_MAX
    return f"there are: {shown}" + (f" and {more} more" if more > 0 else "")
