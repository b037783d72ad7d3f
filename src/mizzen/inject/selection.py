"""Which Pods are injected: the webhook's selectors, and what the injector decides about a Pod that reached it.

https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/#controlling-the-injection-policy
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from mizzen.api.base import Model
from mizzen.inject.settings import Policy
from mizzen.kube.selectors import select_labels

JSON: TypeAlias = dict[str, Any]

INJECT = "sidecar.istio.io/inject"
STATUS = "sidecar.istio.io/status"
REVISION = "istio.io/rev"
NAMESPACE_INJECTION = "istio-injection"
NEVER_IN = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


class Entry(Model):
    """One webhook of the MutatingWebhookConfiguration: it sees Pods that both selectors select."""

    name: str
    namespaces: JSON
    pods: JSON


class Decision(Model):
    inject: bool
    reason: str
    """For people: "the namespace has istio-injection=enabled"."""


def _expression(key: str, operator: str, *values: str) -> JSON:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def _selector(*expressions: JSON) -> JSON:
    return {"matchExpressions": list(expressions)}


_NOT_REFUSED = _expression(INJECT, "NotIn", "false")
_NO_INJECTION_LABEL = _expression(NAMESPACE_INJECTION, "DoesNotExist")
_NO_REVISION_LABEL = _expression(REVISION, "DoesNotExist")


def entries(revision: str = "default", *, by_default: bool = False) -> tuple[Entry, ...]:
    """The webhooks of an injector. Only the default revision answers to `istio-injection` and bare Pod labels."""
    this_revision = _expression(REVISION, "In", revision)
    unlabelled = _selector(_NO_INJECTION_LABEL, _NO_REVISION_LABEL)
    of_revision = (
        Entry(
            name="rev.namespace.sidecar-injector.istio.io",
            namespaces=_selector(this_revision, _NO_INJECTION_LABEL),
            pods=_selector(_NOT_REFUSED),
        ),
        Entry(
            name="rev.object.sidecar-injector.istio.io",
            namespaces=unlabelled,
            pods=_selector(_NOT_REFUSED, this_revision),
        ),
    )
    of_default = (
        Entry(
            name="namespace.sidecar-injector.istio.io",
            namespaces=_selector(_expression(NAMESPACE_INJECTION, "In", "enabled")),
            pods=_selector(_NOT_REFUSED),
        ),
        Entry(
            name="object.sidecar-injector.istio.io",
            namespaces=unlabelled,
            pods=_selector(_expression(INJECT, "In", "true"), _NO_REVISION_LABEL),
        ),
    )
    auto = Entry(
        name="auto.sidecar-injector.istio.io",
        namespaces=_selector(
            _NO_INJECTION_LABEL,
            _NO_REVISION_LABEL,
            _expression("kubernetes.io/metadata.name", "NotIn", *sorted(NEVER_IN)),
        ),
        pods=_selector(_NOT_REFUSED, _NO_REVISION_LABEL),
    )
    return of_revision + (of_default if revision == "default" else ()) + ((auto,) if by_default else ())


def selected(
    namespace: Mapping[str, str], pod: Mapping[str, str], revision: str = "default", *, by_default: bool = False
) -> Entry | None:
    """The webhook that would see a Pod of these labels in a namespace of these labels."""
    for entry in entries(revision, by_default=by_default):
        if select_labels(entry.namespaces)(namespace) and select_labels(entry.pods)(pod):
            return entry
    return None


def decision(pod: JSON, namespace: str, policy: Policy) -> Decision:
    """What the injector does with a Pod (or Pod template) that reached it; namespace labels were the webhook's part."""
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    if (pod.get("spec") or {}).get("hostNetwork"):
        return Decision(inject=False, reason="the Pod uses the host's network, which must not be captured")
    if namespace in NEVER_IN:
        return Decision(inject=False, reason=f"namespace {namespace} is never injected")
    if policy.policy not in ("enabled", "disabled"):
        return Decision(inject=False, reason=f"the injector's policy is {policy.policy!r}: write enabled or disabled")
    if STATUS in annotations:
        return Decision(inject=False, reason="the Pod has a sidecar already")
    if explicit := _explicit(labels, annotations):
        return explicit
    return _by_selectors(labels, policy) or Decision(
        inject=policy.policy == "enabled", reason=f"the injector's policy is {policy.policy}"
    )


def _explicit(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Decision | None:
    """The label wins over the older annotation; what is neither true nor false says nothing."""
    source = "label" if INJECT in labels else "annotation"
    value = labels[INJECT] if INJECT in labels else annotations.get(INJECT, "")
    if value not in ("true", "false"):
        return None
    return Decision(inject=value == "true", reason=f"the Pod's {source} {INJECT} is {value}")


def _by_selectors(labels: Mapping[str, str], policy: Policy) -> Decision | None:
    for selectors, inject in ((policy.never_inject_selector, False), (policy.always_inject_selector, True)):
        if any(_selects(selector, labels) for selector in selectors):
            name = "alwaysInjectSelector" if inject else "neverInjectSelector"
            return Decision(inject=inject, reason=f"the injector's {name} selects the Pod")
    return None


def _selects(selector: JSON, labels: Mapping[str, str]) -> bool:
    """An empty selector selects nothing here, unlike elsewhere in Kubernetes."""
    empty = not selector.get("matchLabels") and not selector.get("matchExpressions")
    return not empty and select_labels(selector)(labels)
