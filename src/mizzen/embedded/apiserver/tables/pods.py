"""The columns of Pods, whose STATUS is a story of its own.

After `printPod` in https://github.com/kubernetes/kubernetes/blob/release-1.32/pkg/printers/internalversion/printers.go
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mizzen.embedded.apiserver.tables.cells import NAME, NONE, Column, age, at, parse_time, text
from mizzen.kube.api import JSON


@dataclass(slots=True)
class _Summary:
    """What the statuses of a Pod's containers come to."""

    reason: str
    ready: int = 0
    total: int = 0
    restarts: int = 0
    restarted_at: datetime | None = None

    def count_restarts(self, status: JSON) -> None:
        self.restarts += int(status.get("restartCount") or 0)
        finished = parse_time(at(status, "lastState.terminated.finishedAt"))
        if finished and (self.restarted_at is None or finished > self.restarted_at):
            self.restarted_at = finished


def summary(pod: JSON) -> _Summary:
    """READY, STATUS and RESTARTS."""
    spec, status = pod["spec"], pod.get("status") or {}
    found = _Summary(status.get("reason") or status.get("phase") or "Unknown")
    found.total = len(spec["containers"]) + len(_sidecars(spec))
    if any(each["type"] == "PodScheduled" and each.get("reason") == "SchedulingGated" for each in _conditions(status)):
        found.reason = "SchedulingGated"
    if not _initializing(pod, found):
        _running(pod, found)
    _deleting(pod, found)
    return found


def _conditions(status: JSON) -> list[JSON]:
    return status.get("conditions") or []


def _sidecars(spec: JSON) -> set[str]:
    """Native sidecars: init containers that always restart."""
    return {each["name"] for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"}


def _initializing(pod: JSON, found: _Summary) -> bool:
    """Count the init containers; True while one of them is what the Pod waits for."""
    spec, status = pod["spec"], pod.get("status") or {}
    sidecars = _sidecars(spec)
    statuses = status.get("initContainerStatuses") or []
    waits = False
    initial_restarts = _Summary(found.reason)
    for index, each in enumerate(statuses):
        initial_restarts.count_restarts(each)
        if each["name"] in sidecars:
            found.count_restarts(each)
            found.ready += bool(each.get("ready") and at(each, "state.running") is not None)
        if waits or _init_done(each, sidecars):
            continue
        waits = True
        found.reason = _init_reason(each, index, len(spec.get("initContainers") or ()))
    if waits and any(each["type"] == "Initialized" and each["status"] == "True" for each in _conditions(status)):
        waits = False
        found.reason = status.get("reason") or status.get("phase") or "Unknown"
    if waits:
        found.restarts, found.restarted_at = initial_restarts.restarts, initial_restarts.restarted_at
    return waits


def _init_done(status: JSON, sidecars: set[str]) -> bool:
    if status["name"] in sidecars and status.get("started"):
        return True
    terminated = at(status, "state.terminated")
    return terminated is not None and terminated.get("exitCode") == 0


def _init_reason(status: JSON, index: int, total: int) -> str:
    terminated, waiting = at(status, "state.terminated"), at(status, "state.waiting")
    if terminated is not None:
        return f"Init:{_terminated_reason(terminated)}"
    if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
        return f"Init:{waiting['reason']}"
    return f"Init:{index}/{total}"


def _terminated_reason(terminated: JSON) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _running(pod: JSON, found: _Summary) -> None:
    status = pod.get("status") or {}
    has_running = False
    for each in reversed(status.get("containerStatuses") or []):
        found.count_restarts(each)
        waiting, terminated = at(each, "state.waiting"), at(each, "state.terminated")
        if waiting and waiting.get("reason"):
            found.reason = waiting["reason"]
        elif terminated is not None:
            found.reason = _terminated_reason(terminated)
        elif each.get("ready") and at(each, "state.running") is not None:
            has_running = True
            found.ready += 1
    if found.reason == "Completed" and has_running:
        is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in _conditions(status))
        found.reason = "Running" if is_ready else "NotReady"


def _deleting(pod: JSON, found: _Summary) -> None:
    if not pod["metadata"].get("deletionTimestamp"):
        return
    if at(pod, "status.reason") == "NodeLost":
        found.reason = "Unknown"
    elif at(pod, "status.phase") not in ("Succeeded", "Failed"):
        found.reason = "Terminating"


def _ready(pod: JSON) -> str:
    found = summary(pod)
    return f"{found.ready}/{found.total}"


def _restarts(pod: JSON, now: datetime) -> str:
    found = summary(pod)
    if not found.restarts or found.restarted_at is None:
        return str(found.restarts)
    return f"{found.restarts} ({age(found.restarted_at.isoformat(), now)} ago)"


def _gates(pod: JSON) -> str:
    gates: list[JSON] = pod["spec"].get("readinessGates") or []
    if not gates:
        return NONE
    true = {each["type"] for each in _conditions(pod.get("status") or {}) if each["status"] == "True"}
    return f"{sum(1 for gate in gates if gate['conditionType'] in true)}/{len(gates)}"


def _columns() -> Iterator[Column]:
    yield NAME
    yield text("Ready", _ready)
    yield text("Status", lambda pod: summary(pod).reason)
    yield Column("Restarts", _restarts)
    yield Column("Age", lambda pod, now: age(pod["metadata"].get("creationTimestamp"), now))
    yield text("IP", lambda pod: at(pod, "status.podIP") or NONE, priority=1)
    yield text("Node", lambda pod: pod["spec"].get("nodeName") or NONE, priority=1)
    yield text("Nominated Node", lambda pod: at(pod, "status.nominatedNodeName") or NONE, priority=1)
    yield text("Readiness Gates", _gates, priority=1)


POD_COLUMNS = tuple(_columns())
