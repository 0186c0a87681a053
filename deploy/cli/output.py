"""What commands print: a table for a person at a terminal, tab-separated lines for the next program, JSON on request.

Texts may come from service brokers, so nothing that a terminal would obey gets through.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Columns of a table: the heading, and the fields that stand in it, one below the other.
Layout = tuple[tuple[str, tuple[str, ...]], ...]

WIDTH_MAX: Final = 120
GUID_WIDTH: Final = len("instance ") + 36
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def show_rows(layout: Layout, rows: Sequence[Mapping[str, str]]) -> None:
    """Print `rows`: on a terminal as a table, else a line for each with the fields of `layout` and no heading."""
    if sys.stdout.isatty():
        console = Console(highlight=False)
        console.width = min(console.width, WIDTH_MAX)
        console.print(build_table(layout, rows))
        return
    for row in rows:
        print("\t".join(clean(row[name]) for _, names in layout for name in names))


def build_table(layout: Layout, rows: Sequence[Mapping[str, str]]) -> Table:
    """A table without lines; what does not fit its column goes on below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [["\n".join(filter(None, (clean(row[name]) for name in names))) for _, names in layout] for row in rows]
    for place, (heading, _) in enumerate(layout):
        # The first column holds what people copy.
        widest = max((len(line) for row in cells for line in row[place].splitlines()), default=0)
        table.add_column(heading, overflow="fold", min_width=min(widest, GUID_WIDTH) if place == 0 else None)
    for row in cells:
        table.add_row(*map(Text, row))  # as Text: what looks like markup is none
    return table


def show_json(value: Any) -> None:  # Any: what JSON can hold
    """Print `value` as JSON."""
    print(json.dumps(value, indent=2))


def clean(text: str) -> str:
    """`text` on one line, without anything that is not printed: a terminal obeys some of it, and a tab ends a field."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def span(seconds: float) -> str:
    """A length of time in the largest unit that it has one of, such as "5 min"; "0 s" for what is not above zero."""
    whole = max(0, round(seconds))
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if whole >= unit_s:
            return f"{whole // unit_s} {unit}"
    return f"{whole} s"


def plural(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
