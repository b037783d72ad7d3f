"""A Pod's status as the API shows it: a pure function of its spec, the facts and the status before.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#PodStatus
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from mizzen.embedded.node.facts import (
    ContainerFacts,
    Ended,
    Kind,
    PodFacts,
    Running,
    State,
    Waiting,
    app_containers,
    ephemeral_containers,
    facts_of,
    init_containers,
    is_deleted,
    is_sidecar,
)
from mizzen.embedded.node.lifecycle import will_restart
from mizzen.kube.api import JSON

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(pod: JSON, facts: PodFacts, host_ips: Sequence[str], now: float) -> JSON:
    """The status to write; equal to what is there when nothing has changed."""
    facts = replace(facts, containers={name: _told(known) for name, known in facts.containers.items()})
    phase = pod_phase(pod, facts)
    status: JSON = {
        "phase": phase,
        "conditions": _conditions(pod, facts, phase, now),
        "hostIP": host_ips[0],
        "hostIPs": [{"ip": address} for address in host_ips],
        "containerStatuses": [_container_status(pod, each, "app", facts, now) for each in app_containers(pod)],
        "startTime": timestamp(facts.started_at),
    }
    if init_containers(pod):
        status["initContainerStatuses"] = [
            _container_status(pod, each, "sidecar" if is_sidecar(each) else "init", facts, now)
            for each in init_containers(pod)
        ]
    if added := ephemeral_containers(pod):
        status["ephemeralContainerStatuses"] = [_container_status(pod, each, "ephemeral", facts, now) for each in added]
    addresses = [{"ip": address} for address in facts.addresses] or (pod.get("status") or {}).get("podIPs")
    if addresses:
        status |= {"podIP": addresses[0]["ip"], "podIPs": addresses}
    if facts.failure:
        status |= {"reason": facts.failure.reason, "message": facts.failure.message}
    return status


def _told(container: ContainerFacts) -> ContainerFacts:
    """It runs once its postStart hook is done, says https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/"""
    if isinstance(container.state, Running) and not container.post_started:
        return replace(container, state=Waiting())
    return container


def pod_phase(pod: JSON, facts: PodFacts) -> str:
    """Pending, Running, Succeeded or Failed, by the rules of a kubelet."""
    if facts.failure:
        return "Failed"
    states = [facts_of(facts, each["name"]) for each in app_containers(pod)]
    policy = pod["spec"].get("restartPolicy") or "Always"
    if not facts.initialized and not _begun(states):
        return "Failed" if _init_failed(pod, facts, policy) else "Pending"
    if any(isinstance(each.state, Waiting) and each.last is None for each in states):
        return "Pending"
    phase = _phase_of_started(states, policy)
    sidecars = [facts_of(facts, each["name"]).state for each in init_containers(pod) if is_sidecar(each)]
    # A Pod is over when its sidecars are, too: a Job must not count it before.
    return "Running" if any(isinstance(each, Running) for each in sidecars) else phase


def _begun(containers: Sequence[ContainerFacts]) -> bool:
    return any(not isinstance(each.state, Waiting) or each.last for each in containers)


def _init_failed(pod: JSON, facts: PodFacts, policy: str) -> bool:
    ends = [facts_of(facts, each["name"]).state for each in init_containers(pod) if not is_sidecar(each)]
    return policy == "Never" and any(isinstance(end, Ended) and end.exit_code != 0 for end in ends)


def _phase_of_started(containers: Sequence[ContainerFacts], policy: str) -> str:
    if policy == "Always" or any(isinstance(each.state, Running) for each in containers):
        return "Running"
    codes = [each.state.exit_code for each in containers if isinstance(each.state, Ended)]
    if len(codes) < len(containers):
        return "Running"
    if not any(codes):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def is_ready(container: ContainerFacts) -> bool:
    return isinstance(container.state, Running) and container.started and container.ready


def _conditions(pod: JSON, facts: PodFacts, phase: str, now: float) -> list[JSON]:
    before = {each["type"]: each for each in (pod.get("status") or {}).get("conditions") or ()}
    ready, why = _containers_ready(pod, facts, phase)
    gates = [each["conditionType"] for each in pod["spec"].get("readinessGates") or ()]
    open_gates = [gate for gate in gates if before.get(gate, {}).get("status") != "True"]
    wanted = [
        _condition("PodReadyToStartContainers", bool(facts.address)),
        _initialized(pod, facts, phase),
        _condition("Ready", ready and not open_gates, *(why or _gates(open_gates))),
        _condition("ContainersReady", ready, *why),
        _condition("PodScheduled", True),
    ]
    foreign = [each for name, each in before.items() if name not in OWN_CONDITIONS]
    return [_dated(each, before.get(each["type"]), now) for each in wanted] + foreign


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> JSON:
    told = {"reason": reason, "message": message}
    return {"type": kind, "status": str(holds), **{key: value for key, value in told.items() if value and not holds}}


def _dated(condition: JSON, before: JSON | None, now: float) -> JSON:
    """`lastTransitionTime` is when `status` last changed, not when it was last written."""
    same = before is not None and before.get("status") == condition["status"] and before.get("lastTransitionTime")
    return {**condition, "lastProbeTime": None, "lastTransitionTime": same or timestamp(now)}


def _containers_ready(pod: JSON, facts: PodFacts, phase: str) -> tuple[bool, tuple[str, ...]]:
    if phase in ("Succeeded", "Failed"):
        return False, ("PodCompleted" if phase == "Succeeded" else "PodFailed",)
    counted = [*(each for each in init_containers(pod) if is_sidecar(each)), *app_containers(pod)]
    unready = [each["name"] for each in counted if not is_ready(facts_of(facts, each["name"]))]
    if unready:
        return False, ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    return True, ()


def _gates(closed: Sequence[str]) -> tuple[str, ...]:
    if not closed:
        return ()
    return "ReadinessGatesNotReady", f"the status of pod readiness gate {closed[0]!r} is not True"


def _initialized(pod: JSON, facts: PodFacts, phase: str) -> JSON:
    if facts.initialized or phase == "Succeeded":
        return _condition("Initialized", True)
    waiting = [each["name"] for each in init_containers(pod) if not _initialized_by(each, facts)]
    message = f"containers with incomplete status: [{' '.join(waiting)}]"
    return _condition("Initialized", not waiting, "ContainersNotInitialized", message)


def _initialized_by(container: JSON, facts: PodFacts) -> bool:
    known = facts_of(facts, container["name"])
    if is_sidecar(container):
        return known.started
    return isinstance(known.state, Ended) and known.state.exit_code == 0


def _container_status(pod: JSON, container: JSON, kind: Kind, facts: PodFacts, now: float) -> JSON:
    known = facts_of(facts, container["name"])
    restarting = isinstance(known.state, Ended) and _waits_for_restart(pod, container["name"], known, facts, now)
    last = known.state if restarting else known.last
    done = kind == "init" and isinstance(known.state, Ended) and known.state.exit_code == 0
    turn = "PodInitializing" if init_containers(pod) else "ContainerCreating"
    return {
        "name": container["name"],
        "state": _crash_loop(container, known) if restarting else _state(known.state, turn),
        "lastState": _state(last) if isinstance(last, Ended) else {},
        "ready": done if kind == "init" else kind != "ephemeral" and is_ready(known),
        "started": isinstance(known.state, Running) and known.started,
        "restartCount": known.restarts,
        "image": known.image or container.get("image", ""),
        "imageID": f"mizzen://{container.get('image', '')}",
        **_container_id(known),
    }


def _waits_for_restart(pod: JSON, name: str, known: ContainerFacts, facts: PodFacts, now: float) -> bool:
    assert isinstance(known.state, Ended)
    over = is_deleted(pod) or facts.failure is not None or not facts.address
    return not over and known.not_before > now and will_restart(pod, name, known.state)


def _crash_loop(container: JSON, known: ContainerFacts) -> JSON:
    assert isinstance(known.state, Ended)
    wait = known.not_before - known.state.finished_at
    message = f"back-off {wait:.0f}s restarting failed container={container['name']}"
    return {"waiting": {"reason": "CrashLoopBackOff", "message": message}}


def _state(state: State, turn: str = "") -> JSON:
    """`turn`: what a container waits for that merely is not due yet."""
    match state:
        case Waiting():
            told = {"reason": state.reason or turn, "message": state.message}
            return {"waiting": {key: value for key, value in told.items() if value}}
        case Running():
            return {"running": {"startedAt": timestamp(state.started_at)}}
    ended: JSON = {
        "exitCode": state.exit_code,
        "reason": state.reason or ("Completed" if state.exit_code == 0 else "Error"),
        "startedAt": timestamp(state.started_at),
        "finishedAt": timestamp(state.finished_at),
        "containerID": f"mizzen://{state.id}",
    }
    if state.signal:
        ended["signal"] = state.signal
    return {"terminated": ended | ({"message": state.message} if state.message else {})}


def _container_id(known: ContainerFacts) -> JSON:
    for state in (known.state, known.last):
        if isinstance(state, Running | Ended):
            return {"containerID": f"mizzen://{state.id}"}
    return {}
