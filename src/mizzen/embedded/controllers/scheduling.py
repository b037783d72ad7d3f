"""Pods that could not go to the node when they were made: told why, and bound once they can.

The API server binds all others as they are created.
"""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.embedded import placement
from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import condition, is_deleting, status, with_condition
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.reflector import Change, Key

PODS, NODES = WELL_KNOWN.pods, WELL_KNOWN.nodes


class Scheduling:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told: dict[Key, tuple[str, str]] = {}
        """Of each waiting Pod: its uid, and why it waits as its last event said."""
        self.work = Worklist("scheduling", self.sync)
        cluster.feed(PODS, self.work, self._changed)
        cluster.feed(NODES, self.work, self._waiting)

    def _changed(self, change: Change) -> Iterable[Key]:
        if change.new is not None and placement.waits_for_us(change.new):
            yield change.key
        else:
            self._told.pop(change.key, None)

    def _waiting(self, change: Change) -> Iterable[Key]:
        return [key for key, pod in self._cluster.all(PODS).items() if placement.waits_for_us(pod)]

    async def sync(self, key: Key) -> None:
        pod, node = self._cluster.get(PODS, key), self._cluster.get(NODES, ("", placement.NODE_NAME))
        if pod is None or node is None or is_deleting(pod) or not placement.waits_for_us(pod):
            return
        if reason := placement.why_not_on(pod, node):
            await self._tell(key, pod, reason)
        else:
            target = {"target": {"apiVersion": "v1", "kind": "Node", "name": placement.NODE_NAME}}
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": key[1]}, **target}
            await self._cluster.api.post_subresource(PODS, key[1], "binding", body, key[0])

    async def _tell(self, key: Key, pod: JSON, reason: str) -> None:
        told = (pod["metadata"]["uid"], reason)
        if self._told.get(key) != told:
            self._told[key] = told
            self._cluster.record(pod, "Warning", "FailedScheduling", reason, source=placement.SCHEDULER)
        if (condition(status(pod), "PodScheduled") or {}).get("message") == reason:
            return
        new = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason}
        conditions = with_condition(status(pod).get("conditions") or (), new, self._cluster.timestamp())
        await self._cluster.set_status(PODS, pod, {**status(pod), "conditions": conditions})
