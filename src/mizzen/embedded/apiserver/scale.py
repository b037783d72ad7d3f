"""The scale subresource: one face for everything that has replicas. https://kubernetes.io/docs/reference/kubernetes-api/"""

from __future__ import annotations

from typing import Any

from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.kube.api import JSON

_BUILT_IN = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
}


def _paths(kind: ResourceType) -> JSON:
    version = kind.crd_version or {}
    declared: JSON = (version.get("subresources") or {}).get("scale") or _BUILT_IN
    return declared


def _read(obj: JSON, path: str) -> Any:
    value: Any = obj
    for part in path.strip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _selector_text(kind: ResourceType, obj: JSON) -> str:
    if kind.custom:
        return str(_read(obj, _paths(kind).get("labelSelectorPath") or "") or "")
    selector = obj["spec"].get("selector") or {}
    labels = selector if kind.storage == "replicationcontrollers" else selector.get("matchLabels") or {}
    parts = [f"{key}={value}" for key, value in sorted(labels.items())]
    expressions = () if kind.storage == "replicationcontrollers" else selector.get("matchExpressions") or ()
    return ",".join([*parts, *map(_expression, expressions)])


def _expression(each: JSON) -> str:
    values = ",".join(each.get("values") or ())
    words: dict[str, str] = {
        "In": f"{each['key']} in ({values})",
        "NotIn": f"{each['key']} notin ({values})",
        "Exists": each["key"],
        "DoesNotExist": f"!{each['key']}",
    }
    return words[each["operator"]]


def scale_of(kind: ResourceType, obj: JSON) -> JSON:
    """The Scale of an object."""
    paths, metadata = _paths(kind), obj["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    status: JSON = {"replicas": _read(obj, paths["statusReplicasPath"]) or 0}
    if selector := _selector_text(kind, obj):
        status["selector"] = selector
    replicas = _read(obj, paths["specReplicasPath"]) or 0
    spec = {"replicas": replicas} if replicas else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status}


def scaled(kind: ResourceType, obj: JSON, scale: JSON) -> JSON:
    """The object with the replicas of a Scale."""
    *parents, last = _paths(kind)["specReplicasPath"].strip(".").split(".")
    target = obj
    for part in parents:
        target = target.setdefault(part, {})
    target[last] = int((scale.get("spec") or {}).get("replicas") or 0)
    if version := (scale.get("metadata") or {}).get("resourceVersion"):
        obj["metadata"]["resourceVersion"] = version
    return obj
