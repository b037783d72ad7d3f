"""DaemonSet: a Pod on every node that it selects.

https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mizzen.embedded import placement
from mizzen.embedded.controllers.adoption import claim
from mizzen.embedded.controllers.cluster import Cluster, owners_of_kind
from mizzen.embedded.controllers.objects import is_deleting, labels_of, percentage_of
from mizzen.embedded.controllers.pods import available_in, is_active, is_available, is_finished, is_ready, pod_from
from mizzen.embedded.controllers.revisions import REVISION_LABEL, REVISIONS, keep
from mizzen.embedded.controllers.rollout import template_hash
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.reflector import Change, Key

SETS, PODS, NODES = WELL_KNOWN.daemonsets, WELL_KNOWN.pods, WELL_KNOWN.nodes
TOLERATED = ("not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable")
"""Taints that do not drive a daemon's Pod away."""


class DaemonSets:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("daemonset", self.sync)
        cluster.feed(SETS, self.work)
        cluster.feed(PODS, self.work, owners_of_kind(SETS))
        cluster.feed(REVISIONS, self.work, owners_of_kind(SETS))
        cluster.feed(NODES, self.work, self._all_sets)

    def _all_sets(self, change: Change) -> Iterable[Key]:
        if change.old is None or change.new is None or labels_of(change.old) != labels_of(change.new):
            yield from self._cluster.all(SETS)

    async def sync(self, key: Key) -> float | None:
        owner = self._cluster.get(SETS, key)
        if owner is None:
            return None
        pods = await claim(self._cluster, PODS, owner)
        if not is_deleting(owner):
            await keep(self._cluster, owner, pods)
            await self._place(owner, pods)
        return await self._report(key)

    def _nodes(self, owner: JSON) -> list[str]:
        asked = owner["spec"]["template"].get("spec") or {}
        nodes = self._cluster.all(NODES).items()
        return sorted(name for (_, name), node in nodes if placement.is_chosen(asked, node))

    async def _place(self, owner: JSON, pods: list[JSON]) -> None:
        nodes = self._nodes(owner)
        on: dict[str, list[JSON]] = {}
        for pod in pods:
            on.setdefault(node_of(pod), []).append(pod)
        for node in nodes:
            if not on.get(node):
                made = await self._cluster.create(PODS, daemon_pod(owner, node), owner["metadata"]["namespace"])
                self._cluster.record(owner, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
        surplus = [pod for node, there in on.items() for pod in there[node in nodes :]]
        for pod in [*surplus, *filter(is_finished, pods)]:
            if not is_deleting(pod):
                await self._cluster.delete(PODS, pod)
        if not surplus:
            await self._update(owner, pods, len(nodes))

    async def _update(self, owner: JSON, pods: list[JSON], nodes: int) -> None:
        """Deletes outdated Pods, no more at once than `maxUnavailable` allows; their successors follow."""
        strategy = owner["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        allowed = percentage_of((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), nodes, round_up=True)
        wanted = template_hash(owner["spec"]["template"])
        outdated = [pod for pod in pods if is_active(pod) and labels_of(pod).get(REVISION_LABEL) != wanted]
        unwell = sum(not (is_active(pod) and is_ready(pod)) for pod in pods) + max(0, nodes - len(pods))
        for pod in sorted(outdated, key=is_ready):
            if is_ready(pod) and unwell >= max(allowed, 1):
                return
            unwell += is_ready(pod)
            await self._cluster.delete(PODS, pod)

    async def _report(self, key: Key) -> float | None:
        owner = self._cluster.get(SETS, key)
        if owner is None:
            return None
        pods, now = list(self._cluster.controlled(PODS, owner)), self._cluster.now()
        await self._cluster.set_status(SETS, owner, daemon_set_status(owner, pods, self._nodes(owner), now))
        waits = [available_in(pod, owner["spec"].get("minReadySeconds", 0), now) for pod in pods]
        return min((wait for wait in waits if wait), default=None)


def node_of(pod: JSON) -> str:
    """Where the Pod is, or is meant to be."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    terms = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in terms.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name":
                return str(field["values"][0])
    return ""


def daemon_pod(owner: JSON, node: str) -> JSON:
    template = owner["spec"]["template"]
    pod = pod_from(template, owner)
    pod["metadata"]["labels"] = {**labels_of(pod), REVISION_LABEL: template_hash(template)}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    pod["spec"]["affinity"] = {**(pod["spec"].get("affinity") or {}), "nodeAffinity": required}
    stays = [{"key": f"node.kubernetes.io/{taint}", "operator": "Exists"} for taint in TOLERATED]
    pod["spec"]["tolerations"] = [*(pod["spec"].get("tolerations") or ()), *stays]
    return pod


def daemon_set_status(owner: JSON, pods: list[JSON], nodes: list[str], now: datetime) -> JSON:
    min_ready = owner["spec"].get("minReadySeconds", 0)
    wanted = template_hash(owner["spec"]["template"])
    placed = [pod for pod in pods if is_active(pod) and node_of(pod) in nodes]
    available = sum(is_available(pod, min_ready, now) for pod in placed)
    updated = sum(labels_of(pod).get(REVISION_LABEL) == wanted for pod in placed)
    optional = {
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": len(nodes) - available,
    }
    return {
        "currentNumberScheduled": len({node_of(pod) for pod in placed}),
        "desiredNumberScheduled": len(nodes),
        "numberMisscheduled": sum(node_of(pod) not in nodes for pod in pods if is_active(pod)),
        "numberReady": sum(map(is_ready, placed)),
        "observedGeneration": owner["metadata"].get("generation", 0),
        **{name: count for name, count in optional.items() if count},
    }
