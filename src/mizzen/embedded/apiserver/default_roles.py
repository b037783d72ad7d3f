"""The roles and bindings that a cluster begins with, as far as somebody here needs them.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.kube.api import JSON

_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_KEEP = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
_GROUP = "rbac.authorization.k8s.io"
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

_READ = ("get", "list", "watch")
_WRITE = ("create", "delete", "deletecollection", "patch", "update")
_ALL = ("*",)
_APPS = ("daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets")
_SHOWN = (
    (("",), ("configmaps", "endpoints", "persistentvolumeclaims", "pods", "replicationcontrollers"), _READ),
    (("",), ("replicationcontrollers/scale", "serviceaccounts", "services"), _READ),
    (("",), ("bindings", "events", "limitranges", "namespaces", "namespaces/status", "pods/log", "pods/status"), _READ),
    (("",), ("persistentvolumeclaims/status", "resourcequotas", "resourcequotas/status", "services/status"), _READ),
    (("discovery.k8s.io",), ("endpointslices",), _READ),
    (("apps",), ("controllerrevisions", *_APPS, "statefulsets/scale"), _READ),
    (("apps",), ("daemonsets/status", "deployments/status", "replicasets/status", "statefulsets/status"), _READ),
    (("autoscaling",), ("horizontalpodautoscalers", "horizontalpodautoscalers/status"), _READ),
    (("batch",), ("cronjobs", "cronjobs/status", "jobs", "jobs/status"), _READ),
    (("policy",), ("poddisruptionbudgets", "poddisruptionbudgets/status"), _READ),
    (("networking.k8s.io",), ("ingresses", "ingresses/status", "networkpolicies"), _READ),
    (("metrics.k8s.io",), ("pods", "nodes"), _READ),
)
_CHANGED = (
    (("",), ("pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"), _READ),
    (("",), ("serviceaccounts",), ("impersonate",)),
    (("",), ("pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"), _WRITE),
    (("",), ("pods/eviction", "serviceaccounts/token"), ("create",)),
    (("",), ("configmaps", "events", "persistentvolumeclaims", "replicationcontrollers", "secrets"), _WRITE),
    (("",), ("replicationcontrollers/scale", "serviceaccounts", "services", "services/proxy"), _WRITE),
    (("apps",), (*_APPS, "deployments/rollback", "statefulsets/scale"), _WRITE),
    (("autoscaling",), ("horizontalpodautoscalers",), _WRITE),
    (("batch",), ("cronjobs", "jobs"), _WRITE),
    (("policy",), ("poddisruptionbudgets",), _WRITE),
    (("networking.k8s.io",), ("ingresses", "networkpolicies"), _WRITE),
    (("coordination.k8s.io",), ("leases",), (*_READ, *_WRITE)),
)
_GOVERNED = (
    (("authorization.k8s.io",), ("localsubjectaccessreviews",), ("create",)),
    ((_GROUP,), ("rolebindings", "roles"), (*_READ, *_WRITE)),
)
_NODE = (
    (("",), ("nodes", "nodes/status", "pods", "pods/status", "services"), (*_READ, *_WRITE)),
    (("",), ("configmaps", "secrets", "serviceaccounts", "persistentvolumes"), _READ),
    (("",), ("persistentvolumeclaims", "persistentvolumeclaims/status"), (*_READ, "patch", "update")),
    (("",), ("endpoints", "namespaces"), _READ),
    (("",), ("events",), ("create", "patch", "update")),
    (("",), ("pods/eviction", "serviceaccounts/token"), ("create",)),
    (("discovery.k8s.io",), ("endpointslices",), _READ),
    (("coordination.k8s.io",), ("leases",), (*_READ, *_WRITE)),
    (("networking.k8s.io",), ("networkpolicies",), _READ),
    (("authentication.k8s.io",), ("tokenreviews",), ("create",)),
    (("authorization.k8s.io",), ("localsubjectaccessreviews", "subjectaccessreviews"), ("create",)),
    (("events.k8s.io",), ("events",), ("create", "patch", "update")),
)
_SELF = (
    (("authorization.k8s.io",), ("selfsubjectaccessreviews", "selfsubjectrulesreviews"), ("create",)),
    (("authentication.k8s.io",), ("selfsubjectreviews",), ("create",)),
)
_PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version", "/version/")
_DISCOVERY_PATHS = ("/api", "/api/*", "/apis", "/apis/*", *_PUBLIC_PATHS, "/openapi", "/openapi/*")
_ISSUER_PATHS = ("/.well-known/openid-configuration", "/openid/v1/jwks")

_Rules = tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...]


def cluster_roles() -> list[JSON]:
    """In an order in which none is aggregated before its parts are there."""
    return [
        _role("cluster-admin", [_rule(_ALL, _ALL, _ALL), _paths(_ALL, _ALL)]),
        _role("system:aggregate-to-view", _rules(_SHOWN), view="true"),
        _role("system:aggregate-to-edit", _rules(_CHANGED), edit="true"),
        _role("system:aggregate-to-admin", _rules(_GOVERNED), admin="true"),
        _aggregate("view", "view", edit="true"),
        _aggregate("edit", "edit", admin="true"),
        _aggregate("admin", "admin"),
        _role("system:node", _rules(_NODE)),
        _role("system:basic-user", _rules(_SELF)),
        _role("system:discovery", [_paths(_DISCOVERY_PATHS, ("get",))]),
        _role("system:public-info-viewer", [_paths(_PUBLIC_PATHS, ("get",))]),
        _role("system:service-account-issuer-discovery", [_paths(_ISSUER_PATHS, ("get",))]),
        _role("system:monitoring", [_paths(("/metrics", "/livez/*", "/readyz/*", "/healthz/*"), ("get",))]),
        _role("system:auth-delegator", _rules(_NODE[-3:-1])),
    ]


def cluster_role_bindings() -> list[JSON]:
    """The node's account has its role by its group: it is the only one, and all Pods are its own."""
    return [
        _binding("cluster-admin", "system:masters"),
        _binding("system:node", "system:nodes"),
        _binding("system:basic-user", "system:authenticated"),
        _binding("system:discovery", "system:authenticated"),
        _binding("system:public-info-viewer", "system:authenticated", "system:unauthenticated"),
        _binding("system:service-account-issuer-discovery", "system:serviceaccounts"),
        _binding("system:monitoring", "system:monitoring"),
    ]


