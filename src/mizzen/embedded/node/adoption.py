"""What the node knows about a Pod it has not met in its own life: from the status it wrote, and from init. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from mizzen.embedded.box.messages import Exit, Sandbox
from mizzen.embedded.box.messages import Running as RunningProcess
from mizzen.embedded.node.facts import ContainerFacts, Ended, Failure, PodFacts, Running, State, Waiting, kinds
from mizzen.embedded.node.lifecycle import back_off
from mizzen.kube.api import JSON

ID_PREFIX = "mizzen://"
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
_NOT_YET = ("", "PodInitializing", "ContainerCreating")
"""Reasons of containers that nothing but their turn held up."""


def known_facts(pod: JSON, sandbox: Sandbox | None, processes: Sequence[RunningProcess], now: float) -> PodFacts:
    """The facts to go on with. Without a sandbox everything that ran is over."""
    status = pod.get("status") or {}
    statuses = {each["name"]: each for part in _STATUSES for each in status.get(part) or ()}
    alive = {str(each.meta.get("container")): each for each in processes if not each.meta.get("exec_of")}
    containers = {name: _container(statuses.get(name) or {}, alive.get(name), now) for name in kinds(pod)}
    started = status.get("startTime")
    gave_up = status.get("phase") == "Failed" and status.get("reason")
    return PodFacts(
        failure=Failure(status["reason"], status.get("message") or "") if gave_up else None,
        containers=containers,
        addresses=sandbox.addresses if sandbox else (),
        started_at=_seconds(started) if started else now,
        initialized=sandbox is not None and _condition(status, "Initialized"),
    )


def _condition(status: JSON, kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in status.get("conditions") or ())


def _container(status: JSON, process: RunningProcess | None, now: float) -> ContainerFacts:
    state, last = _state(status.get("state") or {}), _state(status.get("lastState") or {})
    if isinstance(state, Waiting) and state.reason == "CrashLoopBackOff":
        state, last = last, Waiting()  # what is shown as waiting for its restart has ended before
    facts = ContainerFacts(
        state=state,
        last=last if isinstance(last, Ended) else None,
        restarts=status.get("restartCount") or 0,
        image=status.get("image") or "",
    )
    if process:
        return _backed_off(_of_process(facts, status, process))
    if isinstance(facts.state, Running):
        id = str(status.get("containerID", "")).removeprefix(ID_PREFIX)
        facts = replace(facts, state=Ended(id, 255, facts.state.started_at, now, reason="Unknown"))
    return _backed_off(facts)


def _backed_off(facts: ContainerFacts) -> ContainerFacts:
    """A container that had ended waits as long as it would have."""
    if not isinstance(facts.state, Ended):
        return facts
    return replace(facts, not_before=facts.state.finished_at + back_off(facts.restarts))


def _of_process(facts: ContainerFacts, status: JSON, process: RunningProcess) -> ContainerFacts:
    """What init says is newer than what was written; readiness goes on as it was, if it was this very run's."""
    same_run = status.get("containerID") == ID_PREFIX + process.id
    previous = facts.last if same_run else (facts.state if isinstance(facts.state, Ended) else facts.last)
    return replace(
        facts,
        state=_process_state(process),
        last=previous,
        restarts=int(process.meta.get("restarts", facts.restarts)),
        post_started=same_run and isinstance(facts.state, Running),
        started=same_run and bool(status.get("started")),
        ready=same_run and bool(status.get("ready")),
    )


def _process_state(process: RunningProcess) -> State:
    if not process.exit:
        return Running(process.id, process.started_at)
    return ended(process, process.exit)


def ended(process: RunningProcess, exit: Exit, message: str = "") -> Ended:
    """The end of a run as init tells it."""
    return Ended(
        id=process.id,
        exit_code=exit.code,
        started_at=process.started_at,
        finished_at=exit.at,
        signal=exit.signal,
        reason="OOMKilled" if exit.oom else "Completed" if exit.code == 0 else "Error",
        message=message,
    )


def _state(state: JSON) -> State:
    if running := state.get("running"):
        return Running("", _seconds(running["startedAt"]))
    if terminated := state.get("terminated"):
        return _ended(terminated)
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason") or ""
    return Waiting("" if reason in _NOT_YET else reason, waiting.get("message") or "")


def _ended(ended: Mapping[str, object]) -> Ended:
    return Ended(
        id=str(ended.get("containerID", "")).removeprefix(ID_PREFIX),
        exit_code=int(str(ended["exitCode"])),
        started_at=_seconds(str(ended.get("startedAt") or "1970-01-01T00:00:00Z")),
        finished_at=_seconds(str(ended.get("finishedAt") or "1970-01-01T00:00:00Z")),
        signal=int(str(ended.get("signal") or 0)),
        reason=str(ended.get("reason") or ""),
        message=str(ended.get("message") or ""),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
