"""ReplicaSet: as many Pods as it says.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mizzen.embedded.controllers.adoption import claim
from mizzen.embedded.controllers.batches import in_growing_batches
from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import (
    controller_of,
    is_deleting,
    labels_of,
    replicas,
    status,
    with_condition,
    without_condition,
)
from mizzen.embedded.controllers.pods import available_in, deletion_rank, is_active, is_ready, pod_from
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, ApiError, NotFound
from mizzen.kube.reflector import Change, Key, key_of
from mizzen.kube.selectors import select_labels

SETS, PODS = WELL_KNOWN.replicasets, WELL_KNOWN.pods


class ReplicaSets:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("replicaset", self.sync)
        cluster.feed(SETS, self.work)
        cluster.feed(PODS, self.work, self._sets_of)

    def _sets_of(self, change: Change) -> Iterable[Key]:
        """The set whose Pod this is or was; for an orphan those that may adopt it."""
        namespace = change.key[0]
        for pod in (change.old, change.new):
            if pod is None:
                continue
            owner = controller_of(pod)
            if owner is not None and owner["kind"] == SETS.kind:
                yield namespace, owner["name"]
            elif owner is None:
                sets = self._cluster.within(SETS, namespace)
                yield from (key_of(each) for each in sets if select_labels(each["spec"]["selector"])(labels_of(pod)))

    async def sync(self, key: Key) -> float | None:
        owner = self._cluster.get(SETS, key)
        if owner is None:
            return None
        pods = [pod for pod in await claim(self._cluster, PODS, owner) if is_active(pod)]
        failure = None if is_deleting(owner) else await self._scale(owner, pods)
        return await self._report(key, failure)

    async def _scale(self, owner: JSON, pods: list[JSON]) -> ApiError | None:
        missing = replicas(owner) - len(pods)
        if missing > 0:
            return await in_growing_batches([owner] * missing, self._make_pod)
        if missing < 0:
            return await in_growing_batches(sorted(pods, key=deletion_rank)[:-missing], self._delete_pod)
        return None

    async def _make_pod(self, owner: JSON) -> None:
        namespace = owner["metadata"]["namespace"]
        try:
            pod = await self._cluster.create(PODS, pod_from(owner["spec"]["template"], owner), namespace)
        except NotFound:
            return  # the namespace went away
        except ApiError as error:
            self._cluster.record(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        message = f"Created pod: {pod['metadata']['name']}"
        self._cluster.record(owner, "Normal", "SuccessfulCreate", message)

    async def _delete_pod(self, pod: JSON) -> None:
        await self._cluster.delete(PODS, pod)
        owner = self._cluster.get(SETS, (pod["metadata"]["namespace"], (controller_of(pod) or {}).get("name", "")))
        if owner is not None:
            message = f"Deleted pod: {pod['metadata']['name']}"
            self._cluster.record(owner, "Normal", "SuccessfulDelete", message)

    async def _report(self, key: Key, failure: ApiError | None) -> float | None:
        owner = self._cluster.get(SETS, key)
        if owner is None:
            return None
        pods = [pod for pod in self._cluster.controlled(PODS, owner) if is_active(pod)]
        now = self._cluster.now()
        new = replica_set_status(owner, pods, failure, now, self._cluster.timestamp())
        await self._cluster.set_status(SETS, owner, new)
        if failure is not None:
            raise failure
        waits = [available_in(pod, owner["spec"].get("minReadySeconds", 0), now) for pod in pods]
        return min((wait for wait in waits if wait), default=None)


def replica_set_status(owner: JSON, pods: list[JSON], failure: ApiError | None, now: datetime, stamp: str) -> JSON:
    """What the set's status should be, given its active Pods."""
    template_labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
    min_ready = owner["spec"].get("minReadySeconds", 0)
    counts = {
        "replicas": len(pods),
        "fullyLabeledReplicas": sum(template_labels.items() <= labels_of(pod).items() for pod in pods),
        "readyReplicas": sum(map(is_ready, pods)),
        "availableReplicas": sum(available_in(pod, min_ready, now) == 0.0 for pod in pods),
    }
    conditions = _failure_condition(owner, len(pods), failure, stamp)
    return {
        # The API omits zeros, but for `replicas`.
        **{name: count for name, count in counts.items() if count or name == "replicas"},
        "observedGeneration": owner["metadata"].get("generation", 0),
        **({"conditions": conditions} if conditions else {}),
    }


def _failure_condition(owner: JSON, count: int, failure: ApiError | None, stamp: str) -> list[JSON]:
    conditions = list(status(owner).get("conditions") or ())
    if failure is None:
        return without_condition(conditions, "ReplicaFailure")
    reason = "FailedCreate" if count < replicas(owner) else "FailedDelete"
    failed = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": failure.message}
    return with_condition(conditions, failed, stamp)
