"""Deployment: one ReplicaSet per template, and the way from one to the next.

https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mizzen.embedded.controllers.adoption import claim
from mizzen.embedded.controllers.cluster import Cluster, owners_of_kind
from mizzen.embedded.controllers.deployment_status import check_again_in, deployment_status, is_complete
from mizzen.embedded.controllers.objects import annotations_of, controller_of, is_deleting, replicas, status
from mizzen.embedded.controllers.pods import is_finished
from mizzen.embedded.controllers.rollout import (
    REVISION,
    Limits,
    find_new,
    is_recreate,
    limits,
    new_replica_set,
    new_size,
    old_sizes,
    oldest_first,
    proportional_sizes,
    revision_annotations,
    size_annotations,
    superfluous,
    was_resized,
)
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists
from mizzen.kube.reflector import Change, Key

DEPLOYMENTS, SETS, PODS = WELL_KNOWN.deployments, WELL_KNOWN.replicasets, WELL_KNOWN.pods


class Deployments:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("deployment", self.sync)
        cluster.feed(DEPLOYMENTS, self.work)
        cluster.feed(SETS, self.work, owners_of_kind(DEPLOYMENTS))
        cluster.feed(PODS, self.work, self._waiting_for)

    def _waiting_for(self, change: Change) -> Iterable[Key]:
        """Recreate waits for the last old Pod to be gone; no other strategy looks at Pods."""
        owner = controller_of(change.latest) if change.new is None else None
        owning_set = self._cluster.get(SETS, (change.key[0], owner["name"])) if owner is not None else None
        if owning_set is not None:
            yield from owners_of_kind(DEPLOYMENTS)(Change(change.key, None, owning_set))

    async def sync(self, key: Key) -> float | None:
        deployment = self._cluster.get(DEPLOYMENTS, key)
        if deployment is None:
            return None
        sets = await claim(self._cluster, SETS, deployment)
        if not is_deleting(deployment):
            await self._roll(deployment, sets)
        return await self._report(key)

    async def _roll(self, deployment: JSON, sets: Sequence[JSON]) -> None:
        allowed = limits(deployment)
        if was_resized(allowed, sets):
            await self._resize(deployment, allowed, sets)
        elif not deployment["spec"].get("paused"):
            await self._advance(deployment, allowed, sets)

    async def _resize(self, deployment: JSON, allowed: Limits, sets: Sequence[JSON]) -> None:
        """`replicas` was changed: one set takes it all, several share it."""
        active = [each for each in sets if replicas(each) > 0]
        if len(active) == 1:
            sizes = {active[0]["metadata"]["name"]: allowed.replicas}
        else:
            sizes = proportional_sizes(allowed, active)
        for each in active:
            await self._scale(deployment, each, sizes[each["metadata"]["name"]], allowed)

    async def _advance(self, deployment: JSON, allowed: Limits, sets: Sequence[JSON]) -> None:
        new = find_new(deployment, sets)
        olds = [each for each in sets if each is not new]
        if is_recreate(deployment) and not await self._old_pods_are_gone(deployment, allowed, olds):
            return
        if new is None:
            new = await self._make_new(deployment, olds, new_size(allowed, 0, olds))
            if new is None:
                return
        else:
            new = await self._keep_revision(deployment, new, olds)
            new = await self._scale(deployment, new, new_size(allowed, replicas(new), olds), allowed)
        await self._tell_revision(deployment, new)
        sizes = old_sizes(allowed, new, [each for each in olds if replicas(each) > 0])
        for each in olds:
            if each["metadata"]["name"] in sizes:
                await self._scale(deployment, each, sizes[each["metadata"]["name"]], allowed)
        if is_complete(deployment, status(deployment)):
            for each in superfluous(deployment, olds):
                await self._cluster.delete(SETS, each)

    async def _old_pods_are_gone(self, deployment: JSON, allowed: Limits, olds: Sequence[JSON]) -> bool:
        for each in olds:
            if replicas(each) > 0:
                await self._scale(deployment, each, 0, allowed)
        pods = (pod for each in olds for pod in self._cluster.controlled(PODS, each))
        return all(map(is_finished, pods))

    async def _make_new(self, deployment: JSON, olds: Sequence[JSON], size: int) -> JSON | None:
        """The new set, or None when its name was taken by another template: then the next look tries another hash."""
        asked = new_replica_set(deployment, olds, size)
        try:
            new = await self._cluster.create(SETS, asked)
        except AlreadyExists:
            taken = await self._cluster.api.get(SETS, asked["metadata"]["name"], asked["metadata"]["namespace"])
            return await self._use_or_avoid(deployment, taken)
        self._tell_scaling(deployment, new, 0, size)
        return new

    async def _use_or_avoid(self, deployment: JSON, taken: JSON) -> JSON | None:
        self._cluster.written(SETS, taken)
        owner = controller_of(taken)
        if owner and owner["uid"] == deployment["metadata"]["uid"] and find_new(deployment, [taken]) is not None:
            return taken
        count = status(deployment).get("collisionCount", 0) + 1
        new_status = {**status(deployment), "collisionCount": count}
        await self._cluster.set_status(DEPLOYMENTS, deployment, new_status)
        return None

    async def _keep_revision(self, deployment: JSON, new: JSON, olds: Sequence[JSON]) -> JSON:
        changes = revision_annotations(deployment, new, olds)
        if not changes:
            return new
        return await self._cluster.patch(SETS, new, {"metadata": {"annotations": changes}})

    async def _tell_revision(self, deployment: JSON, new: JSON) -> None:
        number = annotations_of(new).get(REVISION)
        if number and annotations_of(deployment).get(REVISION) != number:
            await self._cluster.patch(DEPLOYMENTS, deployment, {"metadata": {"annotations": {REVISION: number}}})

    async def _scale(self, deployment: JSON, each: JSON, size: int, allowed: Limits) -> JSON:
        notes = size_annotations(allowed)
        before = replicas(each)
        if before == size and notes.items() <= annotations_of(each).items():
            return each
        patch = {"metadata": {"annotations": notes}, "spec": {"replicas": size}}
        scaled = await self._cluster.patch(SETS, each, patch)
        if before != size:
            self._tell_scaling(deployment, each, before, size)
        return scaled

    def _tell_scaling(self, deployment: JSON, each: JSON, before: int, size: int) -> None:
        name, direction = each["metadata"]["name"], "up" if size > before else "down"
        message = f"Scaled {direction} replica set {name} from {before} to {size}"
        self._cluster.record(deployment, "Normal", "ScalingReplicaSet", message)

    async def _report(self, key: Key) -> float | None:
        deployment = self._cluster.get(DEPLOYMENTS, key)
        if deployment is None:
            return None
        sets = oldest_first(self._cluster.controlled(SETS, deployment))
        new = find_new(deployment, sets)
        now = self._cluster.now()
        new_status = deployment_status(deployment, new, [each for each in sets if each is not new], now)
        written = await self._cluster.set_status(DEPLOYMENTS, deployment, new_status)
        return check_again_in(written, now)
