"""A YAML file as plain values that remember where they stood: bytes in, texts, tuples and dicts with places out.

What the keys mean is left to `declaration.py`. YAML is used without what a list of names does not need: aliases, tags
and several documents are refused, so that a small file cannot become a large one and nothing is ever constructed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import yaml

from shared.directory.errors import DirectoryError, Problem
from shared.directory.validation import KeyPath, OtherScalar, path_in_words
from shared.directory.variables import VariableError, substitute

if TYPE_CHECKING:
    from collections.abc import Mapping

# libyaml's parser where PyYAML was built with it: ten times as fast, and the same nodes.
_LOADER: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FILE_BYTES_MAX: Final = 16 << 20
DEPTH_MAX: Final = 32
_NOT_IN_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_TAG: Final = "tag:yaml.org,2002:"
_TEXTS: Final = {f"{_TAG}str", f"{_TAG}value", f"{_TAG}merge"}  # `=` and `<<` mean something elsewhere, not here
_OTHERS: Final = {
    f"{_TAG}int": "a number",
    f"{_TAG}float": "a number",
    f"{_TAG}bool": "a truth value",
    f"{_TAG}timestamp": "a date",
}
_UNREADABLE: Final = "?"  # stands for a text that could not be read, whose path is in `Document.unreadable`


@dataclass(slots=True)
class Document:
    """The values of a file: texts, `OtherScalar`, None, tuples and dicts, and what is wrong with it as YAML.

    `places` has line and column of every value (of its key, where it has one), `written` every text as it stands in
    the file, before variables were replaced: messages quote that one. `unreadable`: texts whose variables are missing.
    """

    file: str
    data: object = field(default=None, repr=False)
    places: dict[KeyPath, tuple[int, int]] = field(default_factory=dict, repr=False)
    written: dict[KeyPath, str] = field(default_factory=dict, repr=False)
    unreadable: set[KeyPath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: KeyPath, text: str) -> Problem:
        """A problem at `path`, or at what is closest around it where the file has no such path."""
        known = path
        while known and known not in self.places:
            known = known[:-1]
        line, column = self.places.get(known, (1, 1))
        return Problem(self.file, line, column, path_in_words(path), text)

    def quote(self, path: KeyPath) -> str:
        """The text at `path` in quotes, as the file has it: variables by their names, never by their values."""
        return repr(self.written[path])


def parse_document(file: str, raw: bytes, environment: Mapping[str, str]) -> Document:
    """The document in `raw`; `file` is its name for messages.

    Raises DirectoryError when it is not one YAML document; what is wrong in details is in `Document.problems`.
    """
    text = _decode(file, raw)
    try:
        _check_structure(file, text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise DirectoryError([_at(file, mark, f"is not YAML: {reason}")]) from None
    document = Document(file)
    if node is not None:
        document.data = _Reading(document, environment).convert(node, ())
    if document.data is None:
        raise DirectoryError([Problem(file, 0, 0, "", "the file is empty")])
    return document


def _decode(file: str, raw: bytes) -> str:
    if len(raw) > FILE_BYTES_MAX:
        raise DirectoryError([Problem(file, 0, 0, "", f"the file is larger than {FILE_BYTES_MAX >> 20} MiB")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text, reason = raw[: error.start].decode("utf-8-sig"), "the file is not UTF-8 text"
    else:
        unfit = _NOT_IN_YAML.search(text)
        if unfit is None:
            return text
        text, reason = text[: unfit.start()], "a control character is not allowed here"
    raise DirectoryError([Problem(file, text.count("\n") + 1, len(text) - text.rfind("\n"), "", reason)])


def _check_structure(file: str, text: str) -> None:
    """Refuse what could make reading expensive, before it is read; only looks at the stream, in constant space."""
    problems = []
    documents = depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                problems.append(_at(file, event.start_mark, "a second document starts here, and there may be only one"))
        elif isinstance(event, yaml.AliasEvent):
            problems.append(
                _at(file, event.start_mark, "aliases are not allowed; a text that starts with * needs quotes")
            )
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise DirectoryError([*problems, _at(file, event.start_mark, "is nested too deeply")])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    if problems:
        raise DirectoryError(problems)


class _Mark(Protocol):
    """Where something starts, from 0; PyYAML's own mark or libyaml's."""

    line: int
    column: int


def _at(file: str, mark: _Mark | None, text: str) -> Problem:
    return Problem(file, mark.line + 1, mark.column + 1, "", text) if mark else Problem(file, 0, 0, "", text)


class _Reading:
    """Turns nodes into values, and notes places and problems in the document on its way."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment

    def convert(self, node: yaml.Node, path: KeyPath) -> object:
        """The value of `node`, which stands at `path`."""
        self._document.places.setdefault(path, _place(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return tuple(self.convert(item, (*path, index)) for index, item in enumerate(node.value))
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        return self._refuse(path, "tags are not allowed")

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        if node.tag in _OTHERS:
            return OtherScalar(_OTHERS[node.tag], node.value)
        if node.tag == f"{_TAG}null":
            return None
        if node.tag not in _TEXTS:
            return self._refuse(path, "tags are not allowed; a text that starts with ! needs quotes")
        self._document.written[path] = node.value
        try:
            return substitute(node.value, self._environment)
        except VariableError as error:
            return self._refuse(path, str(error))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        places = self._document.places
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, path, "a key must be a text")
                continue
            key = key_node.value
            inner = (*path, key)
            if key in values:
                self._report(key_node, inner, f"the key is there already, in line {places[inner][0]}")
                continue
            places[inner] = _place(key_node)
            values[key] = self.convert(value_node, inner)
        return values

    def _report(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        """A problem at `node` itself, which has no place of its own in the document."""
        line, column = _place(node)
        self._document.problems.append(Problem(self._document.file, line, column, path_in_words(path), text))

    def _refuse(self, path: KeyPath, text: str) -> str:
        self._document.problems.append(self._document.problem(path, text))
        self._document.unreadable.add(path)
        return _UNREADABLE


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
