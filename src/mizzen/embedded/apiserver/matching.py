"""Whom a webhook or a policy concerns: rules, namespace and object selectors.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#matching-requests-rules
"""

from __future__ import annotations

from mizzen.embedded.apiserver import selectors
from mizzen.embedded.apiserver.operation import Operation
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.kube.api import JSON

_EXEMPT_GROUP = "admissionregistration.k8s.io"


def exempt(operation: Operation) -> bool:
    """Webhooks and policies cannot stand in the way of mending webhooks and policies."""
    return operation.kind.resource.group == _EXEMPT_GROUP


def constraints_match(store: Store, constraints: JSON, operation: Operation) -> bool:
    """Whether a policy's `matchConstraints`, or a binding's `matchResources`, name this operation."""
    rules, excluded = constraints.get("resourceRules"), constraints.get("excludeResourceRules") or ()
    return (
        (rules is None or any(_named_rule_matches(rule, operation) for rule in rules))
        and not any(_named_rule_matches(rule, operation) for rule in excluded)
        and selected(store, constraints, operation)
    )


def _named_rule_matches(rule: JSON, operation: Operation) -> bool:
    names = rule.get("resourceNames")
    return (not names or operation.name in names) and rule_matches(rule, operation)


def selected(store: Store, constraints: JSON, operation: Operation) -> bool:
    """Whether `namespaceSelector` and `objectSelector` let the operation in."""
    in_namespace = _namespace_matches(store, constraints.get("namespaceSelector"), operation)
    return in_namespace and _object_matches(constraints.get("objectSelector"), operation)


def _namespace_matches(store: Store, selector: JSON | None, operation: Operation) -> bool:
    requirements = selectors.requirements_of(selector)
    if not requirements:
        return True
    if operation.kind.storage == "namespaces":
        labels = (operation.obj or operation.old or {})["metadata"].get("labels") or {}
        return selectors.matches_labels(requirements, labels)
    if not operation.namespace:
        return True
    entry = store.get(Key("namespaces", "", operation.namespace))
    return selectors.matches_labels(requirements, entry.labels if entry else {})


def _object_matches(selector: JSON | None, operation: Operation) -> bool:
    requirements = selectors.requirements_of(selector)
    if not requirements:
        return True
    states = [each for each in (operation.obj, operation.old) if each is not None]
    return any(selectors.matches_labels(requirements, each["metadata"].get("labels") or {}) for each in states)


def rule_matches(rule: JSON, operation: Operation) -> bool:
    """Whether a rule names this operation on this resource, in this version or (matchPolicy Equivalent) another."""
    resource = operation.kind.resource
    plural = f"{resource.plural}/{operation.subresource}" if operation.subresource else resource.plural
    scope = {"Namespaced": True, "Cluster": False}.get(rule.get("scope") or "*", resource.namespaced)
    return (
        _one_of(rule.get("operations"), operation.verb)
        and _one_of(rule.get("apiGroups"), resource.group)
        and _one_of(rule.get("apiVersions"), resource.version)
        and scope == resource.namespaced
        and any(_resource_matches(wanted, plural) for wanted in rule.get("resources") or ())
    )


def _one_of(wanted: list[str] | None, value: str) -> bool:
    return "*" in (wanted or ()) or value in (wanted or ())


def _resource_matches(wanted: str, plural: str) -> bool:
    if wanted in ("*/*", plural) or (wanted == "*" and "/" not in plural):
        return True
    name, _, sub = wanted.partition("/")
    own, _, own_sub = plural.partition("/")
    return bool(sub) and bool(own_sub) and name in ("*", own) and sub in ("*", own_sub)
