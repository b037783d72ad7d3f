"""`kube-inject`: the Pod templates of workloads in YAML documents."""

from __future__ import annotations

from typing import Any, TypeAlias

from mizzen.inject.pod import inject
from mizzen.inject.settings import Settings
from mizzen.inject.workload import Workload

JSON: TypeAlias = dict[str, Any]

_TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "DeploymentConfig": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
WORKLOAD_KINDS = frozenset(_TEMPLATES)


def inject_document(document: JSON, settings: Settings, namespace: str = "default") -> JSON:
    """The document with a sidecar in its Pod template, or as it was; a `List` is injected item by item.

    Namespace labels do not matter here: the user asked. Raises InvalidAnnotation.
    """
    kind = document.get("kind", "")
    if kind == "List":
        items = [inject_document(item, settings, namespace) for item in document.get("items") or ()]
        return {**document, "items": items}
    if kind not in _TEMPLATES:
        return document
    metadata = document.get("metadata") or {}
    where = metadata.get("namespace") or namespace
    workload = Workload(name=metadata.get("name", ""), kind=kind, api_version=document.get("apiVersion", ""))
    return _replaced(document, _TEMPLATES[kind], lambda pod: inject(pod, where, settings, workload) or pod)


def _replaced(document: JSON, path: tuple[str, ...], change: Any) -> JSON:
    if not path:
        return {**document, **change(document)}
    inner = document.get(path[0])
    if not isinstance(inner, dict):
        return document
    return {**document, path[0]: _replaced(inner, path[1:], change)}
