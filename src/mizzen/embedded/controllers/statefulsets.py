"""StatefulSet: Pods with stable names, made and replaced in order.

https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from mizzen.embedded.controllers.adoption import claim
from mizzen.embedded.controllers.cluster import Cluster, owners_of_kind
from mizzen.embedded.controllers.objects import is_deleting, labels_of, owner_reference, replicas, status
from mizzen.embedded.controllers.pods import available_in, is_active, is_finished, is_ready, pod_from
from mizzen.embedded.controllers.revisions import REVISION_LABEL, REVISIONS, keep
from mizzen.embedded.controllers.rollout import template_hash
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, Resource
from mizzen.kube.reflector import Key

SETS, PODS = WELL_KNOWN.statefulsets, WELL_KNOWN.pods
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NAME_LABEL, INDEX_LABEL = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"


class StatefulSets:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("statefulset", self.sync)
        cluster.feed(SETS, self.work)
        cluster.feed(PODS, self.work, owners_of_kind(SETS))
        cluster.feed(REVISIONS, self.work, owners_of_kind(SETS))

    async def sync(self, key: Key) -> float | None:
        owner = self._cluster.get(SETS, key)
        if owner is None:
            return None
        pods = by_ordinal(owner, await claim(self._cluster, PODS, owner))
        if not is_deleting(owner):
            await keep(self._cluster, owner, pods.values())
            await self._step(owner, pods)
        return await self._report(key)

    async def _step(self, owner: JSON, pods: Mapping[int, JSON]) -> None:
        """Makes what is missing, removes what is too much, then replaces what is out of date."""
        parallel = owner["spec"].get("podManagementPolicy") == "Parallel"
        wanted = ordinals(owner)
        for ordinal in wanted:
            pod = pods.get(ordinal)
            if pod is None:
                await self._make(owner, ordinal)
            elif is_finished(pod) and not is_deleting(pod):
                await self._cluster.delete(PODS, pod)
            if not parallel and (pod is None or not _is_settled(owner, pod, self._cluster.now())):
                return
        for ordinal in sorted(pods.keys() - set(wanted), reverse=True):
            if not is_deleting(pods[ordinal]):
                await self._cluster.delete(PODS, pods[ordinal])
            if not parallel:
                return
        await self._update(owner, pods)

    async def _update(self, owner: JSON, pods: Mapping[int, JSON]) -> None:
        """Replaces one outdated Pod, the highest ordinal first, when all above it are well."""
        strategy = owner["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
        wanted = template_hash(owner["spec"]["template"])
        for ordinal in sorted(pods, reverse=True):
            pod = pods[ordinal]
            if ordinal - first_ordinal(owner) < partition:
                return
            if labels_of(pod).get(REVISION_LABEL) != wanted:
                if not is_deleting(pod):
                    await self._cluster.delete(PODS, pod)
                return
            if not _is_settled(owner, pod, self._cluster.now()):
                return

    async def _make(self, owner: JSON, ordinal: int) -> None:
        namespace = owner["metadata"]["namespace"]
        for claimed in claims(owner, ordinal):
            try:
                await self._cluster.create(CLAIMS, claimed, namespace)
            except AlreadyExists:
                continue  # kept from an earlier Pod of this name: that is its purpose
        pod = stateful_pod(owner, ordinal)
        await self._cluster.create(PODS, pod, namespace)
        message = f"create Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']} successful"
        self._cluster.record(owner, "Normal", "SuccessfulCreate", message)

    async def _report(self, key: Key) -> float | None:
        owner = self._cluster.get(SETS, key)
        if owner is None:
            return None
        pods = by_ordinal(owner, self._cluster.controlled(PODS, owner))
        now = self._cluster.now()
        await self._cluster.set_status(SETS, owner, stateful_set_status(owner, list(pods.values()), now))
        waits = [available_in(pod, owner["spec"].get("minReadySeconds", 0), now) for pod in pods.values()]
        return min((wait for wait in waits if wait), default=None)


def first_ordinal(owner: JSON) -> int:
    return int((owner["spec"].get("ordinals") or {}).get("start", 0))


def ordinals(owner: JSON) -> range:
    return range(first_ordinal(owner), first_ordinal(owner) + replicas(owner))


def by_ordinal(owner: JSON, pods: Iterable[JSON]) -> dict[int, JSON]:
    prefix = f"{owner['metadata']['name']}-"
    named = ((pod["metadata"]["name"].removeprefix(prefix), pod) for pod in pods)
    return {int(rest): pod for rest, pod in named if rest.isdecimal()}


def _is_settled(owner: JSON, pod: JSON, now: datetime) -> bool:
    return is_active(pod) and available_in(pod, owner["spec"].get("minReadySeconds", 0), now) == 0.0


def stateful_pod(owner: JSON, ordinal: int) -> JSON:
    """The Pod NAME-ORDINAL, with a host name of its own and its claims as volumes."""
    name = f"{owner['metadata']['name']}-{ordinal}"
    template = owner["spec"]["template"]
    pod = pod_from(template, owner, name=name)
    revision = template_hash(template)
    pod["metadata"]["labels"] = {
        **labels_of(pod),
        REVISION_LABEL: revision,
        NAME_LABEL: name,
        INDEX_LABEL: str(ordinal),
    }
    mine = [
        {"name": each["metadata"]["name"], "persistentVolumeClaim": {"claimName": f"{each['metadata']['name']}-{name}"}}
        for each in owner["spec"].get("volumeClaimTemplates") or ()
    ]
    names = {volume["name"] for volume in mine}
    others = [volume for volume in pod["spec"].get("volumes") or () if volume["name"] not in names]
    pod["spec"] |= {"hostname": name, "subdomain": owner["spec"].get("serviceName", "")}
    if mine or others:
        pod["spec"]["volumes"] = [*others, *mine]
    return pod


def claims(owner: JSON, ordinal: int) -> Iterable[JSON]:
    """The PersistentVolumeClaims of one Pod; they outlive it, and the set too unless its policy says otherwise."""
    retention = (owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}).get("whenDeleted")
    owners = {"ownerReferences": [owner_reference(owner)]} if retention == "Delete" else {}
    labels = (owner["spec"]["selector"] or {}).get("matchLabels") or {}
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        name = f"{template['metadata']['name']}-{owner['metadata']['name']}-{ordinal}"
        metadata = {"name": name, "labels": {**labels, **labels_of(template)}, **owners}
        yield {"metadata": metadata, "spec": template["spec"]}


def stateful_set_status(owner: JSON, pods: list[JSON], now: datetime) -> JSON:
    before = status(owner)
    update = f"{owner['metadata']['name']}-{template_hash(owner['spec']['template'])}"
    alive = [pod for pod in pods if is_active(pod)]
    updated = [pod for pod in alive if update.endswith(f"-{labels_of(pod).get(REVISION_LABEL)}")]
    min_ready = owner["spec"].get("minReadySeconds", 0)
    finished = len(updated) == len(pods) == replicas(owner) and all(map(is_ready, pods))
    current = update if finished else before.get("currentRevision", update)
    counts = {
        "replicas": len(pods),
        "readyReplicas": sum(map(is_ready, alive)),
        "updatedReplicas": len(updated),
        "currentReplicas": sum(current.endswith(f"-{labels_of(pod).get(REVISION_LABEL)}") for pod in alive),
    }
    return {
        **{name: count for name, count in counts.items() if count or name == "replicas"},
        "availableReplicas": sum(available_in(pod, min_ready, now) == 0.0 for pod in alive),
        "observedGeneration": owner["metadata"].get("generation", 0),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": before.get("collisionCount", 0),
    }
