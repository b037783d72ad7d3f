"""Namespace: what each one gets when it begins, and how it ends.

https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from mizzen.embedded.controllers.cluster import MANAGER, Cluster
from mizzen.embedded.controllers.discovery import namespaced_resources
from mizzen.embedded.controllers.objects import is_deleting, status, with_condition
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, NotFound, Resource, Selector
from mizzen.kube.reflector import Change, Key

NAMESPACES, ACCOUNTS, MAPS = WELL_KNOWN.namespaces, WELL_KNOWN.serviceaccounts, WELL_KNOWN.configmaps
ROOT_CA = "kube-root-ca.crt"
ROOT_CA_NOTE = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using "
    "internal endpoints such as the internal service IP or kubernetes.default.svc."
}
FINALIZER = "kubernetes"
AGAIN = 0.05
"""Seconds between looks at a namespace that still has content."""
WORKLOADS = frozenset(
    {"CronJob", "Job", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"}
)
"""These go first, or they would replace the Pods that are deleted."""


class Beginnings:
    """ServiceAccount `default` and the cluster's root certificate: in every namespace, again after a deletion."""

    def __init__(self, cluster: Cluster, root_ca: str) -> None:
        self._cluster = cluster
        self._root_ca = root_ca
        self.work = Worklist("namespace content", self.sync)
        cluster.feed(NAMESPACES, self.work)
        for resource, name in ((ACCOUNTS, "default"), (MAPS, ROOT_CA)):
            cluster.feed(resource, self.work, _namespace_of, Selector(fields=f"metadata.name={name}"))

    async def sync(self, key: Key) -> float | None:
        namespace = self._cluster.get(NAMESPACES, key)
        if namespace is None or is_deleting(namespace):
            return None
        name = key[1]
        await asyncio.gather(self._account(name), self._certificate(name))
        return None

    async def _account(self, namespace: str) -> None:
        if self._cluster.get(ACCOUNTS, (namespace, "default")) is None:
            await self._create(ACCOUNTS, {"metadata": {"name": "default"}}, namespace)

    async def _certificate(self, namespace: str) -> None:
        data = {"ca.crt": self._root_ca}
        present = self._cluster.get(MAPS, (namespace, ROOT_CA))
        if present is None:
            wanted = {"metadata": {"name": ROOT_CA, "annotations": ROOT_CA_NOTE}, "data": data}
            await self._create(MAPS, wanted, namespace)
        elif present.get("data") != data:
            await self._cluster.replace(MAPS, {**present, "data": data})

    async def _create(self, resource: Resource, obj: JSON, namespace: str) -> None:
        try:
            await self._cluster.create(resource, obj, namespace)
        except AlreadyExists:
            found = await self._cluster.api.get(resource, obj["metadata"]["name"], namespace)
            self._cluster.written(resource, found)


def _namespace_of(change: Change) -> Iterable[Key]:
    yield "", change.key[0]


class Endings:
    """A namespace that is being deleted: workloads, then Pods (until their nodes have stopped them), then the rest."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("namespace", self.sync)
        cluster.feed(NAMESPACES, self.work)

    async def sync(self, key: Key) -> float | None:
        namespace = self._cluster.get(NAMESPACES, key)
        if namespace is None or not is_deleting(namespace):
            return None
        left = await self._empty(key[1])
        if left:
            await self._tell(namespace, left)
            return AGAIN
        await self._finalize(namespace)
        return None

    async def _empty(self, namespace: str) -> dict[str, list[JSON]]:
        """Deletes what there is, stage by stage; returns what is still there, by kind."""
        resources = await namespaced_resources(self._cluster.api)
        for stage in _stages(resources):
            left = {
                resource.kind: found for resource in stage if (found := await self._delete_all(resource, namespace))
            }
            if left:
                return left
        return {}

    async def _delete_all(self, resource: Resource, namespace: str) -> list[JSON]:
        """Asks each object to go; returns those that must be waited for."""
        try:
            items = (await self._cluster.api.list(resource, namespace)).items
        except NotFound:
            return []  # a custom resource whose definition went away meanwhile
        going = [obj for obj in items if not is_deleting(obj)]
        await asyncio.gather(*(self._cluster.delete(resource, obj) for obj in going))
        return (await self._cluster.api.list(resource, namespace)).items if items else []

    async def _tell(self, namespace: JSON, left: dict[str, list[JSON]]) -> None:
        counts = ", ".join(f"{kind} has {len(objects)} resource instances" for kind, objects in sorted(left.items()))
        finalizers = sorted({name for objects in left.values() for obj in objects for name in _finalizers(obj)})
        now, conditions = self._cluster.timestamp(), list(status(namespace).get("conditions") or ())
        remaining = {
            "type": "NamespaceContentRemaining",
            "status": "True",
            "reason": "SomeResourcesRemain",
            "message": f"Some resources are remaining: {counts}",
        }
        held = {
            "type": "NamespaceFinalizersRemaining",
            "status": "True" if finalizers else "False",
            "reason": "SomeFinalizersRemain" if finalizers else "ContentHasNoFinalizers",
            "message": f"Some content in the namespace has finalizers remaining: {', '.join(finalizers)}"
            if finalizers
            else "All content-preserving finalizers finished",
        }
        for each in (remaining, held):
            conditions = with_condition(conditions, each, now)
        await self._cluster.set_status(NAMESPACES, namespace, {**status(namespace), "conditions": conditions})

    async def _finalize(self, namespace: JSON) -> None:
        finalizers = [each for each in namespace["spec"].get("finalizers") or () if each != FINALIZER]
        done = {**namespace, "spec": {**namespace["spec"], "finalizers": finalizers}}
        await self._cluster.api.replace(NAMESPACES, done, subresource="finalize", options=MANAGER)


def _finalizers(obj: JSON) -> Sequence[str]:
    return obj["metadata"].get("finalizers") or ()


def _stages(resources: Iterable[Resource]) -> tuple[list[Resource], list[Resource], list[Resource]]:
    known = list(resources)
    pods = WELL_KNOWN.pods
    rest = [resource for resource in known if resource.kind not in WORKLOADS and resource != pods]
    return [resource for resource in known if resource.kind in WORKLOADS], [pods], rest
