"""The webhook configurations: who asks istiod about new Pods and about the mesh's own kinds."""

from __future__ import annotations

from typing import Any, TypeAlias

from mizzen.inject.selection import REVISION, entries

JSON: TypeAlias = dict[str, Any]

INJECTOR = "istio-sidecar-injector"
GROUPS = ["security.istio.io", "networking.istio.io", "telemetry.istio.io", "extensions.istio.io"]


def validator_name(namespace: str) -> str:
    return f"istio-validator-{namespace}"


def _client_config(namespace: str, path: str) -> JSON:
    """Without a caBundle: istiod puts in its own, and keeps it there."""
    return {"service": {"name": "istiod", "namespace": namespace, "path": path, "port": 443}}


def mutating_webhook(namespace: str, *, by_default: bool) -> JSON:
    webhooks = [
        {
            "name": entry.name,
            "clientConfig": _client_config(namespace, "/inject"),
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": entry.namespaces,
            "objectSelector": entry.pods,
        }
        for entry in entries(by_default=by_default)
    ]
    metadata = {"name": INJECTOR, "labels": {"app": "sidecar-injector"}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": webhooks,
    }


def validating_webhook(namespace: str) -> JSON:
    """Fails open until istiod serves: then it turns `failurePolicy` to Fail itself."""
    rule = {"operations": ["CREATE", "UPDATE"], "apiGroups": GROUPS, "apiVersions": ["*"], "resources": ["*"]}
    any_revision = {"key": REVISION, "operator": "In", "values": ["default"]}
    no_revision = {"key": REVISION, "operator": "DoesNotExist"}
    webhooks = [
        {
            "name": name,
            "clientConfig": _client_config(namespace, "/validate"),
            "rules": [rule],
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "objectSelector": {"matchExpressions": [selected]},
        }
        for name, selected in (("rev.validation.istio.io", any_revision), ("validation.istio.io", no_revision))
    ]
    metadata = {"name": validator_name(namespace), "labels": {"app": "istiod", "istio": "istiod"}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": webhooks,
    }