def _rule(groups: tuple[str, ...], resources: tuple[str, ...], verbs: tuple[str, ...]) -> JSON:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}


def _rules(lines: _Rules) -> list[JSON]:
    return [_rule(*line) for line in lines]


def _paths(paths: tuple[str, ...], verbs: tuple[str, ...]) -> JSON:
    return {"nonResourceURLs": list(paths), "verbs": list(verbs)}


def _metadata(name: str, part_of: dict[str, str]) -> JSON:
    labels = {**_LABELS, **{f"{_AGGREGATE}{role}": value for role, value in part_of.items()}}
    return {"name": name, "labels": labels, "annotations": dict(_KEEP)}


def _role(name: str, rules: list[JSON], **part_of: str) -> JSON:
    return {"metadata": _metadata(name, part_of), "rules": rules}


def _aggregate(name: str, label: str, **part_of: str) -> JSON:
    selector = {"matchLabels": {f"{_AGGREGATE}{label}": "true"}}
    rule = {"clusterRoleSelectors": [selector]}
    return {"metadata": _metadata(name, part_of), "aggregationRule": rule, "rules": []}


def _binding(role: str, *groups: str) -> JSON:
    return {
        "metadata": _metadata(role, {}),
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": role},
        "subjects": list(_groups(groups)),
    }


def _groups(names: tuple[str, ...]) -> Iterator[JSON]:
    for name in names:
        yield {"apiGroup": _GROUP, "kind": "Group", "name": name}
