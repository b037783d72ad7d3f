"""What the API server knows of a kind's shape: the door to the schema modules.

`schema` parameters are a CRD version's `openAPIV3Schema`; without one the packaged definition of the built-in kind
counts.
"""

from __future__ import annotations

from mizzen.embedded.apiserver import schema_fit, schema_structural
from mizzen.embedded.apiserver.schema_definitions import OBJECT_META, REFERENCE, Node, definition_name, kind_schema
from mizzen.embedded.apiserver.schema_fields import duplicate_fields, pruned, type_error, unknown_in
from mizzen.embedded.apiserver.schema_openapi import content_hash, openapi_v3, openapi_v3_index
from mizzen.embedded.apiserver.schema_suggestions import meant
from mizzen.kube.api import JSON, Resource

__all__ = [
    "content_hash",
    "decoding_error",
    "duplicate_fields",
    "fits",
    "openapi_v3",
    "openapi_v3_index",
    "prune",
    "strict_decoding_error",
    "unknown_field_message",
    "unknown_fields",
]

_METADATA: Node = {"type": "object", "properties": {"metadata": {"$ref": REFERENCE + OBJECT_META}}}


def built_in(resource: Resource) -> Node | None:
    return kind_schema(resource.group, resource.version, resource.kind)


def fits(resource: Resource, obj: JSON) -> bool:
    """Whether a built-in object decodes, is what pruning would leave of it, and has no null in it."""
    name = definition_name(resource.group, resource.version, resource.kind)
    return name is not None and schema_fit.of_definition(name)(obj)


def unknown_fields(resource: Resource, obj: JSON, schema: Node | None = None) -> list[str]:
    """Paths of fields that the schema does not know; none where there is no schema to ask."""
    if schema is not None:
        return schema_structural.unknown_fields(schema, obj)
    node = built_in(resource)
    return list(unknown_in(node, obj, "")) if node is not None else []


def unknown_field_message(resource: Resource, path: str, schema: Node | None = None) -> str:
    """`unknown field "spec.replica"` as Kubernetes says it, and what we add: which field was probably meant."""
    root = schema_structural.as_root(schema) if schema is not None else built_in(resource)
    suggestion = meant(root, path) if root is not None else ""
    return f'unknown field "{path}"' + (f' (did you mean "{suggestion}"?)' if suggestion else "")


def strict_decoding_error(unknown: list[str], duplicates: list[str] | None = None) -> str:
    """What `fieldValidation=Strict` answers; `unknown` are messages, `duplicates` paths."""
    lines = list(unknown)
    lines += [f'duplicate field "{path}"' for path in duplicates or ()]
    return f"strict decoding error: {', '.join(lines)}"


def decoding_error(resource: Resource, obj: JSON) -> str | None:
    """Why a built-in object cannot be decoded at all, as Go says it; answer 400. Of custom ones, only metadata."""
    node = built_in(resource)
    if node is None:
        return type_error(_METADATA, {"metadata": obj.get("metadata")})
    return type_error(node, obj, owner=resource.kind)


def prune(resource: Resource, obj: JSON, schema: Node | None = None) -> JSON:
    """A copy without what the schema does not know and, for built-ins, without nulls."""
    if schema is not None:
        return schema_structural.prune(schema, obj)
    node = built_in(resource)
    kept: JSON = pruned(node, obj) if node is not None else obj
    return kept
