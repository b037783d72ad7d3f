"""YAML (and so JSON) text to documents, with the line and column of every value.

Scalars are read as kubectl reads them (sigs.k8s.io/yaml): `yes`, `no`, `on` and `off` are booleans and `014` is twelve,
but there are no dates and no sexagesimal numbers. A key that stands twice in one mapping is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import yaml

from mizzen.api.base import Model
from mizzen.api.decode import Undecodable, convert
from mizzen.api.paths import join, parent

T = TypeVar("T")
_PLAIN = "plain scalar"
_MOST_REPEATED = 100_000
"""Aliases of aliases can make a few lines mean billions of values."""


class _NodeLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes; which type a plain scalar has is decided by `_plain`, not by PyYAML's YAML 1.1 rules."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        resolved: str = super().resolve(kind, value, implicit)
        return resolved


class Position(Model):
    """Counted from one, as editors do."""

    line: int
    column: int


class NotYaml(ValueError):
    """The text cannot be read. `message` says what is wrong and, where that can be guessed, how to mend it."""

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(f"line {position.line}, column {position.column}: {message}")
        self.message = message
        self.position = position


class Document(Model):
    """One document of a file, or one item of a List in it."""

    value: Any
    positions: Mapping[str, Position]
    """Where each value stands, by its path from the top of the document."""
    root: str = ""
    """`items[3]` for an item of a List."""

    def position(self, path: str) -> Position:
        """Where the value at `path` stands; for one that is not there, its nearest parent."""
        full = f"{self.root}.{path}" if self.root and path else self.root or path
        while full and full not in self.positions:
            full = parent(full)
        return self.positions.get(full, Position(line=1, column=1))


def load(text: str) -> list[Document]:
    """All documents of a YAML stream; empty ones are left out, a `List` gives its items. Raises NotYaml."""
    try:
        nodes = [node for node in yaml.compose_all(text, Loader=_NodeLoader) if node is not None]
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(text, error) from None
    except yaml.YAMLError as error:
        raise NotYaml(str(error), Position(line=1, column=1)) from None
    documents = (_Reader().document(node) for node in nodes)
    return [item for document in documents if document.value is not None for item in _items(document)]


def parse_settings(text: str, struct: type[T]) -> T:
    """One YAML mapping, such as MeshConfig, as `struct`; empty text means all defaults. Raises Undecodable."""
    try:
        documents = load(text)
    except NotYaml as error:
        raise Undecodable("", str(error)) from None
    return convert(documents[0].value if documents else {}, struct)


def _items(document: Document) -> Iterator[Document]:
    value = document.value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list)):
        yield document
        return
    for index, item in enumerate(value["items"]):
        yield Document(value=item, positions=document.positions, root=f"items[{index}]")


class _Reader:
    """Turns one document's nodes into values and notes where each stands."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}
        self._seen: set[int] = set()
        self._repeated = 0

    def document(self, node: yaml.Node) -> Document:
        return Document(value=self.value(node, ""), positions=self.positions)

    def value(self, node: yaml.Node, path: str) -> Any:
        self._note_repetition(node)
        self.positions.setdefault(path, _mark(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, join(path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node)

    def _note_repetition(self, node: yaml.Node) -> None:
        self._repeated += id(node) in self._seen
        self._seen.add(id(node))
        if self._repeated > _MOST_REPEATED:
            raise NotYaml(f"the aliases in this document repeat more than {_MOST_REPEATED} values", _mark(node))

    def mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                merged = {**self.merge(value_node, path), **merged}
                continue
            key = _key(key_node)
            if key in own:
                raise NotYaml(f"`{key}` stands twice in one mapping; only one of them can hold", _mark(key_node))
            self.positions[join(path, key)] = _mark(key_node)
            own[key] = self.value(value_node, join(path, key))
        return {**merged, **own}

    def merge(self, node: yaml.Node, path: str) -> dict[str, Any]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise NotYaml("`<<` merges mappings, and this is none", _mark(source))
            merged.update(self.mapping(source, path))
        return merged


def _mark(node: yaml.Node) -> Position:
    return Position(line=node.start_mark.line + 1, column=node.start_mark.column + 1)


def _key(node: yaml.Node) -> str:
    """JSON has only text for keys: `8080: x` is the key "8080", as kubectl makes it."""
    if not isinstance(node, yaml.ScalarNode):
        raise NotYaml("a key must be a single word or number", _mark(node))
    value = _scalar(node)
    if isinstance(value, bool):
        return "true" if value else "false"
    return node.value if value is None else str(value)


_BOOLEANS = {
    word: value
    for value, words in ((True, "y yes true on"), (False, "n no false off"))
    for lower in words.split()
    for word in (lower, lower.capitalize(), lower.upper())
}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9][0-9]*|0)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_EXPLICIT = {"tag:yaml.org,2002:int": int, "tag:yaml.org,2002:float": float}


