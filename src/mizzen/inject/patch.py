"""The difference of two JSON documents as a JSON Patch (https://www.rfc-editor.org/rfc/rfc6902)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]


def difference(old: Any, new: Any, path: str = "") -> list[JSON]:
    """Operations that turn `old` into `new`. Lists are compared place by place."""
    if isinstance(old, dict) and isinstance(new, dict):
        return list(_of_mappings(old, new, path))
    if isinstance(old, list) and isinstance(new, list):
        return list(_of_lists(old, new, path))
    return [] if _same(old, new) else [{"op": "replace", "path": path, "value": new}]


def _same(old: Any, new: Any) -> bool:
    """JSON tells true from 1, Python does not."""
    return old == new and isinstance(old, bool) == isinstance(new, bool)


def _of_mappings(old: JSON, new: JSON, path: str) -> Iterator[JSON]:
    for key, value in old.items():
        if key in new:
            yield from difference(value, new[key], f"{path}/{_escaped(key)}")
        else:
            yield {"op": "remove", "path": f"{path}/{_escaped(key)}"}
    for key, value in new.items():
        if key not in old:
            yield {"op": "add", "path": f"{path}/{_escaped(key)}", "value": value}


def _of_lists(old: list[Any], new: list[Any], path: str) -> Iterator[JSON]:
    for index, (left, right) in enumerate(zip(old, new, strict=False)):
        yield from difference(left, right, f"{path}/{index}")
    for index in range(len(old) - 1, len(new) - 1, -1):
        yield {"op": "remove", "path": f"{path}/{index}"}
    for value in new[len(old) :]:
        yield {"op": "add", "path": f"{path}/-", "value": value}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
