"""JSON values as CEL sees them: typed by their schema, with field names that are CEL identifiers."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime, timedelta
from typing import Any

from mizzen.embedded.apiserver.schema_definitions import Node, resolve
from mizzen.embedded.apiserver.schema_structural import field_schema

ABSENT = object()
"""There was no such value before."""
_WORDS = """
true false null in as break const continue else for function if import let loop package namespace return var void while
"""
_RESERVED = frozenset(_WORDS.split())
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


def field_name(name: str) -> str:
    """How rules spell a field: `namespace` is `__namespace__`, `a-b` is `a__dash__b`."""
    if name in _RESERVED:
        return f"__{name}__"
    return re.sub(r"__|[./-]", lambda found: _ESCAPES[found.group()], name)


def as_cel(node: Node, value: Any) -> Any:
    """A copy of the value. Fields are renamed, and reserved words keep their own name too; keys of maps are not."""
    node = resolve(node)
    if isinstance(value, dict):
        named = node.get("properties") or {}
        found = {key: as_cel(field_schema(node, key) or {}, item) for key, item in value.items()}
        kept = {key: item for key, item in found.items() if key not in named or key in _RESERVED}
        return {**kept, **{field_name(key): item for key, item in found.items() if key in named}}
    if isinstance(value, list):
        return [as_cel(node.get("items") or {}, item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and node.get("type") == "number":
        return float(value)
    return _formatted(node.get("format"), value) if isinstance(value, str) else value


def _formatted(kind: str | None, text: str) -> Any:
    """Texts of some formats have a type of their own; validation has seen that they can be read."""
    if kind in ("date-time", "date"):
        return _time(text)
    if kind == "duration":
        return _duration(text)
    if kind == "byte":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            return text
    return text


def _time(text: str) -> datetime | str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return found if found.tzinfo else datetime.fromisoformat(f"{text}T00:00:00+00:00")


def _duration(text: str) -> timedelta | str:
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.lstrip("-+"):
        return text
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


def old_item(node: Node, item: Any, old: Any) -> Any:
    """The item of the old list that is the same one: only lists of type map have such."""
    if node.get("x-kubernetes-list-type") != "map" or not isinstance(old, list) or not isinstance(item, dict):
        return ABSENT
    names = node.get("x-kubernetes-list-map-keys") or ()
    key = [item.get(name) for name in names]
    same = (each for each in old if isinstance(each, dict) and [each.get(name) for name in names] == key)
    return next(same, ABSENT)
