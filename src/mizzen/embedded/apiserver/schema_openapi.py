"""The OpenAPI v3 documents that kubectl reads before it applies, explains or validates.

One document per group and version: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3. Clients
look for `x-kubernetes-group-version-kind` on operations and schemas, and for the `fieldValidation` and `dryRun`
parameters of PATCH, which tell them that the server does these checks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mizzen.embedded.apiserver import schema_definitions as definitions
from mizzen.embedded.apiserver.resources import ResourceType, Subresource
from mizzen.embedded.apiserver.schema_definitions import Node
from mizzen.kube.api import JSON, Resource

GVK = "x-kubernetes-group-version-kind"
_DATA_REVISION = "1.32-1"
"""Changes with the packaged data or the shape of these documents, so that clients' caches notice."""


def group_version_path(group_version: str) -> str:
    """`api/v1` or `apis/apps/v1`, the key of a document in the index."""
    return f"apis/{group_version}" if "/" in group_version else f"api/{group_version}"


def openapi_v3_index(served: Mapping[str, Sequence[ResourceType]]) -> JSON:
    """`/openapi/v3`: where each group version's document is. `served` is {"v1": […], "apps/v1": […]}."""
    return {
        "paths": {
            group_version_path(group_version): {
                "serverRelativeURL": f"/openapi/v3/{group_version_path(group_version)}?hash={content_hash(types)}"
            }
            for group_version, types in served.items()
        }
    }


def content_hash(types: Iterable[ResourceType]) -> str:
    """Equal for equal documents, without making them."""
    facts = [[each.resource.api_version, each.resource.plural, each.verbs, each.crd_version] for each in types]
    return hashlib.sha256(msgspec.json.encode([_DATA_REVISION, facts])).hexdigest()[:32].upper()


def openapi_v3(group_version: str, types: Sequence[ResourceType]) -> JSON:
    """The document of one group version: path items and the schemas that they need, Kubernetes' or the CRDs' own."""
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.32.0"},
        "paths": {path: item for each in types for path, item in _paths(each)},
        "components": {"schemas": _schemas(types)},
    }


def component_name(resource: Resource) -> str:
    """`io.k8s.api.apps.v1.Deployment`; for custom resources the group reversed, as Kubernetes names them."""
    built_in = definitions.definition_name(resource.group, resource.version, resource.kind)
    return built_in or ".".join([*reversed(resource.group.split(".")), resource.version, resource.kind])


# --- paths ---

_TEXT: Node = {"type": "string", "uniqueItems": True}
_FLAG: Node = {"type": "boolean", "uniqueItems": True}


def _parameter(name: str, schema: Node, place: str = "query") -> JSON:
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "schema": schema, **required}


_NUMBER: Node = {"type": "integer", "uniqueItems": True}
_SELECT = [_parameter(name, _TEXT) for name in ("labelSelector", "fieldSelector", "continue", "resourceVersion")]
_LIST = [
    *_SELECT,
    _parameter("resourceVersionMatch", _TEXT),
    *(_parameter(name, _NUMBER) for name in ("limit", "timeoutSeconds")),
    *(_parameter(name, _FLAG) for name in ("watch", "allowWatchBookmarks", "sendInitialEvents")),
]
_DELETE = [
    *(_parameter(name, _TEXT) for name in ("dryRun", "propagationPolicy")),
    _parameter("gracePeriodSeconds", _NUMBER),
    _parameter("orphanDependents", _FLAG),
]
_WRITE = [_parameter(name, _TEXT) for name in ("dryRun", "fieldManager", "fieldValidation")]
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
)


def _paths(kind: ResourceType) -> Iterable[tuple[str, JSON]]:
    resource = kind.resource
    scope = [_parameter("namespace", _TEXT, "path")] if resource.namespaced else []
    collection = resource.path(namespace="{namespace}")
    items = {
        "get": ("list", _LIST),
        "post": ("create", _WRITE),
        "delete": ("deletecollection", [*_SELECT, *_DELETE]),
    }
    operations = _operations(kind, items)
    if operations:
        yield collection, {**operations, "parameters": scope}
    items = {
        "get": ("get", []),
        "put": ("update", _WRITE),
        "patch": ("patch", [*_WRITE, _parameter("force", _FLAG)]),
        "delete": ("delete", _DELETE),
    }
    operations = _operations(kind, items)
    named = [*scope, _parameter("name", _TEXT, "path")]
    if operations:
        yield f"{collection}/{{name}}", {**operations, "parameters": named}
    for part in kind.subresources:
        if operations := _part_operations(kind, part, items):
            yield f"{collection}/{{name}}/{part.name}", {**operations, "parameters": named}


