"""Nodes that are silent: after a while nobody knows how they are, and they take no new Pods until they speak again.

https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller - but Pods are neither marked nor evicted: there
is no other node that could take them over, and they go on without their daemon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import condition, status
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.reflector import Change, Key

NODES, LEASES = WELL_KNOWN.nodes, WELL_KNOWN.leases
LEASE_NAMESPACE = "kube-node-lease"
GRACE, STARTUP_GRACE = 40.0, 60.0
"""Seconds without a sign of life from a node that has told its state, and from one that never has."""
CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
UNREACHABLE, NOT_READY = "node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"
EFFECTS = ("NoSchedule", "NoExecute")

Sign: TypeAlias = tuple[str | None, str | None]
"""Of life: when the lease was renewed, and when the state was told."""


class NodeLifecycle:
    """Silence is measured by our own `clock`, in seconds: a machine that slept does not make it longer."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._clock = cluster, clock
        self._heard: dict[str, tuple[Sign, float]] = {}
        self.work = Worklist("node", self.sync)
        cluster.feed(NODES, self.work)
        cluster.feed(LEASES, self.work, _node_of)

    async def sync(self, key: Key) -> float | None:
        node = self._cluster.get(NODES, key)
        if node is None:
            self._heard.pop(key[1], None)
            return None
        left = (GRACE if condition(status(node), "Ready") else STARTUP_GRACE) - self._silence(key[1], node)
        if left <= 0:
            node = await self._lost(node)
        await self._taint(node)
        return left if left > 0 else None

    def _silence(self, name: str, node: JSON) -> float:
        """Seconds since a sign of life was seen for the first time."""
        now, sign = self._clock(), self._sign(name, node)
        seen, since = self._heard.get(name, (None, now))
        self._heard[name] = (sign, since if seen == sign else now)
        return now - self._heard[name][1]

    def _sign(self, name: str, node: JSON) -> Sign:
        lease = self._cluster.get(LEASES, (LEASE_NAMESPACE, name)) or {}
        told = condition(status(node), "Ready") or {}
        return (lease.get("spec") or {}).get("renewTime"), told.get("lastHeartbeatTime")

    async def _lost(self, node: JSON) -> JSON:
        known = {each["type"]: each for each in status(node).get("conditions") or ()}
        ours = {kind: self._unknown(node, kind, known.get(kind)) for kind in CONDITIONS}
        changed = await self._cluster.set_status(
            NODES, node, {**status(node), "conditions": list({**known, **ours}.values())}
        )
        if (known.get("Ready") or {}).get("status") != "Unknown":
            name = node["metadata"]["name"]
            self._cluster.record(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return changed

    def _unknown(self, node: JSON, kind: str, before: JSON | None) -> JSON:
        if before is not None and before["status"] == "Unknown":
            return before
        unknown = {"type": kind, "status": "Unknown", "lastTransitionTime": self._cluster.timestamp()}
        if before is None:
            told = {"reason": "NodeStatusNeverUpdated", "message": "Kubelet never posted node status."}
            return {**unknown, **told, "lastHeartbeatTime": node["metadata"]["creationTimestamp"]}
        return {
            **before,
            **unknown,
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
        }

    async def _taint(self, node: JSON) -> None:
        """As the state says. Raises Conflict when somebody else changed the node."""
        ready = condition(status(node), "Ready") or {}
        key = {"Unknown": UNREACHABLE, "False": NOT_READY}.get(ready.get("status", ""))
        present = (node.get("spec") or {}).get("taints") or []
        kept = [each for each in present if each["key"] not in (UNREACHABLE, NOT_READY) or each["key"] == key]
        missing = [effect for effect in EFFECTS if key and (key, effect) not in map(_key_and_effect, kept)]
        if len(kept) == len(present) and not missing:
            return
        added = [{"key": key, "effect": effect, "timeAdded": self._cluster.timestamp()} for effect in missing]
        version = node["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "spec": {"taints": [*kept, *added] or None}}
        await self._cluster.patch(NODES, node, patch)


def _key_and_effect(taint: JSON) -> tuple[str, str]:
    return taint["key"], taint["effect"]


def _node_of(change: Change) -> Iterable[Key]:
    if change.key[0] == LEASE_NAMESPACE:
        yield "", change.key[1]
