"""What happens when Go structs meet a JSON document: fields unknown, of the wrong type, null, or given twice.

The decoder of a real API server drops what it does not know and reports it as a strict decoding error; a wrong type
ends the request. Words: encoding/json's UnmarshalTypeError and sigs.k8s.io/json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mizzen.embedded.apiserver.schema_definitions import (
    INT_OR_STRING,
    QUANTITY,
    Node,
    child,
    element,
    reference_name,
    resolve,
)

_TIMES = ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_GO_KINDS = {str: "string", bool: "bool", int: "number", float: "number", dict: "object", list: "array"}
INT_RANGES = {"int32": 2**31, "int64": 2**63}


def unknown_in(node: Node, value: Any, path: str) -> Iterator[str]:
    """Paths, such as `spec.containers[0].imagee`, that this schema does not know."""
    node = resolve(node)
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{path}.{key}" if path else key
            if is_unknown(node, key):
                yield at
            else:
                yield from unknown_in(child(node, key), item, at)
    elif isinstance(value, list):
        items = element(node)
        for index, item in enumerate(value):
            yield from unknown_in(items, item, f"{path}[{index}]")


def is_unknown(node: Node, key: str) -> bool:
    """Only objects with listed properties are closed: the others are maps, or hold anything."""
    properties = node.get("properties")
    return properties is not None and key not in properties and not node.get("additionalProperties")


def pruned(node: Node, value: Any) -> Any:
    """`value` without unknown fields, and with nulls as Go's decoder takes them: absent, or zero in maps and lists."""
    node = resolve(node)
    if isinstance(value, dict):
        is_struct = "properties" in node
        return {
            key: pruned(child(node, key), item)
            for key, item in value.items()
            if not is_unknown(node, key) and not (is_struct and item is None)
        }
    if isinstance(value, list):
        items = element(node)
        return [pruned(items, item) for item in value]
    return _ZEROS.get(node.get("type", "")) if value is None else value


_ZEROS: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


def duplicate_fields(body: bytes) -> list[str]:
    """Fields that a JSON text gives twice in one object; the last one counts. An invalid text has none."""
    found: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                found.append(key)
            seen[key] = value
        return seen

    try:
        json.loads(body, object_pairs_hook=collect)
    except ValueError:
        return []
    return found


def type_error(node: Node, value: Any, path: str = "", owner: str = "") -> str | None:
    """The first value that Go's decoder would refuse, in its words; None where all fit."""
    if value is None:
        return None
    name = reference_name(node)
    special = special_error(name, value)
    if special is not None or name in SPECIAL:
        return special
    owner = name.rpartition(".")[2] if name else owner
    node = resolve(node)
    if "oneOf" in node or "type" not in node:
        return None
    wanted = node["type"]
    if wanted == "object" and isinstance(value, dict):
        struct = node.get("properties", {})  # Go names the fields of structs, not the keys of maps
        places = ((key, item, f"{path}.{key}" if key in struct else path) for key, item in value.items())
        return _first(type_error(child(node, key), item, place, owner) for key, item, place in places)
    if wanted == "array" and isinstance(value, list):
        return _first(type_error(node.get("items", {}), item, path, owner) for item in value)
    return None if _fits(wanted, value, node.get("format")) else _mismatch(node, value, path, owner)


def _first(errors: Iterator[str | None]) -> str | None:
    return next((error for error in errors if error), None)


def _fits(wanted: str, value: Any, form: str | None) -> bool:
    if wanted == "string":
        return isinstance(value, str)
    if wanted == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if wanted == "integer":
        limit = INT_RANGES.get(form or "", 2**63)
        return isinstance(value, int) and -limit <= value < limit
    return wanted == "number" and isinstance(value, int | float)


def _mismatch(node: Node, value: Any, path: str, owner: str) -> str:
    kind = _GO_KINDS[type(value)]
    if kind == "number" and node["type"] == "integer":
        kind = f"number {value}"
    target = _go_type(node)
    place = f" into Go struct field {owner}{path}" if owner else " into Go value"
    return f"json: cannot unmarshal {kind}{place} of type {target}"


def _go_type(node: Node) -> str:
    match node["type"], node.get("format"):
        case "integer", form:
            return form or "int64"
        case "boolean", _:
            return "bool"
        case "number", _:
            return "float64"
        case "array", _:
            return f"[]{_go_element(node.get('items', {}))}"
        case "object", _:
            value = node.get("additionalProperties")
            return f"map[string]{_go_element(value)}" if isinstance(value, dict) else "struct"
    return "string"


def _go_element(node: Node) -> str:
    name = reference_name(node)
    if name is None:
        return _go_type(node) if "type" in node else "interface {}"
    package, _, kind = name.rpartition(".")
    return f"{package.rpartition('.')[2]}.{kind}"


def special_error(name: str | None, value: Any) -> str | None:
    """Why a value of one of the `SPECIAL` definitions cannot be decoded; None for all others."""
    if name == QUANTITY:
        return _quantity_error(value)
    if name == INT_OR_STRING and (isinstance(value, bool) or not isinstance(value, int | str)):
        return f"json: cannot unmarshal {_GO_KINDS[type(value)]} into Go value of type int32"
    if name in _TIMES:
        return _time_error(value)
    return None


SPECIAL = (QUANTITY, INT_OR_STRING, *_TIMES)


def _quantity_error(value: Any) -> str | None:
    rule = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    return None if _QUANTITY.fullmatch(str(value)) and not isinstance(value, bool) else rule


def _time_error(value: Any) -> str | None:
    if isinstance(value, str) and _TIME.fullmatch(value):
        return None
    if isinstance(value, str):
        return f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'
    return "Time.UnmarshalJSON: input is not a JSON string"
