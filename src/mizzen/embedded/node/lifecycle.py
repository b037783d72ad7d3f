"""What to do next for a Pod: a pure function of its spec, the facts and the time.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and …/init-containers/ and …/sidecar-containers/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mizzen.embedded.node.facts import (
    ContainerFacts,
    Ended,
    PodFacts,
    Running,
    Waiting,
    app_containers,
    ephemeral_containers,
    facts_of,
    init_containers,
    is_deleted,
    is_sidecar,
    kinds,
)
from mizzen.kube.api import JSON

FIRST_BACK_OFF = 10.0
LONGEST_BACK_OFF = 300.0
HEALTHY_AFTER = 600.0
"""Seconds a container must have run for its restarts to start counting anew."""


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    pass


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    pass


@dataclass(frozen=True, slots=True)
class Start:
    container: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Orderly: preStop, SIGTERM, grace period, SIGKILL."""

    container: str


@dataclass(frozen=True, slots=True)
class MarkInitialized:
    pass


@dataclass(frozen=True, slots=True)
class Release:
    """The Pod is deleted and nothing of it is left: tell the API server."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing to do before `at`."""

    at: float


Action: TypeAlias = CreateSandbox | RemoveSandbox | Start | Stop | MarkInitialized | Release | Wake


def next_actions(pod: JSON, facts: PodFacts, now: float) -> list[Action]:
    """The actions that are due; those under way (`busy`) are not repeated."""
    if facts.busy:
        return []
    if is_deleted(pod) or facts.failure or is_complete(pod, facts):
        return _ending(pod, facts)
    if not facts.address:
        if any(isinstance(each.state, Running) for each in facts.containers.values()):
            return []  # the sandbox went by itself: first hear how each of its containers ended
        return [CreateSandbox()] if now >= facts.not_before else [Wake(facts.not_before)]
    return _running(pod, facts, now)


def is_complete(pod: JSON, facts: PodFacts) -> bool:
    """Every container that matters has ended, and none will be started again."""
    policy = _policy(pod)
    if any(_failed_for_good(facts_of(facts, each["name"]), policy) for each in _plain_init(pod)):
        return not facts.initialized
    ends = [facts_of(facts, each["name"]).state for each in app_containers(pod)]
    return all(isinstance(end, Ended) and not _comes_again(end, policy) for end in ends)


def back_off(restarts: int) -> float:
    """Seconds before the restart that follows `restarts` earlier ones: at once, then 10, 20, 40 … 300."""
    return min(FIRST_BACK_OFF * 2.0 ** min(restarts - 1, 10), LONGEST_BACK_OFF) if restarts else 0.0


def _policy(pod: JSON) -> str:
    policy: str = pod["spec"].get("restartPolicy") or "Always"
    return policy


def _plain_init(pod: JSON) -> list[JSON]:
    return [each for each in init_containers(pod) if not is_sidecar(each)]


def _failed_for_good(container: ContainerFacts, policy: str) -> bool:
    return isinstance(container.state, Ended) and container.state.exit_code != 0 and policy == "Never"


def _comes_again(end: Ended, policy: str) -> bool:
    return policy == "Always" or (policy == "OnFailure" and end.exit_code != 0)


def will_restart(pod: JSON, name: str, end: Ended) -> bool:
    """Whether the container that ended so will be started again, the Pod itself living on."""
    match kinds(pod)[name]:
        case "sidecar":
            return True
        case "init":
            return end.exit_code != 0 and _policy(pod) != "Never"
        case "ephemeral":
            return False
    return _comes_again(end, _policy(pod))


def in_new_sandbox(pod: JSON, name: str, known: ContainerFacts) -> ContainerFacts:
    """A new sandbox begins everything anew but for app containers that are done: those stay as they ended."""
    ended = known.state if isinstance(known.state, Ended) else None
    if ended and kinds(pod).get(name) in ("app", "ephemeral") and not will_restart(pod, name, ended):
        return known
    return ContainerFacts(last=ended or known.last, restarts=known.restarts, image=known.image)


def _running(pod: JSON, facts: PodFacts, now: float) -> list[Action]:
    """Containers are started one after the other, each once the postStart hook of the one before is done."""
    due = _due(pod, facts, now)
    if any(_starts(facts_of(facts, name)) for name in kinds(pod)):
        return [each for each in due if not isinstance(each, Start)]
    first = next((each for each in due if isinstance(each, Start)), None)
    return [each for each in due if not isinstance(each, Start) or each is first]


def _due(pod: JSON, facts: PodFacts, now: float) -> list[Action]:
    """What is for debugging does not wait for init containers: one of them may be what is looked into."""
    actions: list[Action] = []
    for container in ephemeral_containers(pod):
        actions += _start_if_due(pod, container["name"], facts_of(facts, container["name"]), now)
    for container in init_containers(pod):
        name, known = container["name"], facts_of(facts, container["name"])
        if is_sidecar(container):
            actions += _start_if_due(pod, name, known, now)
            if not known.started and not facts.initialized:
                return actions
        elif not facts.initialized and not _succeeded(known):
            return actions + _start_if_due(pod, name, known, now)
    if not facts.initialized:
        actions.append(MarkInitialized())
    for container in app_containers(pod):
        actions += _start_if_due(pod, container["name"], facts_of(facts, container["name"]), now)
    return actions


def _starts(container: ContainerFacts) -> bool:
    """A start is under way: of the process, or of its postStart hook."""
    return not container.post_started if isinstance(container.state, Running) else container.busy


def _succeeded(container: ContainerFacts) -> bool:
    return isinstance(container.state, Ended) and container.state.exit_code == 0


def _start_if_due(pod: JSON, name: str, container: ContainerFacts, now: float) -> list[Action]:
    if container.busy or isinstance(container.state, Running):
        return []
    if isinstance(container.state, Ended) and not will_restart(pod, name, container.state):
        return []
    return [Start(name)] if now >= container.not_before else [Wake(container.not_before)]


def _ending(pod: JSON, facts: PodFacts) -> list[Action]:
    """Apps and init containers first, all at once; then sidecars, the last one started first; then the sandbox."""
    for stage in _stages(pod):
        alive = [name for name in stage if _lives(facts_of(facts, name))]
        if alive:
            return [Stop(name) for name in alive if not facts_of(facts, name).busy]
    if facts.address:
        return [RemoveSandbox()]
    return [Release()] if is_deleted(pod) else []


def _stages(pod: JSON) -> Iterator[Sequence[str]]:
    yield [each["name"] for each in (*_plain_init(pod), *app_containers(pod), *ephemeral_containers(pod))]
    for container in reversed(init_containers(pod)):
        if is_sidecar(container):
            yield [container["name"]]


def _lives(container: ContainerFacts) -> bool:
    """Running, or about to: a start that is under way has to come to its end first."""
    return isinstance(container.state, Running) or (container.busy and isinstance(container.state, Waiting | Ended))
