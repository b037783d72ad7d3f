"""Service: keeps its EndpointSlices, its Endpoints and its load balancer's address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.endpoints import (
    CONTROLLER,
    MANAGED_BY,
    SERVICE_NAME,
    ZONE,
    endpoints_object,
    families,
    family_of,
    is_selected,
    slices,
)
from mizzen.embedded.controllers.objects import is_deleting, labels_of, status
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists
from mizzen.kube.reflector import Change, Key, key_of

SERVICES, PODS, SLICES = WELL_KNOWN.services, WELL_KNOWN.pods, WELL_KNOWN.endpointslices
ENDPOINTS, NODES = WELL_KNOWN.endpoints, WELL_KNOWN.nodes


class Services:
    """`load_balancer_addresses` are what Services of type LoadBalancer get, as far as they have those IP families; none
    leaves them pending."""

    def __init__(self, cluster: Cluster, load_balancer_addresses: Sequence[str]) -> None:
        self._cluster = cluster
        self._addresses = load_balancer_addresses
        self.slices = Worklist("endpointslice", self.sync_slices)
        self.endpoints = Worklist("endpoints", self.sync_endpoints)
        self.load_balancers = Worklist("load balancer", self.sync_load_balancer)
        for work in (self.slices, self.endpoints):
            cluster.feed(SERVICES, work)
            cluster.feed(PODS, work, self._services_of)
        cluster.feed(SERVICES, self.load_balancers)
        cluster.feed(SLICES, self.slices, _service_of_slice)
        cluster.feed(ENDPOINTS, self.endpoints)
        cluster.feed(NODES, self.slices, self._all_services)

    def _services_of(self, change: Change) -> Iterable[Key]:
        seen = [pod for pod in (change.old, change.new) if pod is not None]
        for service in self._cluster.within(SERVICES, change.key[0]):
            if any(is_selected(service, pod) for pod in seen):
                yield key_of(service)

    def _all_services(self, change: Change) -> Iterable[Key]:
        """A node that appears, or moves to another zone."""
        if change.old is None or change.new is None or labels_of(change.old) != labels_of(change.new):
            yield from self._cluster.all(SERVICES)

    async def sync_slices(self, key: Key) -> float | None:
        service = self._cluster.get(SERVICES, key)
        if service is None or is_deleting(service):
            return None
        present = self._slices_of(key)
        wanted = slices(service, self._pods(service), self._zones(), present) if _has_selector(service) else []
        kept = set()
        for each in wanted:
            made = await self._write_slice(each, present)
            kept.add(made["metadata"]["name"])
        for each in present:
            if each["metadata"]["name"] not in kept:
                await self._cluster.delete(SLICES, each)
        return None

    async def _write_slice(self, wanted: JSON, present: list[JSON]) -> JSON:
        name = wanted["metadata"].get("name")
        old = next((each for each in present if each["metadata"]["name"] == name), None)
        if old is None:
            return await self._cluster.create(SLICES, wanted)
        return old if _agree(old, wanted, "endpoints") else await self._cluster.replace(SLICES, wanted)

    def _slices_of(self, key: Key) -> list[JSON]:
        """Ours alone: users may keep slices of their own for the same Service."""
        ours = {SERVICE_NAME: key[1], MANAGED_BY: CONTROLLER}.items()
        return [each for each in self._cluster.within(SLICES, key[0]) if ours <= labels_of(each).items()]

    def _pods(self, service: JSON) -> list[JSON]:
        return [pod for pod in self._cluster.within(PODS, key_of(service)[0]) if is_selected(service, pod)]

    def _zones(self) -> Mapping[str, str]:
        nodes = self._cluster.all(NODES).items()
        return {name: labels_of(node)[ZONE] for (_, name), node in nodes if ZONE in labels_of(node)}

    async def sync_endpoints(self, key: Key) -> float | None:
        service, present = self._cluster.get(SERVICES, key), self._cluster.get(ENDPOINTS, key)
        if service is None:
            if present is not None and "endpoints.kubernetes.io/managed-by" in labels_of(present):
                await self._cluster.delete(ENDPOINTS, present)
            return None
        if is_deleting(service) or not _has_selector(service):
            return None
        wanted = endpoints_object(service, self._pods(service), present)
        if present is None:
            await self._create_endpoints(wanted)
        elif not _agree(present, wanted, "subsets"):
            await self._cluster.replace(ENDPOINTS, wanted)
        return None

    async def _create_endpoints(self, wanted: JSON) -> None:
        try:
            await self._cluster.create(ENDPOINTS, wanted)
        except AlreadyExists:
            name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
            self._cluster.written(ENDPOINTS, await self._cluster.api.get(ENDPOINTS, name, namespace))

    async def sync_load_balancer(self, key: Key) -> float | None:
        service = self._cluster.get(SERVICES, key)
        if service is None or is_deleting(service):
            return None
        wanted: JSON = {}
        own = [address for address in self._addresses if family_of(address) in families(service)]
        if service["spec"].get("type") == "LoadBalancer" and own:
            wanted = {"ingress": [{"ip": address, "ipMode": "VIP"} for address in own]}
        if (status(service).get("loadBalancer") or {}) != wanted:
            await self._cluster.set_status(SERVICES, service, {**status(service), "loadBalancer": wanted})
        return None


def _service_of_slice(change: Change) -> Iterable[Key]:
    labels = labels_of(change.latest)
    if labels.get(MANAGED_BY) == CONTROLLER:
        yield change.key[0], labels.get(SERVICE_NAME, "")


def _has_selector(service: JSON) -> bool:
    return bool(service["spec"].get("selector")) and service["spec"].get("type") != "ExternalName"


def _agree(old: JSON, wanted: JSON, content: str) -> bool:
    same_labels = labels_of(old) == wanted["metadata"]["labels"]
    return same_labels and all((old.get(key) or []) == (wanted.get(key) or []) for key in (content, "ports"))
