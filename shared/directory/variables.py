"""`${NAME}` in a directory file: replaced by environment variables, so that secrets stay out of the file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# `$${` is how to write the characters `${` themselves. What starts like a variable and is none is a mistake, not text.
_PART: Final = re.compile(r"(?P<escape>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<mistake>\$\{)")


class VariableError(ValueError):
    """A variable is missing, empty or written wrongly. Names it and never shows the value of another one."""


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """`text` with its variables replaced; what a variable contains is not looked through again.

    Raises VariableError, which names every variable that is missing or empty.
    """
    mistakes: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match["escape"]:
            return "${"
        if match["mistake"]:
            mistakes.append("a variable is written ${NAME}, and the characters ${ themselves $${")
            return ""
        name = match["name"]
        value = environment.get(name)
        if not value:
            mistakes.append(f"the environment variable {name} is {'not set' if value is None else 'empty'}")
        return value or ""

    replaced = _PART.sub(replace, text)
    if mistakes:
        raise VariableError("; ".join(dict.fromkeys(mistakes)))
    return replaced
