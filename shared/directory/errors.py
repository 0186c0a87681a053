"""What can be wrong with a directory file or a broker's catalog: one `Problem` per mistake, reported all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import SafekeepError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake and where it is. Problems sort by their place; line 0 stands for the whole file."""

    file: str
    line: int  #: from 1, as editors count
    column: int  #: from 1
    path: str  #: such as `brokers[0].url`; empty for the whole file
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.text}" if self.path else f"{place}: {self.text}"


class DirectoryError(SafekeepError):
    """A directory cannot be applied. Nothing was changed; the text has a line for each problem, by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class CatalogError(SafekeepError):
    """A broker's catalog is malformed or cannot be had; names the broker. `reasons`: one text per mistake."""

    def __init__(self, broker: str, reasons: Iterable[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"the catalog of broker {broker!r} cannot be used: {'; '.join(self.reasons)}")
