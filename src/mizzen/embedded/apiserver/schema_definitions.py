"""Kubernetes' own definitions, read from the packaged data one API package at a time.

A *node* is an OpenAPI schema (a dict); `resolve` follows its reference. Where the data comes from: data/README.md.
"""

from __future__ import annotations

import zipfile
from functools import cache, lru_cache
from importlib import resources
from io import BytesIO
from typing import Any, TypeAlias

import msgspec

Node: TypeAlias = dict[str, Any]

REFERENCE = "#/components/schemas/"
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
ANYTHING: Node = {"x-kubernetes-preserve-unknown-fields": True}


def read_member(file: str, member: str) -> Any:
    """One JSON member of a packaged zip file, or {} where there is none."""
    packaged = resources.files("mizzen.embedded.apiserver.data").joinpath(file)
    with zipfile.ZipFile(BytesIO(packaged.read_bytes())) as archive:
        try:
            return msgspec.json.decode(archive.read(member))
        except KeyError:
            return {}


@cache
def _package(name: str) -> dict[str, Node]:
    found: dict[str, Node] = read_member("definitions.zip", f"definitions/{name}.json")
    return found


@cache
def _index() -> dict[str, str]:
    found: dict[str, str] = read_member("definitions.zip", "index.json")
    return found


@lru_cache(maxsize=2)
def descriptions(package: str) -> dict[str, dict[str, str]]:
    """{definition: {"": description, property: description}}. Large, so only the last two packages are kept."""
    found: dict[str, dict[str, str]] = read_member("definitions.zip", f"descriptions/{package}.json")
    return found


def package_of(definition: str) -> str:
    return definition.rpartition(".")[0]


def definition(name: str) -> Node:
    """The schema of a definition such as `io.k8s.api.core.v1.Pod`. Raises KeyError."""
    return _package(package_of(name))[name]


def definition_name(group: str, version: str, kind: str) -> str | None:
    """The definition of a built-in kind; None for kinds that are not Kubernetes' own."""
    return _index().get("/".join(part for part in (group, version, kind) if part))


def kind_schema(group: str, version: str, kind: str) -> Node | None:
    """The schema of a built-in kind, or None."""
    name = definition_name(group, version, kind)
    return definition(name) if name else None


def reference_name(node: Node) -> str | None:
    """The definition that this node refers to."""
    reference: str | None = node.get("$ref")
    return reference.removeprefix(REFERENCE) if reference else None


def resolve(node: Node) -> Node:
    """The node itself, or the definition that it refers to."""
    reference = node.get("$ref")
    return node if reference is None else _referenced(reference)


@cache
def _referenced(reference: str) -> Node:
    return definition(reference.removeprefix(REFERENCE))


def child(node: Node, field: str) -> Node:
    """The unresolved schema of one field, which carries list keys and merge strategy; ANYTHING where none is known."""
    found = node.get("properties", {}).get(field)
    if found is None:
        found = node.get("additionalProperties")
    return found if isinstance(found, dict) else ANYTHING


def element(node: Node) -> Node:
    """The resolved schema of a list's elements."""
    items = node.get("items")
    return resolve(items) if isinstance(items, dict) else ANYTHING
