"""What a Deployment's status says, from the sets it has. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from mizzen.embedded.controllers.objects import (
    condition,
    moment,
    replicas,
    status,
    timestamp,
    with_condition,
    without_condition,
)
from mizzen.embedded.controllers.rollout import limits
from mizzen.kube.api import JSON

DEFAULT_DEADLINE = 600
NO_DEADLINE = 2**31 - 1


def deployment_status(deployment: JSON, new: JSON | None, olds: Sequence[JSON], now: datetime) -> JSON:
    """The status, complete; equal to the old one when nothing has changed."""
    sets = [*olds, *([new] if new is not None else [])]
    counts = {
        "replicas": _total(sets, "replicas"),
        "updatedReplicas": _total([new] if new is not None else [], "replicas"),
        "readyReplicas": _total(sets, "readyReplicas"),
        "availableReplicas": _total(sets, "availableReplicas"),
    }
    counts["unavailableReplicas"] = max(0, sum(map(replicas, sets)) - counts["availableReplicas"])
    before = status(deployment)
    kept = {key: before[key] for key in ("collisionCount",) if key in before}
    conditions = list(before.get("conditions") or ())
    conditions = _with_available(conditions, deployment, counts, now)
    conditions = _with_progressing(conditions, deployment, new, counts, now)
    conditions = _with_failure(conditions, sets, now)
    generation = {"observedGeneration": deployment["metadata"].get("generation", 0)}
    return {**kept, **generation, **{key: value for key, value in counts.items() if value}, "conditions": conditions}


def _total(sets: Sequence[JSON], what: str) -> int:
    return sum(status(each).get(what, 0) for each in sets)


def _with_available(conditions: list[JSON], deployment: JSON, counts: dict[str, int], now: datetime) -> list[JSON]:
    if counts["availableReplicas"] >= limits(deployment).least_available:
        return _set(
            conditions, "Available", True, "MinimumReplicasAvailable", "Deployment has minimum availability.", now
        )
    message = "Deployment does not have minimum availability."
    return _set(conditions, "Available", False, "MinimumReplicasUnavailable", message, now)


def _with_progressing(
    conditions: list[JSON], deployment: JSON, new: JSON | None, counts: dict[str, int], now: datetime
) -> list[JSON]:
    """Progressing: complete, moving, or stuck for longer than `progressDeadlineSeconds`."""
    if deadline(deployment) is None:
        return without_condition(conditions, "Progressing")
    if deployment["spec"].get("paused"):
        return _set(conditions, "Progressing", None, "DeploymentPaused", "Deployment is paused", now)
    if new is None:
        return conditions
    what = f'ReplicaSet "{new["metadata"]["name"]}"'
    present = condition({"conditions": conditions}, "Progressing")
    if is_complete(deployment, counts):
        message = f"{what} has successfully progressed."
        return _set(conditions, "Progressing", True, "NewReplicaSetAvailable", message, now)
    if present is not None and _is_mere_scaling(present, counts):
        return conditions
    if present is None or _has_progressed(status(deployment), counts) or _is_over(present):
        return _set(conditions, "Progressing", True, "ReplicaSetUpdated", f"{what} is progressing.", now, refresh=True)
    if _seconds_left(deployment, present, now) <= 0:
        message = f"{what} has timed out progressing."
        return _set(conditions, "Progressing", False, "ProgressDeadlineExceeded", message, now)
    return conditions


def _is_mere_scaling(progressing: JSON, counts: dict[str, int]) -> bool:
    """All Pods are of the new template, which was rolled out before: there is no progress to speak of."""
    return bool(progressing["reason"] == "NewReplicaSetAvailable" and counts["replicas"] == counts["updatedReplicas"])


def _is_over(progressing: JSON) -> bool:
    """The condition speaks of an earlier rollout, or of a pause."""
    return progressing["reason"] in ("NewReplicaSetAvailable", "DeploymentPaused")


def is_complete(deployment: JSON, counts: JSON) -> bool:
    wanted = replicas(deployment)
    return all(counts.get(key, 0) == wanted for key in ("updatedReplicas", "replicas", "availableReplicas"))


def _has_progressed(before: JSON, counts: dict[str, int]) -> bool:
    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    old_before = before.get("replicas", 0) - before.get("updatedReplicas", 0)
    return any(counts[key] > before.get(key, 0) for key in grown) or (
        counts["replicas"] - counts["updatedReplicas"] < old_before
    )


def deadline(deployment: JSON) -> int | None:
    """`progressDeadlineSeconds`, None for "never"."""
    seconds = int(deployment["spec"].get("progressDeadlineSeconds", DEFAULT_DEADLINE))
    return None if seconds == NO_DEADLINE else seconds


def check_again_in(deployment: JSON, now: datetime) -> float | None:
    """Seconds until a rollout that does not move must be called stuck; None when none is under way."""
    progressing = condition(status(deployment), "Progressing")
    if progressing is None or progressing["reason"] != "ReplicaSetUpdated":
        return None
    return max(0.0, _seconds_left(deployment, progressing, now)) + 1.0


def _seconds_left(deployment: JSON, progressing: JSON, now: datetime) -> float:
    allowed = timedelta(seconds=deadline(deployment) or NO_DEADLINE)
    return (moment(progressing["lastUpdateTime"]) + allowed - now).total_seconds()


def _with_failure(conditions: list[JSON], sets: Sequence[JSON], now: datetime) -> list[JSON]:
    failures = [found for each in sets if (found := condition(status(each), "ReplicaFailure"))]
    if not failures:
        return without_condition(conditions, "ReplicaFailure")
    first = failures[0]
    return _set(conditions, "ReplicaFailure", True, first["reason"], first["message"], now)


def _set(
    conditions: list[JSON],
    type: str,
    value: bool | None,
    reason: str,
    message: str,
    now: datetime,
    *,
    refresh: bool = False,
) -> list[JSON]:
    """`lastUpdateTime` moves when the condition says something else, or with `refresh`."""
    old = condition({"conditions": conditions}, type)
    said = {"type": type, "status": "Unknown" if value is None else str(value), "reason": reason, "message": message}
    unchanged = old is not None and said.items() <= old.items()
    updated = old["lastUpdateTime"] if old is not None and unchanged and not refresh else timestamp(now)
    return with_condition(conditions, {**said, "lastUpdateTime": updated}, timestamp(now))
