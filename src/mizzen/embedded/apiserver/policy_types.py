"""Fields that a policy's expressions read and that the kinds it concerns do not have: `status.typeChecking`.

Only names are checked, of fields that an expression reads of `object`, `oldObject` and `params` by a path.
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.embedded.apiserver import cel_source, schema
from mizzen.embedded.apiserver.bodies import structural_schema
from mizzen.embedded.apiserver.cel_values import field_name
from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.schema_definitions import Node, resolve
from mizzen.kube.api import JSON


def warnings(policy: JSON, registry: Registry) -> list[JSON]:
    """The `expressionWarnings` of a policy."""
    spec = policy["spec"]
    kinds = list(_concerned(spec, registry))
    wanted = spec.get("paramKind")
    params = registry.find_kind(wanted["apiVersion"], wanted["kind"]) if wanted else None
    found: list[JSON] = []
    for place, source in _expressions(spec):
        lines = [line for kind in kinds for line in _wrong(kind, source, ("object", "oldObject"))]
        lines += _wrong(params, source, ("params",)) if params else []
        if lines:
            found.append({"fieldRef": place, "warning": "\n".join(lines)})
    return found


def _concerned(spec: JSON, registry: Registry) -> Iterator[ResourceType]:
    """The kinds that the rules name outright; a wildcard names none."""
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        for group in rule.get("apiGroups") or ():
            for version in rule.get("apiVersions") or ():
                for plural in rule.get("resources") or ():
                    if kind := registry.find(group, version, plural):
                        yield kind


def _expressions(spec: JSON) -> Iterator[tuple[str, str]]:
    for index, each in enumerate(spec.get("validations") or ()):
        yield f"spec.validations[{index}].expression", each["expression"]
        if each.get("messageExpression"):
            yield f"spec.validations[{index}].messageExpression", each["messageExpression"]
    for index, each in enumerate(spec.get("variables") or ()):
        yield f"spec.variables[{index}].expression", each["expression"]


def _wrong(kind: ResourceType, source: str, roots: tuple[str, ...]) -> Iterator[str]:
    node = structural_schema(kind) or schema.built_in(kind.resource)
    for root in roots if node else ():
        for path in cel_source.field_paths(source, root):
            name = _undefined(node, path)
            if name:
                where = f"{kind.resource.api_version}, Kind={kind.resource.kind}"
                yield f"{where}: ERROR: undefined field '{name}' in {source.strip()}"


def _undefined(node: Node | None, path: tuple[str, ...]) -> str:
    """The first name of the path that its schema does not know; "" where all are known, or nothing is."""
    for index, name in enumerate(path):
        node = resolve(node or {})
        properties = node.get("properties")
        if not properties or node.get("additionalProperties") or node.get("x-kubernetes-preserve-unknown-fields"):
            return ""
        known = {field_name(key): item for key, item in properties.items()}
        if index == 0:
            known = {"apiVersion": {}, "kind": {}, "metadata": {}, **known}
        if name not in known:
            return name
        node = known[name]
    return ""
