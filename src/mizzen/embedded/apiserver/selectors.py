"""Label and field selectors, as they are written in queries.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mizzen.embedded.apiserver import errors
from mizzen.kube.api import JSON

_SET = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s*\(([^()]*)\)\s*$")
_EQUAL = re.compile(r"^\s*([^\s!=,()<>]+)\s*(==|=|!=)\s*([^\s=,()]*)\s*$")
_ORDER = re.compile(r"^\s*([^\s!=,()<>]+)\s*([<>])\s*(-?\d+)\s*$")
_EXISTS = re.compile(r"^\s*(!?)\s*([^\s!=,()<>]+)\s*$")
_COMMA = re.compile(r",(?![^()]*\))")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def holds(self, labels: Labels) -> bool:
        return _OPERATORS[self.operator](labels.get(self.key), self.values)


def _compare(value: str | None, values: frozenset[str], sign: int) -> bool:
    try:
        return value is not None and (int(value) - int(next(iter(values)))) * sign > 0
    except ValueError:
        return False


_OPERATORS: dict[str, Callable[[str | None, frozenset[str]], bool]] = {
    "in": lambda value, values: value is not None and value in values,
    "notin": lambda value, values: value is None or value not in values,
    "exists": lambda value, _: value is not None,
    "absent": lambda value, _: value is None,
    ">": lambda value, values: _compare(value, values, 1),
    "<": lambda value, values: _compare(value, values, -1),
}


@lru_cache(maxsize=512)
def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of `labelSelector=…`, all of which must hold. Raises 400."""
    return tuple(_requirement(part) for part in _COMMA.split(text) if part.strip())


def _requirement(part: str) -> Requirement:
    if match := _SET.match(part):
        values = frozenset(value.strip() for value in match[3].split(","))
        return Requirement(match[1], match[2], values)
    if match := _EQUAL.match(part):
        return Requirement(match[1], "notin" if match[2] == "!=" else "in", frozenset({match[3]}))
    if match := _ORDER.match(part):
        return Requirement(match[1], match[2], frozenset({match[3]}))
    if match := _EXISTS.match(part):
        return Requirement(match[2], "absent" if match[1] else "exists")
    raise errors.bad_request(f'unable to parse requirement: "{part.strip()}" is not a label selector')


def matches_labels(requirements: tuple[Requirement, ...], labels: Labels) -> bool:
    return all(requirement.holds(labels) for requirement in requirements)


_EXPRESSIONS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}


def requirements_of(selector: JSON | None) -> tuple[Requirement, ...]:
    """A `LabelSelector` object (matchLabels, matchExpressions); empty selects everything."""
    selector = selector or {}
    equal = [Requirement(key, "in", frozenset({value})) for key, value in (selector.get("matchLabels") or {}).items()]
    rest = [
        Requirement(each["key"], _EXPRESSIONS[each["operator"]], frozenset(each.get("values") or ()))
        for each in selector.get("matchExpressions") or ()
    ]
    return (*equal, *rest)


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    path: str
    value: str
    equal: bool

    def holds(self, document: JSON) -> bool:
        return (field_value(document, self.path) == self.value) is self.equal


@lru_cache(maxsize=512)
def parse_fields(text: str) -> tuple[FieldRequirement, ...]:
    """The requirements of `fieldSelector=…`. Raises 400."""
    return tuple(_field_requirement(part.strip()) for part in text.split(",") if part.strip())


def _field_requirement(part: str) -> FieldRequirement:
    for sign, equal in (("!=", False), ("==", True), ("=", True)):
        path, found, value = part.partition(sign)
        if found:
            return FieldRequirement(path.strip(), value.strip(), equal)
    raise errors.bad_request(f"invalid selector: '{part}'; can't understand '{part}'")


def field_value(document: JSON, path: str) -> str:
    """The value at a dotted path, written as field selectors write values; "" if it is absent."""
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


_FIELDS: dict[str, frozenset[str]] = {
    "pods": frozenset(
        [
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    ),
    "events": frozenset(
        [
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    ),
    "secrets": frozenset({"type"}),
    "namespaces": frozenset({"status.phase"}),
    "nodes": frozenset({"spec.unschedulable"}),
    "services": frozenset({"spec.clusterIP", "spec.type"}),
    "replicationcontrollers": frozenset({"status.replicas"}),
    "replicasets.apps": frozenset({"status.replicas"}),
    "jobs.batch": frozenset({"status.successful"}),
    "certificatesigningrequests.certificates.k8s.io": frozenset({"spec.signerName"}),
}
_EVERY_KIND = frozenset({"metadata.name", "metadata.namespace"})


def check_fields(requirements: tuple[FieldRequirement, ...], storage: str, extra: frozenset[str]) -> None:
    """Raise 400 for a path that Kubernetes does not select this kind by."""
    known = _EVERY_KIND | _FIELDS.get(storage, frozenset()) | extra
    for requirement in requirements:
        if requirement.path not in known:
            if storage in _FIELDS or extra:
                raise errors.bad_request(f"field label not supported: {requirement.path}")
            why = 'is not a known field selector: only "metadata.name", "metadata.namespace"'
            raise errors.bad_request(f'"{requirement.path}" {why}')
