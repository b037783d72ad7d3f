"""Kinds that are served in several versions and stored in one: from one version into the other. Pure.

Custom resources differ in `apiVersion` alone, and Events are `events_group`'s; what is left is the autoscaler of
autoscaling/v1: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v1/
"""

from __future__ import annotations

import json

from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.kube.api import JSON

AUTOSCALING_V1 = "autoscaling/v1"
UNSAID = "mizzen.io/autoscaling-v2"
"""The annotation in which an autoscaler of v1 keeps what only v2 has words for."""
_SAME_STATUS = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")


def to_served(kind: ResourceType, document: JSON) -> JSON:
    """A stored document in the version that was asked for; the document may be changed for it."""
    document["apiVersion"] = kind.resource.api_version
    if kind.storage_version == "autoscaling/v2" and kind.resource.api_version == AUTOSCALING_V1:
        return _older_autoscaler(document)
    return document


def to_stored(kind: ResourceType, obj: JSON) -> JSON:
    """A document for the store, which shares its metadata with `obj` as far as they are equal."""
    stored = {**obj, "apiVersion": kind.storage_version}
    if kind.storage_version == "autoscaling/v2" and kind.resource.api_version == AUTOSCALING_V1:
        return _newer_autoscaler(stored)
    return stored


def _older_autoscaler(document: JSON) -> JSON:
    spec, metadata, status = dict(document["spec"]), document["metadata"], document.get("status") or {}
    metrics, behavior = spec.pop("metrics", None) or [], spec.pop("behavior", None)
    percentages = [share for share in map(_cpu_percentage, metrics) if share is not None]
    others = [each for each in metrics if _cpu_percentage(each) is None]
    unsaid = {"metrics": others, "behavior": behavior, "status": _beyond_v1(status)}
    unsaid = {key: value for key, value in unsaid.items() if value}
    if percentages:
        spec["targetCPUUtilizationPercentage"] = percentages[0]
    if unsaid:
        kept = json.dumps(unsaid, separators=(",", ":"), sort_keys=True)
        metadata = {**metadata, "annotations": {**(metadata.get("annotations") or {}), UNSAID: kept}}
    told = {key: status[key] for key in _SAME_STATUS if key in status}
    return {**document, "metadata": metadata, "spec": spec, "status": told}


def _newer_autoscaler(obj: JSON) -> JSON:
    spec, metadata = dict(obj["spec"]), obj["metadata"]
    unsaid = _unsaid(metadata)
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    target = {"type": "Utilization", "averageUtilization": percentage}
    cpu = [] if percentage is None else [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if metrics := [*cpu, *(unsaid.get("metrics") or ())]:
        spec["metrics"] = metrics
    if unsaid.get("behavior"):
        spec["behavior"] = unsaid["behavior"]
    told = {key: value for key, value in (obj.get("status") or {}).items() if key in _SAME_STATUS}
    status = {**(unsaid.get("status") or {}), **told}
    return {**obj, "metadata": _without_unsaid(metadata), "spec": spec, "status": status}


def _cpu_percentage(metric: JSON) -> int | None:
    resource = metric.get("resource") or {}
    share: int | None = (resource.get("target") or {}).get("averageUtilization")
    return share if metric.get("type") == "Resource" and resource.get("name") == "cpu" else None


def _beyond_v1(status: JSON) -> JSON:
    return {key: value for key, value in status.items() if key not in _SAME_STATUS}


def _unsaid(metadata: JSON) -> JSON:
    """What nobody can read back counts as nothing: a client wrote it."""
    try:
        found = json.loads((metadata.get("annotations") or {}).get(UNSAID, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _without_unsaid(metadata: JSON) -> JSON:
    if UNSAID not in (metadata.get("annotations") or {}):
        return metadata
    annotations = {key: value for key, value in metadata["annotations"].items() if key != UNSAID}
    rest = {key: value for key, value in metadata.items() if key != "annotations"}
    return {**rest, "annotations": annotations} if annotations else rest
