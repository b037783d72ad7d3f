"""A PersistentVolumeClaim that is deleted goes only when no Pod uses it any more.

https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.ephemeral_volumes import claim_name
from mizzen.embedded.controllers.objects import controller_of, is_deleting, moment, status
from mizzen.embedded.controllers.statefulsets import CLAIMS
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.reflector import Change, Key

FINALIZER = "kubernetes.io/pvc-protection"


class ClaimProtection:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("claimprotection", self.sync)
        cluster.feed(CLAIMS, self.work)
        cluster.feed(WELL_KNOWN.pods, self.work, _claims_of)

    async def sync(self, key: Key) -> float | None:
        claim = self._cluster.get(CLAIMS, key)
        if claim is None:
            return None
        finalizers = claim["metadata"].get("finalizers") or []
        if not is_deleting(claim) and FINALIZER not in finalizers:
            await self._set(claim, [*finalizers, FINALIZER])  # it was stored before there was this protection
        elif is_deleting(claim) and FINALIZER in finalizers and not await self._is_used(claim):
            await self._set(claim, [each for each in finalizers if each != FINALIZER])
        return None

    async def _set(self, claim: JSON, finalizers: list[str]) -> None:
        """Raises Conflict when somebody else changed it."""
        version = claim["metadata"]["resourceVersion"]
        await self._cluster.patch(CLAIMS, claim, {"metadata": {"finalizers": finalizers, "resourceVersion": version}})

    async def _is_used(self, claim: JSON) -> bool:
        """Before it goes for good the server is asked as well: our watch may be behind."""
        namespace = claim["metadata"]["namespace"]
        if any(uses(pod, claim) for pod in self._cluster.within(WELL_KNOWN.pods, namespace)):
            return True
        present = (await self._cluster.api.list(WELL_KNOWN.pods, namespace)).items
        return any(uses(pod, claim) for pod in present)


def uses(pod: JSON, claim: JSON) -> bool:
    """Whether a Pod holds a claim: once it has a node, and until it is gone, however it ended.

    One that came after the claim's deletion holds nothing: the node does not start it.
    """
    if not pod["spec"].get("nodeName") or _came_too_late(pod, claim):
        return False
    name, own = claim["metadata"]["name"], (controller_of(claim) or {}).get("uid") == pod["metadata"]["uid"]
    for volume in pod["spec"].get("volumes") or ():
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name:
            return True
        if "ephemeral" in volume and own and claim_name(pod, volume) == name and not _is_shut_down(pod):
            return True
    return False


def _came_too_late(pod: JSON, claim: JSON) -> bool:
    """Times are in seconds: within one, whether the node has given the Pod an address tells which was first."""
    deleted, started = claim["metadata"].get("deletionTimestamp"), bool(status(pod).get("podIP"))
    return bool(deleted) and not started and moment(pod["metadata"]["creationTimestamp"]) >= moment(deleted)


def _is_shut_down(pod: JSON) -> bool:
    """The node is done with it: what is left are others' finalizers, which may wait for the claim."""
    return is_deleting(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0


def _claims_of(change: Change) -> Iterable[Key]:
    """Pods matter when they come to an end, be it only that of their grace."""
    if change.new is None or is_deleting(change.new):
        yield from _named(change.latest)


def _named(pod: JSON) -> Iterator[Key]:
    namespace = pod["metadata"]["namespace"]
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield namespace, volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield namespace, claim_name(pod, volume)
