"""The resource types of what an installation consists of."""

from __future__ import annotations

from dataclasses import fields

from mizzen.kube.api import WELL_KNOWN, Resource

_RBAC = "rbac.authorization.k8s.io"
_KNOWN = (
    *(getattr(WELL_KNOWN, field.name) for field in fields(WELL_KNOWN)),
    Resource(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
    Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Resource(_RBAC, "v1", "roles", "Role"),
    Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
)
_BY_KIND: dict[tuple[str, str], Resource] = {(one.api_version, one.kind): one for one in _KNOWN}


def resource_of(api_version: str, kind: str) -> Resource:
    """Raises KeyError for a kind that no installation contains."""
    return _BY_KIND[api_version, kind]
