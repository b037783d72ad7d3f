"""Kinds that are served in several versions and stored in one: from one version into the other. Pure.

Custom resources differ in `apiVersion` alone, and Events are `events_group`'s; what is left is the autoscaler of
autoscaling/v1: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v1/
"""

from __future__ import annotations

from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.kube.api import JSON

AUTOSCALING_V1, AUTOSCALING_V2 = "autoscaling/v1", "autoscaling/v2"
_SAME_STATUS = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")


def converts(kind: ResourceType) -> bool:
    """Whether the kind, in this version, has other fields than in the stored one."""
    return (kind.resource.api_version, kind.storage_version) == (AUTOSCALING_V1, AUTOSCALING_V2)


def to_served(kind: ResourceType, document: JSON) -> JSON:
    """A stored document in the version that was asked for; the document may be changed for it."""
    document["apiVersion"] = kind.resource.api_version
    return _older_autoscaler(document) if converts(kind) else document


def to_stored(kind: ResourceType, obj: JSON, before: JSON) -> JSON:
    """A document for the store, which shares its metadata with `obj`. `before`: what is stored, or nothing; what the
    served version has no words for stays as it is there."""
    stored = {**obj, "apiVersion": kind.storage_version}
    return _newer_autoscaler(stored, before) if converts(kind) else stored


def _older_autoscaler(document: JSON) -> JSON:
    spec, status = dict(document.get("spec") or {}), document.get("status") or {}
    metrics = spec.pop("metrics", None) or []
    spec.pop("behavior", None)
    percentages = [share for share in map(_cpu_percentage, metrics) if share is not None]
    if percentages:
        spec["targetCPUUtilizationPercentage"] = percentages[0]
    return {**document, "spec": spec, "status": {key: status[key] for key in _SAME_STATUS if key in status}}


def _newer_autoscaler(obj: JSON, before: JSON) -> JSON:
    spec, known = dict(obj.get("spec") or {}), before.get("spec") or {}
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    target = {"type": "Utilization", "averageUtilization": percentage}
    cpu = [] if percentage is None else [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    others = [each for each in known.get("metrics") or () if _cpu_percentage(each) is None]
    if metrics := [*cpu, *others]:
        spec["metrics"] = metrics
    if known.get("behavior"):
        spec["behavior"] = known["behavior"]
    told = {key: value for key, value in (obj.get("status") or {}).items() if key in _SAME_STATUS}
    unsaid = {key: value for key, value in (before.get("status") or {}).items() if key not in _SAME_STATUS}
    return {**obj, "spec": spec, "status": {**unsaid, **told}}


def _cpu_percentage(metric: JSON) -> int | None:
    resource = metric.get("resource") or {}
    share: int | None = (resource.get("target") or {}).get("averageUtilization")
    return share if metric.get("type") == "Resource" and resource.get("name") == "cpu" else None
