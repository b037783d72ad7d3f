"""Sets of field paths, and values seen through them: the arithmetic below server-side apply.

A path is a tuple of elements as `managedFields` writes them: `f:spec`, `k:{"name":"app"}`, `v:"a-finalizer"`. Which
lists and maps have members of their own and which are atomic is the schema's word (x-kubernetes-list-type,
-list-map-keys, -map-type). The rules are those of sigs.k8s.io/structured-merge-diff.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from mizzen.embedded.apiserver.schema_definitions import ANYTHING, Node, resolve
from mizzen.embedded.apiserver.schema_structural import field_schema

Path: TypeAlias = tuple[str, ...]
Member: TypeAlias = tuple[str, Node, Any]
"""(path element, unresolved schema, value)"""
_MISSING = object()


class MissingKey(Exception):
    """An element of a keyed list lacks one of its keys."""


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _attribute(node: Node, name: str) -> Any:
    """A schema extension may stand at the field or at the definition it refers to."""
    return node.get(name) or resolve(node).get(name)


def is_leaf(node: Node, value: Any) -> bool:
    """Whether the value is owned as a whole."""
    if isinstance(value, dict):
        return bool(_attribute(node, "x-kubernetes-map-type") == "atomic")
    if isinstance(value, list):
        return _attribute(node, "x-kubernetes-list-type") not in ("map", "set")
    return True


def is_struct_field(node: Node, key: str) -> bool:
    """Fields that the schema lists, in contrast to keys of a map."""
    resolved = resolve(node)
    return key in (resolved.get("properties") or ()) or (key == "metadata" and "properties" in resolved)


def field_node(node: Node, key: str) -> Node:
    return field_schema(resolve(node), key) or ANYTHING


def item_node(node: Node) -> Node:
    found: Node = resolve(node).get("items") or ANYTHING
    return found


def members(node: Node, value: Any) -> Iterator[Member]:
    """What a value that is no leaf consists of. Raises MissingKey."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"f:{key}", field_node(node, key), item
    elif isinstance(value, list):
        items = item_node(node)
        for item in value:
            yield item_element(node, item), items, item


def item_element(node: Node, item: Any) -> str:
    """How an element of a set or keyed list is addressed."""
    if _attribute(node, "x-kubernetes-list-type") == "set":
        return f"v:{_json(item)}"
    names = _attribute(node, "x-kubernetes-list-map-keys") or ()
    return f"k:{_json({name: _key_value(node, item, name) for name in names})}"


def _key_value(node: Node, item: Any, name: str) -> Any:
    if isinstance(item, dict) and item.get(name) is not None:
        return item[name]
    schema = field_node(item_node(node), name)
    if "default" in schema:
        return schema["default"]
    if name == "protocol":  # Kubernetes' schema says TCP; its OpenAPI does not carry that default everywhere
        return "TCP"
    raise MissingKey(f'associative list with keys has an element that omits key field "{name}"')


def field_set(node: Node, value: Any, path: Path = ()) -> set[Path]:
    """What an applied configuration claims."""
    if is_leaf(node, value):
        return {path}
    found: set[Path] = set()
    for element, schema, item in members(node, value):
        at = (*path, element)
        found |= field_set(schema, item, at)
        empty = item is None or item == {}
        if empty or isinstance(value, list) or not is_struct_field(node, element[2:]):
            found.add(at)
    return found


def named(node: Node, paths: Iterable[Path]) -> set[Path]:
    """The paths, and the struct fields on the way to them."""
    found: set[Path] = set()
    for path in paths:
        found.add(path)
        at = node
        for depth, element in enumerate(path, 1):
            if element[:2] == "f:" and is_struct_field(at, element[2:]):
                found.add(path[:depth])
            at = field_node(at, element[2:]) if element[:2] == "f:" else item_node(at)
    return found


@dataclass(slots=True)
class Changes:
    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)


def compare(node: Node, old: Any, new: Any) -> Changes:
    """Which paths differ between two objects."""
    changes = Changes()
    _compare(node, old, new, (), changes)
    return changes


def _compare(node: Node, old: Any, new: Any, path: Path, changes: Changes) -> None:
    if old is _MISSING or new is _MISSING:
        present, bucket = (new, changes.added) if old is _MISSING else (old, changes.removed)
        bucket |= _all_paths(node, present, path)
    elif old == new and type(old) is type(new):
        return
    elif is_leaf(node, old) or is_leaf(node, new) or type(old) is not type(new):
        changes.modified.add(path)
    else:
        _compare_members(node, old, new, path, changes)


