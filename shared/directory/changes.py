"""What applying a directory changed, for whoever asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class NounChanges:
    """The names of one kind of things, by what happened to them, each sorted."""

    noun: str  #: in the singular, such as "service instance"
    created: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]  #: roles and shares only: nothing else is ever removed
    unchanged: tuple[str, ...]

    @classmethod
    def from_rows(cls, noun: str, rows: Iterable[Mapping[str, str]]) -> Self:
        """From rows of `name` and `change`, as every statement that applies something returns them."""
        by_change: dict[str, list[str]] = {"created": [], "updated": [], "removed": [], "unchanged": []}
        for row in rows:
            by_change[row["change"]].append(row["name"])
        return cls(noun=noun, **{change: tuple(sorted(names)) for change, names in by_change.items()})


@dataclass(frozen=True, slots=True)
class AppliedChanges:
    """All that one call changed, in the order in which it was applied."""

    nouns: tuple[NounChanges, ...]

    def __getitem__(self, noun: str) -> NounChanges:
        """The changes of one kind of things; KeyError when there is no such kind."""
        for changes in self.nouns:
            if changes.noun == noun:
                return changes
        raise KeyError(noun)

    @property
    def has_changes(self) -> bool:
        """Whether anything is different from before."""
        return any(changes.created or changes.updated or changes.removed for changes in self.nouns)

    def lines(self) -> list[str]:
        """For printing: a line per change and one that sums up."""
        lines = [
            f"{verb} {changes.noun} {name}"
            for changes in self.nouns
            for verb, names in (
                ("created", changes.created),
                ("updated", changes.updated),
                ("removed", changes.removed),
            )
            for name in names
        ]
        unchanged = sum(len(changes.unchanged) for changes in self.nouns)
        return [*lines, f"{len(lines) or 'nothing'} changed, {unchanged} as before"]
