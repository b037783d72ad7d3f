"""PersistentVolumeClaims: each gets a folder of its own on the one node.

https://kubernetes.io/docs/concepts/storage/persistent-volumes/
"""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import annotations_of, is_deleting, status
from mizzen.embedded.controllers.statefulsets import CLAIMS
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, AlreadyExists, Resource
from mizzen.kube.reflector import Change, Key

VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
VOLUME_FOLDER = "/var/lib/mizzen/volumes"
"""Where the node makes the folders, if nothing else is said."""
PROVISIONER = "mizzen.dev/folder"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


class Volumes:
    def __init__(self, cluster: Cluster, folder: str) -> None:
        self._cluster = cluster
        self._folder = folder
        self.work = Worklist("persistentvolumeclaim", self.sync)
        cluster.feed(CLAIMS, self.work)
        cluster.feed(VOLUMES, self.work, _claim_of)

    async def sync(self, key: Key) -> float | None:
        claim = self._cluster.get(CLAIMS, key)
        if claim is None or (is_deleting(claim) and not claim["metadata"].get("finalizers")):
            await self._release(key)
            return None
        if is_deleting(claim) or status(claim).get("phase") == "Bound":
            return None
        volume = await self._volume(claim)
        bound = {"volumeName": volume["metadata"]["name"]}
        if claim["spec"].get("volumeName") != bound["volumeName"]:
            claim = await self._cluster.patch(CLAIMS, claim, {"spec": bound})
        capacity = {"capacity": volume["spec"]["capacity"], "accessModes": claim["spec"].get("accessModes") or []}
        await self._cluster.set_status(CLAIMS, claim, {**status(claim), "phase": "Bound", **capacity})
        await self._cluster.set_status(VOLUMES, volume, {**status(volume), "phase": "Bound"})
        return None

    async def _volume(self, claim: JSON) -> JSON:
        wanted = self._volume_for(claim)
        named = claim["spec"].get("volumeName")
        present = self._cluster.get(VOLUMES, ("", named or wanted["metadata"]["name"]))
        if present is not None:
            return present
        try:
            return await self._cluster.create(VOLUMES, wanted)
        except AlreadyExists:
            return await self._cluster.api.get(VOLUMES, wanted["metadata"]["name"])

    def _volume_for(self, claim: JSON) -> JSON:
        metadata, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{metadata['uid']}"
        path = f"{self._folder}/{metadata['namespace']}/{metadata['name']}_{metadata['uid']}"
        reference = {key: metadata[key] for key in ("name", "namespace", "uid")}
        return {
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "capacity": (spec.get("resources") or {}).get("requests") or {"storage": "1Gi"},
                "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": spec.get("storageClassName") or "",
                "hostPath": {"path": path, "type": "DirectoryOrCreate"},
                "claimRef": {"apiVersion": "v1", "kind": CLAIMS.kind, **reference},
            },
        }

    async def _release(self, key: Key) -> None:
        """Volumes that were made for a claim go with it."""
        for volume in list(self._cluster.all(VOLUMES).values()):
            reference = volume["spec"].get("claimRef") or {}
            made_here = annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER
            if made_here and (reference.get("namespace"), reference.get("name")) == key:
                await self._cluster.delete(VOLUMES, volume)


def _claim_of(change: Change) -> Iterable[Key]:
    reference = change.latest["spec"].get("claimRef")
    if reference:
        yield reference["namespace"], reference["name"]
