"""Endpoints that users write for Services without a selector, mirrored into the EndpointSlices that meshes read.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#endpointslice-mirroring
"""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.endpoints import MANAGED_BY, SERVICE_NAME, family_of
from mizzen.embedded.controllers.objects import is_deleting, labels_of, owner_reference
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN
from mizzen.kube.reflector import Change, Key

SERVICES, SLICES, ENDPOINTS = WELL_KNOWN.services, WELL_KNOWN.endpointslices, WELL_KNOWN.endpoints
CONTROLLER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"


class Mirrors:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("endpoints mirror", self.sync)
        cluster.feed(ENDPOINTS, self.work)
        cluster.feed(SERVICES, self.work)
        cluster.feed(SLICES, self.work, _mirror_of)

    async def sync(self, key: Key) -> float | None:
        ours = {SERVICE_NAME: key[1], MANAGED_BY: CONTROLLER}.items()
        present = [each for each in self._cluster.within(SLICES, key[0]) if ours <= labels_of(each).items()]
        wanted = self._wanted(key)
        for old, new in zip(present, wanted, strict=False):
            if any(old.get(part) != new[part] for part in ("addressType", "endpoints", "ports")):
                await self._cluster.replace(SLICES, {**old, **new, "metadata": old["metadata"]})
        for new in wanted[len(present) :]:
            await self._cluster.create(SLICES, new)
        for old in present[len(wanted) :]:
            await self._cluster.delete(SLICES, old)
        return None

    def _wanted(self, key: Key) -> list[JSON]:
        service, endpoints = self._cluster.get(SERVICES, key), self._cluster.get(ENDPOINTS, key)
        if service is None or endpoints is None or is_deleting(service) or service["spec"].get("selector"):
            return []
        if labels_of(endpoints).get(SKIP) == "true" or "endpoints.kubernetes.io/managed-by" in labels_of(endpoints):
            return []
        subsets = endpoints.get("subsets") or ()
        slices = (_slice(endpoints, subset, family) for subset in subsets for family in ("IPv4", "IPv6"))
        return [each for each in slices if each["endpoints"]]


def _mirror_of(change: Change) -> Iterable[Key]:
    labels = labels_of(change.latest)
    if labels.get(MANAGED_BY) == CONTROLLER:
        yield change.key[0], labels.get(SERVICE_NAME, "")


def _slice(endpoints: JSON, subset: JSON, family: str) -> JSON:
    """What the subset holds of one IP family."""
    metadata = endpoints["metadata"]
    ready = [_endpoint(address, True) for address in _of(family, subset.get("addresses"))]
    others = [_endpoint(address, False) for address in _of(family, subset.get("notReadyAddresses"))]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": {**labels_of(endpoints), SERVICE_NAME: metadata["name"], MANAGED_BY: CONTROLLER},
            "ownerReferences": [owner_reference(endpoints)],
        },
        "addressType": family,
        "ports": [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or ()],
        "endpoints": [*ready, *others],
    }


def _of(family: str, addresses: Iterable[JSON] | None) -> list[JSON]:
    return [each for each in addresses or () if family_of(each["ip"]) == family]


def _endpoint(address: JSON, ready: bool) -> JSON:
    kept: JSON = {key: address[key] for key in ("hostname", "nodeName", "targetRef") if key in address}
    return {"addresses": [address["ip"]], "conditions": {"ready": ready}, **kept}
