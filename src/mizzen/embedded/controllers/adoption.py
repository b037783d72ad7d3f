"""Which objects a controller looks after: its own and the orphans that its selector matches; others it lets go.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#non-template-pod-acquisitions
"""

from __future__ import annotations

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import is_deleting, labels_of, owner_reference
from mizzen.kube.api import JSON, Resource
from mizzen.kube.reflector import key_of
from mizzen.kube.selectors import select_labels


async def claim(cluster: Cluster, resource: Resource, owner: JSON) -> list[JSON]:
    """The objects of `resource` that are `owner`'s, after adopting and releasing."""
    holds = select_labels((owner.get("spec") or {}).get("selector"))
    mine = []
    for obj in cluster.controlled(resource, owner):
        if holds(labels_of(obj)) or is_deleting(owner):
            mine.append(obj)
        else:
            await _release(cluster, resource, obj, owner)
    if is_deleting(owner):
        return mine
    orphans = cluster.uncontrolled(resource, key_of(owner)[0])
    matching = [obj for obj in orphans if holds(labels_of(obj)) and not is_deleting(obj)]
    return mine + [await _adopt(cluster, resource, obj, owner) for obj in matching]


async def _adopt(cluster: Cluster, resource: Resource, obj: JSON, owner: JSON) -> JSON:
    references = [*(obj["metadata"].get("ownerReferences") or ()), owner_reference(owner)]
    return await cluster.patch(resource, obj, {"metadata": _guarded(obj, references)})


async def _release(cluster: Cluster, resource: Resource, obj: JSON, owner: JSON) -> None:
    references = obj["metadata"].get("ownerReferences") or ()
    others = [each for each in references if each["uid"] != owner["metadata"]["uid"]]
    await cluster.patch(resource, obj, {"metadata": _guarded(obj, others)})


def _guarded(obj: JSON, references: list[JSON]) -> JSON:
    """Two controllers must not adopt at once: the second finds another revision and looks again."""
    return {"ownerReferences": references, "resourceVersion": obj["metadata"]["resourceVersion"]}
