"""The SQL of Safekeep, one file per noun; `load` gives a file's statements by their names.

A statement starts with a line `-- name: the_name`; only text from these files ever reaches the driver as SQL.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import LiteralString

_HEADER = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(noun: str) -> dict[str, LiteralString]:
    """The statements of `<noun>.sql` by name. Raises FileNotFoundError for a file that does not exist."""
    text = files(__name__).joinpath(f"{noun}.sql").read_text(encoding="utf-8")
    _, *parts = _HEADER.split(text)
    # A cast, not a check: the text comes from our own package, as a literal would.
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}
