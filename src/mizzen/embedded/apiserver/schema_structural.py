"""Structural schemas: how a CRD's `openAPIV3Schema` prunes and defaults its objects. Validation: schema_validation.py.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from mizzen.embedded.apiserver.schema_definitions import OBJECT_META, REFERENCE, Node
from mizzen.embedded.apiserver.schema_fields import pruned, unknown_in
from mizzen.kube.api import JSON

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
RULES = "x-kubernetes-validations"
_METADATA: Node = {"$ref": REFERENCE + OBJECT_META}
_TYPE_META: Node = {"type": "string"}


def unknown_fields(schema: Node, obj: JSON) -> list[str]:
    """Paths of fields that pruning would drop."""
    return list(_unknown(as_root(schema), obj, ""))


def as_root(schema: Node) -> Node:
    """The schema of a whole object: it always has apiVersion, kind and metadata."""
    return {**schema, EMBEDDED: True}


def field_schema(node: Node, key: str) -> Node | None:
    """The schema of one field; {} for one that is kept as it is; None for one that is not known."""
    properties = node.get("properties") or {}
    if node.get(EMBEDDED) and key == "metadata":
        return _METADATA
    if key in properties:
        found: Node = properties[key]
        return found
    if node.get(EMBEDDED) and key in ("apiVersion", "kind"):
        return _TYPE_META
    additional = node.get("additionalProperties")
    if isinstance(additional, dict):
        return additional
    return {PRESERVE: True} if additional or node.get(PRESERVE) else None


def _unknown(node: Node, value: Any, path: str) -> Iterator[str]:
    if node is _METADATA:
        yield from unknown_in(node, value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            found = field_schema(node, key)
            at = f"{path}.{key}" if path else key
            if found is None:
                yield at
            else:
                yield from _unknown(found, item, at)
    elif isinstance(value, list) and (items := node.get("items")):
        for index, item in enumerate(value):
            yield from _unknown(items, item, f"{path}[{index}]")


def prune(schema: Node, obj: JSON) -> JSON:
    """A copy without unknown fields."""
    kept: JSON = _pruned(as_root(schema), obj)
    return kept


def _pruned(node: Node, value: Any) -> Any:
    if node is _METADATA:
        return pruned(node, value)
    if isinstance(value, dict):
        known = ((key, item, field_schema(node, key)) for key, item in value.items())
        return {key: _pruned(found, item) for key, item, found in known if found is not None}
    if isinstance(value, list):
        items = node.get("items")
        return [_pruned(items, item) for item in value] if items else value
    return value


def default(schema: Node, obj: JSON) -> JSON:
    """Write the schema's defaults into `obj`, which is changed and returned. Nulls that cannot be null give way."""
    _default(schema, obj)
    return obj


def _default(node: Node, value: Any) -> None:
    if isinstance(value, dict):
        _default_fields(node, value)
    elif isinstance(value, list) and (items := node.get("items")):
        for item in value:
            _default(items, item)


def _default_fields(node: Node, value: JSON) -> None:
    properties: dict[str, Node] = node.get("properties") or {}
    for key, found in properties.items():
        if "default" in found and _takes_default(found, value.get(key, _MISSING)):
            value[key] = copy.deepcopy(found["default"])
        if key in value:
            _default(found, value[key])
    additional = node.get("additionalProperties")
    if isinstance(additional, dict):
        for key in value.keys() - properties.keys():
            if value[key] is None and "default" in additional and not additional.get("nullable"):
                value[key] = copy.deepcopy(additional["default"])
            _default(additional, value[key])


_MISSING = object()


def _takes_default(node: Node, value: Any) -> bool:
    return value is _MISSING or (value is None and not node.get("nullable"))
