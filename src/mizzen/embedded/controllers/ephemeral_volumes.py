"""Claims that Pods bring along: each `ephemeral` volume has one of its own, which goes with the Pod.

https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import is_deleting, owner_reference
from mizzen.embedded.controllers.statefulsets import CLAIMS
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists
from mizzen.kube.reflector import Change, Key


class EphemeralVolumes:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("ephemeralvolume", self.sync)
        cluster.feed(WELL_KNOWN.pods, self.work, _with_ephemeral_volumes)

    async def sync(self, key: Key) -> float | None:
        pod = self._cluster.get(WELL_KNOWN.pods, key)
        if pod is None or is_deleting(pod):
            return None
        for volume in ephemeral_volumes(pod):
            with contextlib.suppress(AlreadyExists):
                await self._cluster.create(CLAIMS, claim(pod, volume))
        return None


def ephemeral_volumes(pod: JSON) -> list[JSON]:
    return [volume for volume in pod["spec"].get("volumes") or () if "ephemeral" in volume]


def claim_name(pod: JSON, volume: JSON) -> str:
    return f"{pod['metadata']['name']}-{volume['name']}"


def claim(pod: JSON, volume: JSON) -> JSON:
    """Named after Pod and volume, and owned by the Pod."""
    template = volume["ephemeral"].get("volumeClaimTemplate") or {}
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if value}
    owner = owner_reference({"apiVersion": "v1", "kind": "Pod", **pod})
    metadata |= {"name": claim_name(pod, volume), "namespace": pod["metadata"]["namespace"], "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": CLAIMS.kind, "metadata": metadata, "spec": template.get("spec") or {}}


def _with_ephemeral_volumes(change: Change) -> Iterable[Key]:
    if change.new is not None and ephemeral_volumes(change.new):
        yield change.key
