"""Does a custom resource satisfy its CRD's schema? Findings in the words of Kubernetes' validator (kube-openapi).

CEL rules are in cel_rules.py.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from mizzen.embedded.apiserver.errors import Cause
from mizzen.embedded.apiserver.schema_definitions import Node
from mizzen.embedded.apiserver.schema_structural import PRESERVE, as_root, field_schema
from mizzen.kube.api import JSON

_INT_OR_STRING = "x-kubernetes-int-or-string"


def validate(schema: Node, obj: JSON) -> list[Cause]:
    """All that is wrong with `obj`; metadata is checked elsewhere."""
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    required = [name for name in schema.get("required") or () if name not in ("apiVersion", "kind", "metadata")]
    return [*_validate({**as_root(schema), "required": required}, body, ""), *_lists(schema, body, "")]


def _validate(node: Node, value: Any, path: str) -> Iterator[Cause]:
    if value is None and (node.get("nullable") or not _types(node)):
        return
    mismatch = _type_cause(node, value, path)
    if mismatch is not None:
        yield mismatch
        return
    yield from _enum(node, value, path)
    if isinstance(value, str):
        yield from _string(node, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(node, value, path)
    elif isinstance(value, list):
        yield from _list(node, value, path)
    elif isinstance(value, dict):
        yield from _object(node, value, path)
    yield from _composed(node, value, path)


def _types(node: Node) -> tuple[str, ...]:
    if node.get(_INT_OR_STRING):
        return ("integer", "string")
    return (node["type"],) if node.get("type") else ()


def type_name(value: Any) -> str:
    """What JSON Schema calls this value's type."""
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    names = {bool: "boolean", int: "integer", str: "string", dict: "object", list: "array", type(None): "null"}
    return names[type(value)]


def _type_cause(node: Node, value: Any, path: str) -> Cause | None:
    wanted, found = _types(node), type_name(value)
    if not wanted or found in wanted or (found == "integer" and "number" in wanted):
        return None
    told = f'{_body(path)} must be of type {",".join(wanted)}: "{found}"'
    return Cause("FieldValueTypeInvalid", path or "<nil>", f'Invalid value: "{found}": {told}')


def _body(path: str) -> str:
    return f"{path} in body"


def go_value(value: Any) -> str:
    """A value as Go's error messages print it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    if value is None:
        return '"null"'
    if isinstance(value, dict):
        inner = ", ".join(f'"{key}":{_go_inner(item)}' for key, item in sorted(value.items()))
        return f"map[string]interface {{}}{{{inner}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_go_inner, value))}}}"
    return str(value)


def _go_inner(value: Any) -> str:
    return "interface {}(nil)" if value is None else go_value(value)


def _invalid(path: str, value: Any, rule: str) -> Cause:
    return Cause("FieldValueInvalid", path, f"Invalid value: {go_value(value)}: {_body(path)} {rule}")


def _enum(node: Node, value: Any, path: str) -> Iterator[Cause]:
    allowed = node.get("enum")
    if allowed and value not in allowed:
        listed = ", ".join(
            f'"{each if isinstance(each, str) else msgspec.json.encode(each).decode()}"' for each in allowed
        )
        message = f"Unsupported value: {go_value(value)}: supported values: {listed}"
        yield Cause("FieldValueNotSupported", path, message)


def _string(node: Node, value: str, path: str) -> Iterator[Cause]:
    limit = node.get("maxLength")
    if limit is not None and len(value) > limit:
        yield Cause("FieldValueTooLong", path, f"Too long: may not be more than {limit} bytes")
    if len(value) < node.get("minLength", 0):
        yield _invalid(path, value, f"should be at least {node['minLength']} chars long")
    pattern = node.get("pattern")
    if pattern and not matches(pattern, value):
        yield _invalid(path, value, f"should match '{pattern}'")
    form = node.get("format")
    if form in _FORMATS and not _FORMATS[form](value):
        yield _invalid(path, value, f"must be of type {form}: {go_value(value)}")


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Go's `$` is the very end; Python's also matches before a last newline."""
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        pattern = pattern[:-1] + r"\Z"
    return re.compile(pattern)


def matches(pattern: str, value: str) -> bool:
    return _compiled(pattern).search(value) is not None


def _number(node: Node, value: float, path: str) -> Iterator[Cause]:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and (value < low or (node.get("exclusiveMinimum") and value == low)):
        words = "greater than" if node.get("exclusiveMinimum") else "greater than or equal to"
        yield _invalid(path, value, f"should be {words} {_short(low)}")
    if high is not None and (value > high or (node.get("exclusiveMaximum") and value == high)):
        words = "less than" if node.get("exclusiveMaximum") else "less than or equal to"
        yield _invalid(path, value, f"should be {words} {_short(high)}")
    step = node.get("multipleOf")
    if step and not math.isclose(value / step, round(value / step), abs_tol=1e-9):
        yield _invalid(path, value, f"should be a multiple of {_short(step)}")


