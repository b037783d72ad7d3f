"""Whether an object is just as its schema says: one walk, which is all that most requests need.

Where the answer is no, `schema_fields` finds out what is wrong, and in which words to say so. A "no" to something that
is right costs that second look and nothing else; a "yes" is kept by properties that tests check: no field is unknown,
every type fits, and nothing is null.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from mizzen.embedded.apiserver.schema_definitions import REFERENCE, Node, definition
from mizzen.embedded.apiserver.schema_fields import INT_RANGES, SPECIAL, special_error

Check: TypeAlias = Callable[[Any], bool]


@cache
def of_definition(name: str) -> Check:
    """For values of a definition such as `io.k8s.api.core.v1.Pod`. Raises KeyError."""
    if name in SPECIAL:
        return lambda value: value is not None and special_error(name, value) is None
    return _of(definition(name))


def _of(node: Node) -> Check:
    if "$ref" in node:
        return of_definition(node["$ref"].removeprefix(REFERENCE))
    if "type" not in node or "oneOf" in node:
        return _never if "properties" in node or "items" in node else _without_null
    return _OF_TYPE[node["type"]](node)


def _of_object(node: Node) -> Check:
    properties, additional = node.get("properties"), node.get("additionalProperties")
    if properties is None:
        return _map(_of(additional)) if isinstance(additional, dict) else _map(_without_null)
    return _never if additional else _struct(properties)


def _struct(properties: dict[str, Node]) -> Check:
    known: dict[str, Check] = {}  # filled as fields come: definitions refer to each other, and most are never met

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for key, item in value.items():
            fits = known.get(key)
            if fits is None:
                if key not in properties:
                    return False
                fits = known[key] = _of(properties[key])
            if not fits(item):
                return False
        return True

    return check


def _map(fits: Check) -> Check:
    return lambda value: type(value) is dict and all(map(fits, value.values()))


def _of_array(node: Node) -> Check:
    fits = _of(node.get("items", {}))
    return lambda value: type(value) is list and all(map(fits, value))


def _of_integer(node: Node) -> Check:
    limit = INT_RANGES.get(node.get("format") or "", 2**63)
    return lambda value: type(value) is int and -limit <= value < limit


def _without_null(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_without_null, value.values()))
    if type(value) is list:
        return all(map(_without_null, value))
    return value is not None


def _never(_: Any) -> bool:
    return False


_OF_TYPE: dict[str, Callable[[Node], Check]] = {
    "object": _of_object,
    "array": _of_array,
    "integer": _of_integer,
    "number": lambda _: lambda value: type(value) in (int, float),
    "string": lambda _: lambda value: type(value) is str,
    "boolean": lambda _: lambda value: type(value) is bool,
}
