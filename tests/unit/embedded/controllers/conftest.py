"""A cluster of one: MemoryApi, the controllers, and a node that runs nothing but says it does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from mizzen.embedded.controllers import Controllers
from mizzen.kube import api as kube
from mizzen.kube.memory import MemoryApi

PODS = kube.WELL_KNOWN.pods
DISCOVERY = {
    "/apis": {
        "groups": [
            {"name": "apps", "preferredVersion": {"groupVersion": "apps/v1"}},
            {"name": "batch", "preferredVersion": {"groupVersion": "batch/v1"}},
            {"name": "discovery.k8s.io", "preferredVersion": {"groupVersion": "discovery.k8s.io/v1"}},
        ]
    },
    "/api/v1": {"groupVersion": "v1", "resources": []},
    "/apis/apps/v1": {"groupVersion": "apps/v1", "resources": []},
    "/apis/batch/v1": {"groupVersion": "batch/v1", "resources": []},
    "/apis/discovery.k8s.io/v1": {"groupVersion": "discovery.k8s.io/v1", "resources": []},
}
SERVED = (
    *(getattr(kube.WELL_KNOWN, name) for name in ("pods", "services", "endpoints", "configmaps", "serviceaccounts")),
    *(getattr(kube.WELL_KNOWN, name) for name in ("deployments", "replicasets", "statefulsets", "daemonsets")),
    *(getattr(kube.WELL_KNOWN, name) for name in ("jobs", "endpointslices", "namespaces", "nodes", "secrets")),
)


def discovery() -> dict[str, kube.JSON]:
    answers = {path: dict(document) for path, document in DISCOVERY.items()}
    for resource in SERVED:
        path = f"/apis/{resource.group}/{resource.version}" if resource.group else "/api/v1"
        verbs = ["list", "watch", "delete", "get"]
        entry = {"name": resource.plural, "kind": resource.kind, "namespaced": resource.namespaced, "verbs": verbs}
        answers[path]["resources"] = [
            *answers[path]["resources"],
            entry,
            {**entry, "name": f"{resource.plural}/status"},
        ]
    return answers


class World:
    """What a test sees and does. `will_be_ready` decides which Pods the node reports as ready."""

    def __init__(self) -> None:
        self.api = MemoryApi()
        self.api.raw_answers = discovery()
        self.controllers = Controllers(self.api, root_ca="PEM", load_balancer_addresses=["192.0.2.1", "2001:db8::1"])
        self.will_be_ready: Callable[[kube.JSON], bool] = lambda pod: True
        self.confirms_deletion = True
        self._addresses = itertools.count(10)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.api.create(
            kube.WELL_KNOWN.namespaces, {"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}}
        )
        labels = {"topology.kubernetes.io/zone": "z1"}
        await self.api.create(kube.WELL_KNOWN.nodes, {"metadata": {"name": "n", "labels": labels}})
        self._tasks = [asyncio.create_task(self.controllers.run()), asyncio.create_task(self._kubelet())]
        await self.controllers.wait_ready()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def apply(self, resource: kube.Resource, obj: kube.JSON, namespace: str | None = "shop") -> kube.JSON:
        """Creates as the API server does: it waits for the controllers."""
        made = await self.api.create(resource, obj, namespace)
        await self.controllers.after_create(resource, made)
        return made

    async def until(self, holds: Callable[[], object], seconds: float = 3.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():  # noqa: ASYNC110 - looks from outside, as a user does
                    await asyncio.sleep(0.001)
        except TimeoutError:
            pods = [(pod["metadata"]["name"], pod.get("status", {}).get("phase")) for pod in self.pods()]
            raise AssertionError(f"it did not come to that; pods: {pods}") from None

    async def idle(self) -> None:
        """Returns when nothing was written for a while."""
        before = -1
        while before != len(self.api.journal):
            before = len(self.api.journal)
            await asyncio.sleep(0.05)

    async def idle_reads(self) -> None:
        """Long enough for a controller that polls."""
        await asyncio.sleep(0.2)

    def pods(self) -> list[kube.JSON]:
        return [pod for pod in self.api.all(PODS, "shop") if "deletionTimestamp" not in pod["metadata"]]

    def one(self, resource: kube.Resource, name: str) -> kube.JSON:
        found = [obj for obj in self.api.all(resource) if obj["metadata"]["name"] == name]
        assert len(found) == 1, f"{resource.plural} {name}: {len(found)}"
        return found[0]

    async def _kubelet(self) -> None:
        async for event in self.api.watch(PODS):
            if event.type in ("ADDED", "MODIFIED"):
                await self._look_after(event.object)

    async def _look_after(self, pod: kube.JSON) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        try:
            if "deletionTimestamp" in pod["metadata"]:
                if self.confirms_deletion:
                    await self.api.delete(PODS, name, namespace, grace_seconds=0)
            elif not pod["spec"].get("nodeName"):
                await self.api.patch(PODS, name, {"spec": {"nodeName": "n"}}, namespace)
            elif "status" not in pod or ("podIP" not in pod["status"] and "phase" not in pod["status"]):
                await self.api.patch(PODS, name, {"status": self.running(pod)}, namespace, subresource="status")
        except kube.NotFound:
            return

    def running(self, pod: kube.JSON) -> kube.JSON:
        ready = self.will_be_ready(pod)
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
        return {"phase": "Running", "podIP": f"10.0.0.{next(self._addresses)}", "conditions": [condition]}

    async def report(self, pod: kube.JSON, **status: object) -> None:
        metadata = pod["metadata"]
        await self.api.patch(PODS, metadata["name"], {"status": status}, metadata["namespace"], subresource="status")

    async def set_ready(self, pod: kube.JSON, ready: bool) -> None:
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
        await self.report(pod, conditions=[condition])


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start()
    yield made
    await made.stop()
