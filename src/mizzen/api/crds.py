"""CustomResourceDefinitions of Istio's kinds, generated from the structs.

Structural schemas (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/):
one schema for all versions of a kind, so nothing is converted.
"""

from __future__ import annotations

import functools
import types
import typing
from typing import Any

import msgspec

from mizzen.api.base import Duration
from mizzen.api.registry import KINDS, Column, Kind
from mizzen.api.unknown import without_none

_fields = functools.cache(msgspec.structs.fields)
"""What a struct's annotations say; evaluating them is most of the work, and one schema stands for each version."""
_OPEN_OBJECT = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def custom_resource_definitions() -> list[dict[str, Any]]:
    """All CRDs, in the order of `KINDS`."""
    return [_definition(kind) for kind in KINDS]


def _definition(kind: Kind) -> dict[str, Any]:
    name = f"{kind.plural}.{kind.group}"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": kind.group,
            "names": _names(kind),
            "scope": "Namespaced",
            "versions": [_version(kind, version) for version in kind.versions],
        },
    }


def _names(kind: Kind) -> dict[str, Any]:
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.singular,
        "categories": list(kind.categories),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return names


def _version(kind: Kind, version: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": version,
        "served": True,
        "storage": version == kind.storage_version,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema(kind)},
    }
    if kind.columns:
        made["additionalPrinterColumns"] = [_column(column) for column in kind.columns]
    return made


def _column(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }


def schema(kind: Kind) -> dict[str, Any]:
    """The schema of one whole object; apiVersion, kind and metadata are the API server's."""
    spec = next(field.type for field in _fields(kind.struct) if field.name == "spec")
    made: dict[str, Any] = {
        "type": "object",
        "properties": {"spec": _described(_schema(spec), kind.struct), "status": dict(_OPEN_OBJECT)},
    }
    if kind.spec_required:
        made["required"] = ["spec"]
    return made


def _described(made: dict[str, Any], struct: type) -> dict[str, Any]:
    text = " ".join((struct.__doc__ or "").split())
    return {"description": text, **made} if text and not text.startswith("Model(") else made


def _schema(given: Any) -> dict[str, Any]:
    given = without_none(given)
    if typing.get_origin(given) is typing.Annotated:
        bare, *metas = typing.get_args(given)
        made = _schema(bare)
        for meta in metas:
            made |= _limits(meta, made)
        return made
    if isinstance(given, type) and issubclass(given, msgspec.Struct):
        return _struct(given)
    return _collection(given) or _scalar(given)


def _collection(given: Any) -> dict[str, Any] | None:
    origin, arguments = typing.get_origin(given), typing.get_args(given)
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict and arguments[1] is Any:
        return dict(_OPEN_OBJECT)
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    return None


def _scalar(given: Any) -> dict[str, Any]:
    if typing.get_origin(given) is typing.Literal:
        return {"type": "string", "enum": list(typing.get_args(given))}
    if typing.get_origin(given) in (typing.Union, types.UnionType):
        return {"x-kubernetes-int-or-string": True}
    plain: dict[Any, dict[str, Any]] = {
        str: {"type": "string"},
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": "number", "format": "double"},
        # No pattern: the webhook says what a duration looks like, an API server would answer with the pattern alone.
        Duration: {"type": "string"},
    }
    return dict(plain[given])


def _limits(meta: msgspec.Meta, made: dict[str, Any]) -> dict[str, Any]:
    sized = {"array": ("minItems", "maxItems"), "string": ("minLength", "maxLength")}
    least, most = sized.get(made.get("type", ""), ("minProperties", "maxProperties"))
    limits = {
        "minimum": meta.ge,
        "maximum": meta.le,
        "pattern": meta.pattern,
        least: meta.min_length,
        most: meta.max_length,
    }
    return {name: value for name, value in limits.items() if value is not None}


def _struct(struct: type[msgspec.Struct]) -> dict[str, Any]:
    fields = _fields(struct)
    made = _described(
        {"type": "object", "properties": {field.encode_name: _schema(field.type) for field in fields}}, struct
    )
    required = [field.encode_name for field in fields if field.required]
    if required:
        made["required"] = required
    names = {field.name: field.encode_name for field in fields}
    choices = [_at_most_one([names[name] for name in choice]) for choice in getattr(struct, "ONE_OF", ())]
    if len(choices) == 1:
        made |= choices[0]
    elif choices:
        made["allOf"] = choices
    return made


def _at_most_one(names: list[str]) -> dict[str, Any]:
    none = {"not": {"anyOf": [{"required": [name]} for name in names]}}
    return {"oneOf": [none, *({"required": [name]} for name in names)]}
