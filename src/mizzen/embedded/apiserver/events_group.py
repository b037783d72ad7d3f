"""Events have two faces: core/v1, in which they are stored, and events.k8s.io/v1.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from mizzen.kube.api import JSON

# events.k8s.io name -> core name
_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK = {core: name for name, core in _RENAMED.items()}


def core_path(path: str) -> str:
    """What a field selector's path is called in the core face."""
    first, dot, rest = path.partition(".")
    return f"{_RENAMED.get(first, first)}{dot}{rest}"


def from_core(event: JSON) -> JSON:
    """An events.k8s.io/v1 Event."""
    return {**{_BACK.get(key, key): value for key, value in event.items()}, "apiVersion": "events.k8s.io/v1"}


def to_core(event: JSON) -> JSON:
    """A v1 Event."""
    return {**{_RENAMED.get(key, key): value for key, value in event.items()}, "apiVersion": "v1"}