def _compare_members(node: Node, old: Any, new: Any, path: Path, changes: Changes) -> None:
    before = {element: (schema, item) for element, schema, item in members(node, old)}
    after = {element: (schema, item) for element, schema, item in members(node, new)}
    for element in {**before, **after}:
        schema, item = before.get(element, (None, _MISSING))
        other, wanted = after.get(element, (None, _MISSING))
        found = schema if schema is not None else other
        assert found is not None
        _compare(found, item, wanted, (*path, element), changes)


def _all_paths(node: Node, value: Any, path: Path) -> set[Path]:
    """What came or went with a whole value: its fields, and the value itself where it is a map or an element."""
    paths = field_set(node, value, path)
    if not is_leaf(node, value) and (path[-1][:2] != "f:" or "properties" not in resolve(node)):
        paths.add(path)
    return paths


def merge(node: Node, live: Any, wanted: Any) -> Any:
    """`wanted` over `live`: members join, leaves are replaced."""
    if type(live) is not type(wanted) or is_leaf(node, wanted):
        return wanted
    if isinstance(wanted, dict):
        return {**live, **{key: _merged_field(node, live, key, item) for key, item in wanted.items()}}
    return _merge_lists(node, live, wanted)


def _merged_field(node: Node, live: dict[str, Any], key: str, item: Any) -> Any:
    return merge(field_node(node, key), live[key], item) if key in live else item


def _merge_lists(node: Node, live: list[Any], wanted: list[Any]) -> list[Any]:
    """In the order of `wanted`; elements of `live` alone keep their place, and come before new ones there."""
    items = item_node(node)
    before = {item_element(node, item): item for item in live}
    after = {item_element(node, item): item for item in wanted}
    merged, waiting, taken = [], list(before), set()
    for element, item in after.items():
        while waiting and (waiting[0] not in after or waiting[0] in taken):
            merged += _own(before, waiting.pop(0), after)
        merged.append(merge(items, before[element], item) if element in before else item)
        taken.add(element)
    return merged + [item for element in waiting for item in _own(before, element, after)]


def _own(before: dict[str, Any], element: str, after: dict[str, Any]) -> list[Any]:
    """The live element, unless the wanted list has it too and so places it."""
    return [] if element in after else [before[element]]


def without(node: Node, value: Any, doomed: set[Path], path: Path = ()) -> Any:
    """The value without what stands at the doomed paths."""
    if is_leaf(node, value):
        return value
    if isinstance(value, dict):
        return {
            key: without(field_node(node, key), item, doomed, (*path, f"f:{key}"))
            for key, item in value.items()
            if (*path, f"f:{key}") not in doomed
        }
    items = item_node(node)
    named_items = [(item_element(node, item), item) for item in value]
    return [without(items, item, doomed, (*path, name)) for name, item in named_items if (*path, name) not in doomed]


def to_fields(paths: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1: a trie whose leaves are {} and whose inner members carry `.`."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        at = root
        for element in path[:-1]:
            at = at.setdefault(element, {})
        at.setdefault(path[-1], {})
    _mark(root, (), set(paths))
    return root


def _mark(node: dict[str, Any], path: Path, paths: set[Path]) -> None:
    for element, inner in list(node.items()):
        at = (*path, element)
        if inner:
            _mark(inner, at, paths)
            if at in paths:
                node[element] = {".": {}, **inner}


def from_fields(fields: dict[str, Any], path: Path = ()) -> set[Path]:
    """The paths that a FieldsV1 document names."""
    found: set[Path] = set()
    for element, inner in fields.items():
        if element == ".":
            found.add(path)
        elif not inner:
            found.add((*path, element))
        else:
            found |= from_fields(inner, (*path, element))
    return found


def names(fields: dict[str, Any], path: Path) -> bool:
    """Whether a FieldsV1 document names this path."""
    for element in path:
        if element not in fields:
            return False
        fields = fields[element]
    return not fields or "." in fields


def display(path: Path) -> str:
    """`.spec.containers[name="app"].image`, as conflicts are reported."""
    return "".join(_display(element) for element in path)


def _display(element: str) -> str:
    kind, text = element[:2], element[2:]
    if kind == "f:":
        return f".{text}"
    if kind == "k:":
        keys = msgspec.json.decode(text)
        return "[" + ",".join(f"{name}={_json(value)}" for name, value in sorted(keys.items())) + "]"
    return f"[={text}]" if kind == "v:" else f"[{text}]"
