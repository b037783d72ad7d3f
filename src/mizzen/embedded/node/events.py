"""Events about Pods: what `kubectl describe` lists. Repeats raise a count instead of making new objects."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Literal

from mizzen.embedded.node.facts import Kind, kinds
from mizzen.embedded.node.status import timestamp
from mizzen.kube.api import JSON, WELL_KNOWN, Api, ApiError

log = logging.getLogger(__name__)

_REMEMBERED = 2000
_QUEUE = 1000
_PARTS: dict[Kind, str] = {
    "init": "initContainers",
    "sidecar": "initContainers",
    "app": "containers",
    "ephemeral": "ephemeralContainers",
}


@dataclass(frozen=True, slots=True)
class Happening:
    pod: JSON
    """Or another object, which then says its `kind`."""
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    container: str
    at: float


class Recorder:
    """Writes events in the background: what happens to Pods must not wait for what is told about it."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._queue: asyncio.Queue[Happening] = asyncio.Queue(_QUEUE)
        self._written: dict[tuple[str, ...], tuple[str, int]] = {}

    def normal(self, pod: JSON, reason: str, message: str, container: str = "") -> None:
        self._put(Happening(pod, "Normal", reason, message, container, time.time()))

    def warning(self, pod: JSON, reason: str, message: str, container: str = "") -> None:
        self._put(Happening(pod, "Warning", reason, message, container, time.time()))

    def _put(self, happening: Happening) -> None:
        try:
            self._queue.put_nowait(happening)
        except asyncio.QueueFull:
            log.warning("too many events at once; lost: %s %s", happening.reason, happening.message)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            happening = await self._queue.get()
            try:
                await self._write(happening)
            except ApiError as error:
                log.warning("cannot write event %s: %s", happening.reason, error.message)

    async def _write(self, happening: Happening) -> None:
        key = (happening.pod["metadata"]["uid"], happening.container, happening.reason, happening.message)
        name, count = self._written.get(key, ("", 0))
        namespace = happening.pod["metadata"]["namespace"]
        if name:
            change = {"count": count + 1, "lastTimestamp": timestamp(happening.at)}
            await self._api.patch(WELL_KNOWN.events, name, change, namespace)
        else:
            name = f"{happening.pod['metadata']['name']}.{time.time_ns():x}"  # a list of them is in their order
            await self._api.create(WELL_KNOWN.events, event(happening, name, self._node), namespace)
        self._remember(key, (name, count + 1))

    def _remember(self, key: tuple[str, ...], value: tuple[str, int]) -> None:
        self._written[key] = value
        while len(self._written) > _REMEMBERED:
            del self._written[next(iter(self._written))]


def event(happening: Happening, name: str, node: str) -> JSON:
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ in its older, core form"""
    metadata = happening.pod["metadata"]
    involved = {
        "apiVersion": "v1",
        "kind": happening.pod.get("kind") or "Pod",
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
    }
    if happening.container:
        part = _PARTS[kinds(happening.pod).get(happening.container, "app")]
        involved["fieldPath"] = f"spec.{part}{{{happening.container}}}"
    component = "default-scheduler" if happening.reason == "Scheduled" else "kubelet"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": involved,
        "reason": happening.reason,
        "message": happening.message,
        "type": happening.type,
        "count": 1,
        "firstTimestamp": timestamp(happening.at),
        "lastTimestamp": timestamp(happening.at),
        "source": {"component": component, "host": node},
        "reportingComponent": component,
        "reportingInstance": node,
    }