def _short(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _list(node: Node, value: list[Any], path: str) -> Iterator[Cause]:
    limit = node.get("maxItems")
    if limit is not None and len(value) > limit:
        yield _too_many(path, len(value), limit)
    if len(value) < node.get("minItems", 0):
        yield _invalid(path, len(value), f"should have at least {node['minItems']} items")
    if node.get("uniqueItems") and any(item in value[:index] for index, item in enumerate(value)):
        yield _invalid(path, value, "shouldn't contain duplicates")
    items = node.get("items")
    if isinstance(items, dict):
        for index, item in enumerate(value):
            yield from _validate(items, item, f"{path}[{index}]")


def _too_many(path: str, count: int, limit: int) -> Cause:
    return Cause("FieldValueTooMany", path, f"Too many: {count}: must have at most {limit} items")


def _object(node: Node, value: JSON, path: str) -> Iterator[Cause]:
    for name in node.get("required") or ():
        if name not in value:
            yield Cause("FieldValueRequired", f"{path}.{name}" if path else name, "Required value")
    limit = node.get("maxProperties")
    if limit is not None and len(value) > limit:
        yield _too_many(path, len(value), limit)
    if len(value) < node.get("minProperties", 0):
        yield _invalid(path, len(value), f"should have at least {node['minProperties']} properties")
    for key, item in value.items():
        found = field_schema(node, key)
        if found and "$ref" not in found:
            yield from _validate(found, item, f"{path}.{key}" if path else key)


def _composed(node: Node, value: Any, path: str) -> Iterator[Cause]:
    """allOf, anyOf, oneOf, not. Kubernetes reports these at no field, naming the path in the message."""
    for part in node.get("allOf") or ():
        yield from _validate(_open(part), value, path)
    if (some := node.get("anyOf")) and not any(_holds(part, value, path) for part in some):
        yield _composite(path, "must validate at least one schema (anyOf)")
    if one := node.get("oneOf"):
        count = sum(_holds(part, value, path) for part in one)
        if count != 1:
            told = f"Found {count} valid alternatives" if count else "Found none valid"
            yield _composite(path, f"must validate one and only one schema (oneOf). {told}")
    if "not" in node and _holds(node["not"], value, path):
        yield _composite(path, "must not validate the schema (not)")


def _composite(path: str, rule: str) -> Cause:
    return Cause("FieldValueInvalid", "<nil>", f'Invalid value: "": "{path}" {rule}')


def _open(node: Node) -> Node:
    """Below a junctor a schema only constrains: what it does not name is none of its business."""
    return {**node, PRESERVE: True}


def _holds(node: Node, value: Any, path: str) -> bool:
    return next(_validate(_open(node), value, path), None) is None


def _lists(node: Node, value: Any, path: str) -> Iterator[Cause]:
    """Uniqueness in lists of type set and map, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            found = field_schema(node, key)
            if found and "$ref" not in found:
                yield from _lists(found, item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield from _duplicates(node, value, path)
        items = node.get("items")
        if isinstance(items, dict):
            for index, item in enumerate(value):
                yield from _lists(items, item, f"{path}[{index}]")


def _duplicates(node: Node, value: list[Any], path: str) -> Iterator[Cause]:
    kind = node.get("x-kubernetes-list-type")
    if kind not in ("set", "map"):
        return
    names = node.get("x-kubernetes-list-map-keys") or () if kind == "map" else ()
    seen: dict[bytes, int] = {}
    for index, item in enumerate(value):
        key = {name: item[name] for name in names if name in item} if names and isinstance(item, dict) else item
        text = msgspec.json.encode(key, order="sorted")
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            yield Cause("FieldValueDuplicate", f"{path}[{index}]", f"Duplicate value: {go_value(key)}")


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return check


def _pattern(text: str) -> Callable[[str], bool]:
    compiled = re.compile(text)
    return lambda value: compiled.fullmatch(value) is not None


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date-time": _pattern(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"),
    "date": _pattern(r"\d{4}-\d\d-\d\d"),
    "byte": _pattern(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"),
    "uuid": _pattern(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"),
    "duration": _pattern(r"-?(?:(?:\d+(?:\.\d*)?|\.\d+)\s*(?:ns|us|µs|ms|s|m|h|d|w))+|0"),
    "hostname": _pattern(r"(?i)(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,62})(?:\.[a-z0-9](?:[a-z0-9-]{0,62}))*\.?"),
    "email": _pattern(r"[^@\s]+@[^@\s]+"),
    "mac": _pattern(r"(?i)(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}"),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": _parses(lambda value: ipaddress.ip_network(value, strict=False)),
}
