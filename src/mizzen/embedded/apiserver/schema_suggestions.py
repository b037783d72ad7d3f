"""Which field was probably meant by one that a schema does not know: our addition to Kubernetes' words."""

from __future__ import annotations

import re

from mizzen.api.unknown import nearest
from mizzen.embedded.apiserver.schema_definitions import Node, resolve
from mizzen.embedded.apiserver.schema_structural import EMBEDDED, field_schema

_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


def meant(root: Node, path: str) -> str:
    """The field beside `path` whose name is nearest to its last step, or ""."""
    *way, name = _STEP.findall(path) or [path]
    node = root
    for step in way:
        node = _inside(resolve(node), step)
    return nearest(name, _names(resolve(node)))


def _inside(node: Node, step: str) -> Node:
    found = node.get("items") if step.startswith("[") else field_schema(node, step)
    return found if isinstance(found, dict) else {}


def _names(node: Node) -> list[str]:
    always = ["apiVersion", "kind", "metadata"] if node.get(EMBEDDED) else []
    return [*always, *(node.get("properties") or {})]
