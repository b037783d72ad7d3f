"""One Pod's life: carries out what `lifecycle` decides, and writes what `status` says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from mizzen.embedded.box.messages import Inventory
from mizzen.embedded.node import lifecycle
from mizzen.embedded.node.adoption import known_facts
from mizzen.embedded.node.execution import end_stray
from mizzen.embedded.node.facts import (
    ContainerFacts,
    Ended,
    Failure,
    Running,
    Waiting,
    container_named,
    facts_of,
    is_deleted,
    kinds,
)
from mizzen.embedded.node.live import Live
from mizzen.embedded.node.parts import Parts
from mizzen.embedded.node.sandbox import PodSandbox
from mizzen.embedded.node.starting import NotNow, Starter
from mizzen.embedded.node.status import pod_status
from mizzen.kube.api import JSON, WELL_KNOWN, ApiError, Conflict, NotFound, Preconditions

log = logging.getLogger(__name__)

DEFAULT_GRACE = 30
_SIDECAR_GRACE = 2.0
"""Seconds a sidecar gets at least, however long the containers before it took."""
_RETRY = 1.0


class PodWorker:
    """Runs until the Pod is gone. `changed` gives it the Pod's newest document, `sandbox_gone` init's word."""

    def __init__(self, pod: JSON, parts: Parts, inventory: Inventory) -> None:
        uid = pod["metadata"]["uid"]
        self.pod = pod
        self.parts = parts
        self.uid: str = uid
        self._inventory = inventory
        self._found = next((each for each in inventory.sandboxes if each.id == uid), None)
        self._processes = [each for each in inventory.processes if each.sandbox == uid]
        self.facts = known_facts(pod, self._found, self._processes, time.time())
        self.sandbox = PodSandbox(parts, pod)
        self.live: dict[str, Live] = {}
        self._starter = Starter(self)
        self.log_path = self._starter.log_path
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.told = asyncio.Event()
        """Set once the API has the Pod's status from this life of the node, or the Pod is gone."""
        self._written: JSON = {}
        self._stop_from: float | None = None
        self._crashes = {name: known.restarts for name, known in self.facts.containers.items()}
        self._released = False

    async def run(self) -> None:
        try:
            await self._adopt()
            while not self._released:
                wake_at = self._act()
                await self._write_status()
                self.told.set()
                await self._pause(wake_at)
        finally:
            self.told.set()
            await self._leave()

    def changed(self, pod: JSON) -> None:
        self.pod = pod
        for live in self.live.values():
            live.pod = pod
        self.sandbox.changed(pod)
        self._wake.set()

    def sandbox_gone(self) -> None:
        """Init has reaped the Pod's last process: because we asked, or because someone killed its pid 1."""
        self.sandbox.gone.set()
        self.sandbox.lost()
        if not self.facts.busy:
            self.facts = replace(self.facts, addresses=())
            self.parts.recorder.normal(self.pod, "SandboxChanged", "Pod sandbox changed, it will be re-created.")
            self._wake.set()

    def refresh(self) -> None:
        """A ConfigMap, a Secret or the Pod's own labels changed: bring volumes up to date."""
        if self.facts.address and not is_deleted(self.pod):
            self._spawn(self.sandbox.refresh())

    def set(self, name: str, **values: Any) -> None:
        known = facts_of(self.facts, name)
        self.facts = replace(self.facts, containers={**self.facts.containers, name: replace(known, **values)})
        self._wake.set()

    def known(self, name: str) -> ContainerFacts:
        return facts_of(self.facts, name)

    async def _adopt(self) -> None:
        """Go on with what runs already, without touching it."""
        for process in self._processes:
            if process.exit:
                await self.parts.init.forget(process.id)
            elif process.meta.get("exec_of"):
                self._spawn(end_stray(self.parts, process.id))
            else:
                await self._starter.adopt(process)
        if self._found is not None:
            await self.sandbox.resume(self._found.addresses, self._found.pid)

    def _act(self) -> float | None:
        """Begin what is due; when to look again, if nothing happens before."""
        now = time.time()
        wakes = self._check_deadline(now)
        for action in lifecycle.next_actions(self.pod, self.facts, now):
            match action:
                case lifecycle.Wake():
                    wakes.append(action.at)
                case lifecycle.MarkInitialized():
                    self.facts = replace(self.facts, initialized=True)
                    self._wake.set()
                case lifecycle.Start():
                    self.set(action.container, busy=True)
                    self._spawn(self._start(action.container))
                case lifecycle.Stop():
                    self.set(action.container, busy=True)
                    self._spawn(self._stop(action.container))
                case lifecycle.CreateSandbox():
                    self._pod_action(self._create_sandbox())
                case lifecycle.RemoveSandbox():
                    self._pod_action(self._remove_sandbox())
                case lifecycle.Release():
                    self._pod_action(self._release())
        return min(wakes, default=None)

    def _check_deadline(self, now: float) -> list[float]:
        """Give up a Pod that has lived too long; when to look again."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        if not limit or self.facts.failure:
            return []
        if now < self.facts.started_at + limit:
            return [self.facts.started_at + limit]
        message = "Pod was active on the node longer than the specified deadline"
        self.facts = replace(self.facts, failure=Failure("DeadlineExceeded", message))
        return []

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("Pod %s: %r", self.pod["metadata"]["name"], error, exc_info=error)
        self._wake.set()

    def _pod_action(self, work: Coroutine[Any, Any, None]) -> None:
        self.facts = replace(self.facts, busy=True)
        self._spawn(self._until_done(work))

    async def _until_done(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (NotNow, ApiError, OSError) as error:
            self._later(error)
        finally:
            self.facts = replace(self.facts, busy=False)

    def _later(self, error: Exception) -> None:
        self.facts = replace(self.facts, not_before=time.time() + _RETRY)
        asyncio.get_running_loop().call_later(_RETRY, self._wake.set)
        self.parts.recorder.warning(self.pod, getattr(error, "reason", "") or "FailedCreatePodSandBox", str(error))

    async def _create_sandbox(self) -> None:
        addresses = await self.sandbox.create()
        fresh = {name: lifecycle.in_new_sandbox(self.pod, name, known) for name, known in self.facts.containers.items()}
        self.facts = replace(self.facts, addresses=addresses, initialized=False, containers=fresh)

    async def _remove_sandbox(self) -> None:
        await self.sandbox.remove()
        self.facts = replace(self.facts, addresses=())

    async def _start(self, name: str) -> None:
        try:
            live = await self._starter.start(name)
        except NotNow as error:
            self.set(name, state=Waiting(error.reason, error.message), not_before=time.time() + error.wait, busy=False)
            return
        known = self.known(name)
        restarts = known.restarts + (1 if isinstance(known.state, Ended) or known.last else 0)
        last = known.state if isinstance(known.state, Ended) else known.last
        running, hooked = Running(live.process.id, live.started_at), live.hook("postStart") is not None
        told = {"post_started": not hooked, "started": False, "ready": False}
        self.set(name, state=running, last=last, restarts=restarts, busy=False, **told)
        self.follow(name, live)

    def follow(self, name: str, live: Live) -> None:
        """Look after a running container until it ends."""
        self.live[name] = live
        live.begin(self.known(name))
        self._spawn(self._await_end(name, live))

    def unhealthy(self, name: str) -> Callable[[str], None]:
        def take(why: str) -> None:
            text = f"Container {name} failed {why} probe, will be restarted"
            message = text if why in ("liveness", "startup") else why
            self.parts.recorder.normal(self.pod, "Killing", message, name)
            if not self.known(name).busy:
                probe = (container_named(self.pod, name) or {}).get(f"{why}Probe") or {}
                self.set(name, busy=True)
                self._spawn(self._stop(name, announced=True, grace=probe.get("terminationGracePeriodSeconds")))

        return take

    async def _await_end(self, name: str, live: Live) -> None:
        exit = await asyncio.shield(live.exited)
        await live.end()
        ended = self._starter.ended(live, exit)
        await self.parts.init.forget(live.process.id)
        crashes = 0 if exit.at - live.started_at > lifecycle.HEALTHY_AFTER else self._crashes.get(name, 0)
        self._crashes[name] = crashes + 1
        not_before = exit.at + lifecycle.back_off(crashes)
        if crashes and lifecycle.will_restart(self.pod, name, ended):
            message = f"Back-off restarting failed container {name} in pod {self.pod['metadata']['name']}"
            self.parts.recorder.warning(self.pod, "BackOff", message, name)
        self.live.pop(name, None)
        self.set(name, state=ended, started=False, ready=False, not_before=not_before, busy=False)

    async def _stop(self, name: str, *, announced: bool = False, grace: int | None = None) -> None:
        """`grace`: the failed probe's own, which counts as long as the Pod itself is not ended."""
        live = self.live.get(name)
        if live is None:
            self.set(name, busy=False)
            return
        if not announced:
            self.parts.recorder.normal(self.pod, "Killing", f"Stopping container {name}", name)
            live.stop_probes()
        begun = time.time()
        if self._stop_from is None and not announced:
            self._stop_from = begun
        await live.stop(lambda: self._deadline(name, begun, grace))

    def _deadline(self, name: str, begun: float, probe_grace: int | None) -> float:
        """When SIGKILL is due. `kubectl delete --force` may bring it nearer while we wait."""
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        grace = metadata.get("deletionGracePeriodSeconds")
        if grace is None:
            grace = spec.get("terminationGracePeriodSeconds")
        if grace is None:
            grace = DEFAULT_GRACE
        if not is_deleted(self.pod) and not self.facts.failure:
            return begun + float(grace if probe_grace is None else probe_grace)
        start = self._stop_from if self._stop_from is not None else begun
        least = begun + _SIDECAR_GRACE if grace and lifecycle_kind(self.pod, name) == "sidecar" else 0.0
        return max(start + float(grace), least)

    async def _release(self) -> None:
        """The last words of a deleted Pod."""
        await self._write_status()
        self.sandbox.clean_up()
        metadata = self.pod["metadata"]
        try:
            await self.parts.api.delete(
                WELL_KNOWN.pods,
                metadata["name"],
                metadata["namespace"],
                grace_seconds=0,
                preconditions=Preconditions(uid=self.uid),
            )
        except (NotFound, Conflict):
            log.info("Pod %s/%s was gone already", metadata["namespace"], metadata["name"])
        self._released = True

    async def _write_status(self) -> None:
        metadata = self.pod["metadata"]
        status = pod_status(
            {**self.pod, "status": {**(self.pod.get("status") or {}), **self._written}},
            self.facts,
            self.parts.host_ips,
            time.time(),
        )
        if status == self._written or (not self._written and _covers(self.pod.get("status") or {}, status)):
            self._written = status
            return
        change = {"metadata": {"uid": self.uid}, "status": status}
        try:
            await self.parts.api.patch(
                WELL_KNOWN.pods, metadata["name"], change, metadata["namespace"], subresource="status"
            )
        except NotFound:
            self._released = not self.facts.address and not self.live
        except Conflict:
            log.info("Pod %s/%s is another one by now", metadata["namespace"], metadata["name"])
        except ApiError as error:
            log.warning("cannot write the status of Pod %s: %s", metadata["name"], error.message)
            asyncio.get_running_loop().call_later(_RETRY, self._wake.set)
            return
        self._written = status

    async def _pause(self, wake_at: float | None) -> None:
        timeout = None if wake_at is None else max(0.0, wake_at - time.time())
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _leave(self) -> None:
        self.sandbox.close()
        for live in self.live.values():
            live.let_go()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _covers(present: JSON, wanted: JSON) -> bool:
    return all(present.get(key) == value for key, value in wanted.items())


def lifecycle_kind(pod: JSON, name: str) -> str:
    return kinds(pod).get(name, "app")
