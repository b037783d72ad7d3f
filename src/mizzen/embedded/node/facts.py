"""What the node knows about one Pod at one moment: `lifecycle` decides from it, `status` tells it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mizzen.kube.api import JSON

Kind: TypeAlias = Literal["init", "sidecar", "app", "ephemeral"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not started yet, or not to be started now. `reason` and `message` are what `kubectl get pods` shows; without them
    it simply is not its turn yet."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    id: str
    started_at: float
    """Seconds since the epoch, as everywhere here."""


@dataclass(frozen=True, slots=True)
class Ended:
    id: str
    exit_code: int
    started_at: float
    finished_at: float
    signal: int = 0
    reason: str = ""
    message: str = ""


State: TypeAlias = Waiting | Running | Ended


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One container: `state` now, `last` the end before it. `busy` while an action on it is under way."""

    state: State = Waiting()
    last: Ended | None = None
    restarts: int = 0
    not_before: float = 0.0
    """When it may be started (again)."""
    post_started: bool = False
    """Its postStart hook, if any, is done. Until then it is told as waiting, and no other container is started."""
    started: bool = False
    """postStart is done and the startup probe, if any, has succeeded."""
    ready: bool = False
    """What the readiness probe says; True without one."""
    busy: bool = False
    image: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the node gave the whole Pod up."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PodFacts:
    """`addresses` is empty without a sandbox. `busy` while the sandbox is made or removed."""

    containers: Mapping[str, ContainerFacts] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    """One of each IP family."""
    started_at: float = 0.0
    initialized: bool = False
    """Every init container has done its work in this sandbox."""
    busy: bool = False
    not_before: float = 0.0
    problem: Failure | None = None
    """Why there is no sandbox yet."""
    failure: Failure | None = None

    @property
    def address(self) -> str:
        return self.addresses[0] if self.addresses else ""


def init_containers(pod: JSON) -> list[JSON]:
    return pod["spec"].get("initContainers") or []


def app_containers(pod: JSON) -> list[JSON]:
    return pod["spec"].get("containers") or []


def ephemeral_containers(pod: JSON) -> list[JSON]:
    """Those that `kubectl debug` adds to a Pod that runs: https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/"""
    return pod["spec"].get("ephemeralContainers") or []


def is_sidecar(container: JSON) -> bool:
    """Only init containers have a restart policy: https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/"""
    return container.get("restartPolicy") == "Always"


def kinds(pod: JSON) -> dict[str, Kind]:
    """Every container's name and kind, in the order of their start."""
    found: dict[str, Kind] = {each["name"]: "sidecar" if is_sidecar(each) else "init" for each in init_containers(pod)}
    found.update((each["name"], "app") for each in app_containers(pod))
    found.update((each["name"], "ephemeral") for each in ephemeral_containers(pod))
    return found


def container_named(pod: JSON, name: str) -> JSON | None:
    every = (*init_containers(pod), *app_containers(pod), *ephemeral_containers(pod))
    return next((each for each in every if each["name"] == name), None)


def facts_of(pod: PodFacts, name: str) -> ContainerFacts:
    return pod.containers.get(name, ContainerFacts())


def is_deleted(pod: JSON) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))