def _scalar(node: yaml.ScalarNode) -> Any:
    if node.tag == _PLAIN:
        return _plain(node.value)
    if node.tag in _EXPLICIT:
        value = _plain(node.value)
        if isinstance(value, (int, float)):
            return _EXPLICIT[node.tag](value)
        raise NotYaml(f"{node.value!r} is not a number", _mark(node))
    return node.value


def _plain(text: str) -> Any:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    digits = text.replace("_", "")
    if _INTEGER.match(digits):
        return _integer(digits)
    if _FLOAT.match(digits):
        return float(digits)
    return text


def _integer(digits: str) -> int:
    bare = digits.lstrip("+-")
    octal = len(bare) > 1 and bare[0] == "0" and bare[1].isdigit()
    value = int(bare, 8) if octal else int(bare, 0)
    return -value if digits.startswith("-") else value


_KEY_LINE = re.compile(r"( *)([A-Za-z][\w-]*):(?:\s|$)")


def _not_yaml(text: str, error: yaml.MarkedYAMLError) -> NotYaml:
    mark = error.problem_mark or error.context_mark
    position = Position(line=mark.line + 1, column=mark.column + 1) if mark else Position(line=1, column=1)
    stray = _beside_list_items(text.splitlines(), position.line - 1)
    if stray:
        line, keys, owner = stray
        one, named = len(keys) == 1, " and ".join(f"`{key}`" for key in keys)
        message = (
            f"{named} stand{'s' * one} beside the list items of `{owner}`, where only "
            f"items (`- …`) may stand; {'it belongs' if one else 'they belong'} inside an item of `{owner}`: indent "
            f"{'it' if one else 'them'} as deep as the keys of that item"
        )
        column = text.splitlines()[line].index(keys[0]) + 1
        return NotYaml(message, Position(line=line + 1, column=column))
    if "\t" in _indentation(text.splitlines(), position.line - 1):
        return NotYaml("a tab stands in the indentation; YAML takes spaces only", position)
    return NotYaml(" ".join(part for part in (error.context, error.problem) if part), position)


def _indentation(lines: list[str], number: int) -> str:
    line = lines[number] if number < len(lines) else ""
    return line[: len(line) - len(line.lstrip())]


def _beside_list_items(lines: list[str], near: int) -> tuple[int, list[str], str] | None:
    """`key:` lines at the very indent of the list items above: (the first's line, the keys, the key of the list)."""
    for number in range(min(near, len(lines) - 1), max(near - 3, -1), -1):
        key = _KEY_LINE.match(lines[number])
        if key and (owner := _list_owner(lines[:number], len(key[1]))):
            return number, list(_keys_at(lines[number:], len(key[1]))), owner
    return None


def _keys_at(lines: list[str], indent: int) -> Iterator[str]:
    """The keys at `indent`, until something stands further to the left or is no key."""
    for line in lines:
        depth = len(line) - len(line.lstrip(" "))
        if not line.strip() or line.lstrip().startswith("#") or depth > indent:
            continue
        key = _KEY_LINE.match(line)
        if depth < indent or not key:
            return
        yield key[2]


def _list_owner(above: list[str], indent: int) -> str | None:
    """The key whose list has items at `indent`, seen from the line below `above`."""
    inside_list = False
    for line in reversed(above):
        depth = len(line) - len(line.lstrip(" "))
        if not line.strip() or line.lstrip().startswith("#") or depth > indent:
            continue
        if depth == indent and line.lstrip().startswith("- "):
            inside_list = True
            continue
        key = _KEY_LINE.match(line)
        return key[2] if key and inside_list and depth < indent else None
    return None
