"""Pods as their controllers see them: which count, which go first, and what they are made from. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from mizzen.embedded.controllers.objects import (
    annotations_of,
    condition,
    is_deleting,
    is_true,
    moment,
    owner_reference,
    status,
)
from mizzen.kube.api import JSON

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def is_finished(pod: JSON) -> bool:
    return status(pod).get("phase") in ("Succeeded", "Failed")


def is_active(pod: JSON) -> bool:
    """Counts as a replica: neither finished nor on its way out."""
    return not is_finished(pod) and not is_deleting(pod)


def is_ready(pod: JSON) -> bool:
    return is_true(status(pod), "Ready")


def available_in(pod: JSON, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the Pod counts as available: 0 when it does, None when it is not even ready."""
    ready = condition(status(pod), "Ready")
    if ready is None or ready["status"] != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    since = moment(ready["lastTransitionTime"])
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def is_available(pod: JSON, min_ready_seconds: int, now: datetime) -> bool:
    return available_in(pod, min_ready_seconds, now) == 0.0


def restarts(pod: JSON) -> int:
    return max((each.get("restartCount", 0) for each in status(pod).get("containerStatuses") or ()), default=0)


def deletion_rank(pod: JSON) -> tuple[object, ...]:
    """Sorts Pods so that those one misses least come first.

    https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset
    """
    ready = condition(status(pod), "Ready")
    ready_since = ready["lastTransitionTime"] if ready is not None and is_ready(pod) else ""
    return (
        bool((pod.get("spec") or {}).get("nodeName")),
        {"Pending": 0, "Unknown": 1}.get(status(pod).get("phase", "Pending"), 2),
        is_ready(pod),
        _cost(pod),
        _newest_first(ready_since),
        -restarts(pod),
        _newest_first(pod["metadata"].get("creationTimestamp", "")),
        pod["metadata"]["name"],
    )


def _cost(pod: JSON) -> int:
    text = annotations_of(pod).get(DELETION_COST, "0")
    return int(text) if text.lstrip("+-").isdecimal() else 0


def _newest_first(time: str) -> float:
    return -moment(time).timestamp() if time else 0.0


def pod_from(template: JSON, owner: JSON, *, name: str | None = None) -> JSON:
    """A Pod of a workload's template: named `OWNER-xxxxx` by the server, or as told."""
    asked = template.get("metadata") or {}
    metadata = {key: asked[key] for key in ("labels", "annotations", "finalizers") if asked.get(key)}
    named = {"name": name} if name else {"generateName": f"{owner['metadata']['name']}-"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**named, **metadata, "ownerReferences": [owner_reference(owner)]},
        "spec": dict(template.get("spec") or {}),
    }
