"""Conditions, the way in which every Kubernetes object says what holds of it."""

from __future__ import annotations

from mizzen.kube.api import JSON


def condition(obj: JSON, kind: str) -> JSON:
    """The condition `Ready`, `Established` … of an object; {} when it says nothing of that kind."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def holds(obj: JSON, kind: str) -> bool:
    return bool(condition(obj, kind).get("status") == "True")
