"""What controllers ask of the objects they look after: owners, conditions, ages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mizzen.kube.api import JSON


def timestamp(moment: datetime) -> str:
    """RFC 3339 in whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def labels_of(obj: JSON) -> Mapping[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: JSON) -> Mapping[str, str]:
    return obj["metadata"].get("annotations") or {}


def status(obj: JSON) -> JSON:
    return obj.get("status") or {}


def is_deleting(obj: JSON) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_of(obj: JSON) -> JSON | None:
    """The owner reference of the one controller that looks after this object."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: JSON = reference
            return found
    return None


def owner_reference(owner: JSON) -> JSON:
    """A reference that makes `owner` the controller, and keeps it until this object is gone."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(obj_status: JSON, type: str) -> JSON | None:
    return next((each for each in obj_status.get("conditions") or () if each["type"] == type), None)


def is_true(obj_status: JSON, type: str) -> bool:
    found = condition(obj_status, type)
    return found is not None and found["status"] == "True"


def with_condition(conditions: Iterable[JSON], new: JSON, now: str) -> list[JSON]:
    """The conditions with `new` in place of its namesake; the transition time changes only when the status does."""
    kept = list(conditions)
    position = next((index for index, each in enumerate(kept) if each["type"] == new["type"]), len(kept))
    old = kept[position] if position < len(kept) else None
    unchanged = old is not None and old["status"] == new["status"]
    since = old["lastTransitionTime"] if old is not None and unchanged else now
    kept[position : position + 1] = [{**new, "lastTransitionTime": since}]
    return kept


def without_condition(conditions: Iterable[JSON], type: str) -> list[JSON]:
    return [each for each in conditions if each["type"] != type]


def percentage_of(value: Any, total: int, *, round_up: bool) -> int:
    """An IntOrString such as 2 or "25%"."""
    if isinstance(value, int):
        return value
    share = int(str(value).removesuffix("%")) * total
    return -(-share // 100) if round_up else share // 100


def replicas(obj: JSON) -> int:
    """The number of replicas a workload's spec asks for; 1 when it does not say."""
    asked = (obj.get("spec") or {}).get("replicas")
    return 1 if asked is None else int(asked)