def _part_operations(kind: ResourceType, part: Subresource, methods: Mapping[str, tuple[str, list[JSON]]]) -> JSON:
    """Of what is an object again: a status, a scale. Streams and logs have none that a schema could tell."""
    resource = part_resource(kind, part)
    wanted = {method: how for method, how in methods.items() if how[0] in part.verbs}
    if part.name == "proxy" or set(part.verbs) & {"get", "update"} != {"get", "update"}:
        wanted = {"post": ("create", _WRITE)} if part.verbs == ("create",) and part.kind else {}
    found = {method: _operation(resource, method, verb, parameters) for method, (verb, parameters) in wanted.items()}
    for method, operation in found.items():
        operation["operationId"] = f"{wanted[method][0]}{kind.resource.kind}{part.name.title()}"
    return found


def part_resource(kind: ResourceType, part: Subresource) -> Resource:
    """What kind of object a subresource is."""
    if not part.kind or part.kind == kind.resource.kind:
        return kind.resource
    group, _, version = (part.api_version or kind.resource.api_version).rpartition("/")
    return Resource(group, version, part.name, part.kind)


def _operations(kind: ResourceType, methods: Mapping[str, tuple[str, list[JSON]]]) -> JSON:
    return {
        method: _operation(kind.resource, method, verb, parameters)
        for method, (verb, parameters) in methods.items()
        if verb in kind.verbs
    }


def _operation(resource: Resource, method: str, verb: str, parameters: list[JSON]) -> JSON:
    schema = {"$ref": definitions.REFERENCE + component_name(resource)}
    answer = schema if verb in ("get", "create", "update", "patch") else {"type": "object"}
    operation: JSON = {
        "operationId": f"{verb}{resource.group.title().replace('.', '')}{resource.version.title()}{resource.kind}",
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}},
        "x-kubernetes-action": verb,
        GVK: _gvk(resource),
    }
    if method in ("post", "put"):
        operation["requestBody"] = {"content": {"*/*": {"schema": schema}}, "required": True}
    elif method == "patch":
        types = _PATCH_TYPES if _is_custom(resource) else (*_PATCH_TYPES, "application/strategic-merge-patch+json")
        operation["requestBody"] = {
            "content": {each: {"schema": {"type": "object"}} for each in types},
            "required": True,
        }
    return operation


def _gvk(resource: Resource) -> JSON:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _is_custom(resource: Resource) -> bool:
    return definitions.definition_name(resource.group, resource.version, resource.kind) is None


# --- schemas ---


def _schemas(types: Sequence[ResourceType]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    pending = [definitions.DELETE_OPTIONS, definitions.STATUS]
    for each in types:
        name = component_name(each.resource)
        if _is_custom(each.resource):
            found[name] = custom_schema(each.resource, each.crd_version)
            pending.append(definitions.OBJECT_META)
        else:
            pending.append(name)
        parts = (part_resource(each, part) for part in each.subresources)
        pending.extend(component_name(part) for part in parts if not _is_custom(part))
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = _published(name)
            pending.extend(_references(found[name]))
    return dict(sorted(found.items()))


def _references(node: Any) -> Iterable[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(definitions.REFERENCE)
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _published(name: str) -> Node:
    """A definition as clients get it: with descriptions."""
    node = definitions.definition(name)
    told = definitions.descriptions(definitions.package_of(name)).get(name, {})
    published = _described(node, told.get(""))
    if "properties" in node:
        fields = node["properties"].items()
        published["properties"] = {field: _property(schema, told.get(field)) for field, schema in fields}
    return published


def _described(node: Node, description: str | None) -> Node:
    return {"description": description, **node} if description else dict(node)


def _property(node: Node, description: str | None) -> Node:
    """OpenAPI 3.0 ignores what stands beside a `$ref`, so Kubernetes publishes `allOf` there."""
    if "$ref" not in node:
        return _described(node, description)
    rest = {key: value for key, value in node.items() if key != "$ref"}
    return _described({**rest, "allOf": [{"$ref": node["$ref"]}]}, description)


def custom_schema(resource: Resource, crd_version: JSON | None) -> Node:
    """The schema of a custom resource, with the metadata that its author need not write."""
    own: Node = ((crd_version or {}).get("schema") or {}).get("openAPIV3Schema") or {}
    properties = own.get("properties") or {}
    return {
        **(own or {"x-kubernetes-preserve-unknown-fields": True}),
        "type": "object",
        "properties": {
            **properties,
            "apiVersion": {"type": "string", **properties.get("apiVersion", {})},
            "kind": {"type": "string", **properties.get("kind", {})},
            "metadata": {"allOf": [{"$ref": definitions.REFERENCE + definitions.OBJECT_META}]},
        },
        GVK: [_gvk(resource)],
    }
