"""The rules of a directory file that one value alone cannot break: no name or guid twice, no reference to nothing.

They look at the plain document, not at the models, so that they are reported together with everything else that is
wrong with the file. Values of the wrong type are passed over: `declaration.py` reports those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.directory.validation import KeyPath, suggest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.directory.document import Document
    from shared.directory.errors import Problem

ANY: Final = "*"  # any item of a list, or any value of a mapping
_SPACES: Final = ("organizations", ANY, "spaces", ANY)
_INSTANCES: Final = (*_SPACES, "service_instances", ANY)
_ORGANIZATION_ROLES: Final = ("organizations", ANY, "roles", ANY, ANY)
_SPACE_ROLES: Final = (*_SPACES, "roles", ANY, ANY)
_SHARES: Final = (*_INSTANCES, "shared_to", ANY)


class _Unique(NamedTuple):
    """Texts that differ from each other wherever the first `scope` parts of their paths are the same."""

    pattern: tuple[str, ...]
    scope: int


# As in Cloud Foundry: a space's name is unique in its organization, an instance's in its space.
_UNIQUE: Final = (
    _Unique(("brokers", ANY, "name"), 0),
    _Unique(("users", ANY, "guid"), 0),
    _Unique(("users", ANY, "name"), 0),
    _Unique(("organizations", ANY, "guid"), 0),
    _Unique(("organizations", ANY, "name"), 0),
    _Unique((*_SPACES, "guid"), 0),
    _Unique((*_SPACES, "name"), len(_SPACES) - 1),
    _Unique((*_INSTANCES, "guid"), 0),
    _Unique((*_INSTANCES, "name"), len(_INSTANCES) - 1),
    _Unique(_ORGANIZATION_ROLES, len(_ORGANIZATION_ROLES) - 1),
    _Unique(_SPACE_ROLES, len(_SPACE_ROLES) - 1),
    _Unique(_SHARES, len(_SHARES) - 1),
)

_REFERENCES: Final = (
    ("user", _ORGANIZATION_ROLES, ("users", ANY, "name")),
    ("user", _SPACE_ROLES, ("users", ANY, "name")),
    ("broker", (*_INSTANCES, "broker"), ("brokers", ANY, "name")),
    ("space", _SHARES, (*_SPACES, "guid")),
)


def find_conflicts(document: Document) -> list[Problem]:
    """Every name or guid that is there twice, every reference to what the file does not have or that means nothing."""
    problems: list[Problem] = []
    for rule in _UNIQUE:
        problems += _duplicates(document, rule)
    for noun, pattern, target in _REFERENCES:
        problems += _dangling(document, noun, pattern, target)
    return [*problems, *_shared_to_itself(document)]


def _duplicates(document: Document, rule: _Unique) -> Iterator[Problem]:
    first: dict[tuple[KeyPath, str], KeyPath] = {}
    for path, text in _texts(document, rule.pattern):
        earlier = first.setdefault((path[: rule.scope], text), path)
        if earlier is not path:
            line, _ = document.places[earlier]
            yield document.problem(path, f"{document.quote(path)} is there already, in line {line}")


def _dangling(document: Document, noun: str, pattern: tuple[str, ...], target: tuple[str, ...]) -> Iterator[Problem]:
    named = {text: path for path, text in _texts(document, target)}
    if any(_matches(path, target) for path in document.unreadable):
        return  # it may well be the one that is meant
    # Suggestions, too, quote the file and not what its variables contain.
    written = [document.written[path] for path in named.values()]
    for path, text in _texts(document, pattern):
        if text not in named:
            hint = suggest(document.written[path], written)
            yield document.problem(path, f"the file has no {noun} {document.quote(path)}; {hint}")


def _shared_to_itself(document: Document) -> Iterator[Problem]:
    guids = dict(_texts(document, (*_SPACES, "guid")))
    for path, text in _texts(document, _SHARES):
        if guids.get((*path[: len(_SPACES)], "guid")) == text:
            yield document.problem(path, f"{document.quote(path)} is the space that the instance lives in")


def _matches(path: KeyPath, pattern: tuple[str, ...]) -> bool:
    return len(path) == len(pattern) and all(want in (ANY, part) for part, want in zip(path, pattern, strict=True))


def _texts(document: Document, pattern: tuple[str, ...]) -> Iterator[tuple[KeyPath, str]]:
    """The readable texts whose paths fit `pattern`, in the order of the file."""
    for path, value in _select(document.data, pattern, ()):
        if isinstance(value, str) and path not in document.unreadable:
            yield path, value


def _select(value: object, pattern: tuple[str, ...], path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    if not pattern:
        yield path, value
        return
    want, rest = pattern[0], pattern[1:]
    if want == ANY and isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _select(item, rest, (*path, index))
    elif isinstance(value, dict):
        for key in value if want == ANY else value.keys() & {want}:
            yield from _select(value[key], rest, (*path, key))
