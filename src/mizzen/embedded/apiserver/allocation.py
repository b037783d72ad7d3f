"""Cluster IPs and node ports: which are taken, and by which Service.

The Services themselves are the record; this is the index over them, kept by a listener of the store, plus what is
reserved for writes on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from mizzen.embedded.apiserver import errors, ip_families
from mizzen.embedded.apiserver.errors import Cause
from mizzen.embedded.apiserver.store_entries import Event
from mizzen.kube.api import JSON

SERVICE_RANGES: Mapping[str, IPv4Network | IPv6Network] = {
    "IPv4": IPv4Network("10.96.0.0/16"),
    "IPv6": IPv6Network("fd00:10:96::/112"),
}
NODE_PORTS = range(30000, 32768)
RESERVED_ADDRESSES = {"10.96.0.1": ("default", "kubernetes"), "10.96.0.10": ("kube-system", "kube-dns")}
FIRST_FREE = 256
"""Addresses below are given only when asked for, as Kubernetes keeps its lower band for static ones."""


@dataclass(slots=True)
class _Pool:
    """Values held by uid; a value has one holder."""

    holders: dict[str, str] = field(default_factory=dict)

    def hold(self, uid: str, values: Iterable[str]) -> None:
        self.release(uid)
        for value in values:
            self.holders[value] = uid

    def release(self, uid: str) -> None:
        for value in [value for value, holder in self.holders.items() if holder == uid]:
            del self.holders[value]

    def taken_by_other(self, value: str, uid: str) -> bool:
        return self.holders.get(value, uid) != uid


class Allocations:
    """`choose` picks an index below its argument; it is passed in because it is chance. `families` are those that
    Services may have, the default first."""

    def __init__(self, choose: Callable[[int], int], families: Sequence[str] = ("IPv4",)) -> None:
        self._choose = choose
        self._families = families
        self._addresses = _Pool()
        self._ports = _Pool()

    def service_changed(self, event: Event) -> None:
        """A listener for the store's Services."""
        uid = event.entry.uid
        if event.type == "DELETED":
            self.release(uid)
        else:
            self._hold(uid, event.entry.document()["spec"])

    def release(self, uid: str) -> None:
        self._addresses.release(uid)
        self._ports.release(uid)

    def restore(self, uid: str, service: JSON) -> None:
        """Hold what the stored object says: a write of it did not happen."""
        self._hold(uid, service["spec"])

    def allocate(self, service: JSON, old: JSON | None) -> list[Cause]:
        """Fill in IP families, `clusterIP(s)` and `nodePort`s as the type wants, and hold them.

        Answers what is wrong.
        """
        spec, uid = service["spec"], service["metadata"]["uid"]
        before = (old or {}).get("spec", {})
        causes = ip_families.settle(spec, before, self._families) or self._cluster_ips(service)
        causes += self._node_ports(spec, before, uid)
        if not causes:
            self._hold(uid, spec)
        return causes

    def _hold(self, uid: str, spec: JSON) -> None:
        self._addresses.hold(uid, [each for each in spec.get("clusterIPs") or () if each != "None"])
        ports = [spec.get("healthCheckNodePort"), *(port.get("nodePort") for port in spec.get("ports") or ())]
        self._ports.hold(uid, {str(port) for port in ports if port})

    def _cluster_ips(self, service: JSON) -> list[Cause]:
        """One of each of the Service's families."""
        spec, uid = service["spec"], service["metadata"]["uid"]
        if spec.get("type") == "ExternalName" or spec["clusterIP"] == ip_families.HEADLESS:
            return []
        asked = spec["clusterIPs"]
        causes = [cause for address in asked for cause in self._check_address(address, service)]
        if not causes:
            spec["clusterIPs"] = [*asked, *(self._free_address(uid, each) for each in spec["ipFamilies"][len(asked) :])]
            spec["clusterIP"] = spec["clusterIPs"][0]
        return causes

    def _check_address(self, address: str, service: JSON) -> list[Cause]:
        metadata, network = service["metadata"], SERVICE_RANGES[ip_families.family_of(address)]
        if ip_address(address) not in network:
            why = f"failed to allocate IP {address}: the provided IP is not in the valid range {network}"
            return [errors.invalid_value("spec.clusterIPs", [address], why)]
        owner = RESERVED_ADDRESSES.get(address, (metadata.get("namespace"), metadata["name"]))
        if self._addresses.taken_by_other(address, metadata["uid"]) or owner != (
            metadata["namespace"],
            metadata["name"],
        ):
            why = f"failed to allocate IP {address}: provided IP is already allocated"
            return [errors.invalid_value("spec.clusterIPs", [address], why)]
        return []

    def _free_address(self, uid: str, family: str) -> str:
        network = SERVICE_RANGES[family]
        size = network.num_addresses - FIRST_FREE - 1
        start = self._choose(size)
        for step in range(size):
            address = str(network[FIRST_FREE + (start + step) % size])
            if not self._addresses.taken_by_other(address, uid):
                return address
        raise errors.internal("failed to allocate a serviceIP: range is full")

    def _node_ports(self, spec: JSON, before: JSON, uid: str) -> list[Cause]:
        wants = (
            spec.get("type") in ("NodePort", "LoadBalancer") and spec.get("allocateLoadBalancerNodePorts") is not False
        )
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
            return []
        causes: list[Cause] = []
        earlier = {_port_key(port): port["nodePort"] for port in before.get("ports") or () if port.get("nodePort")}
        used: dict[str, str] = {}
        for index, port in enumerate(spec.get("ports") or ()):
            asked = port.get("nodePort") or earlier.get(_port_key(port))
            if asked:
                causes += self._check_port(index, port, asked, uid, used)
            elif wants:
                asked = self._free_port(uid, used)
            if asked:
                port["nodePort"] = asked
                used[str(asked)] = port.get("protocol", "TCP")
        return causes

    def _check_port(self, index: int, port: JSON, asked: int, uid: str, used: dict[str, str]) -> list[Cause]:
        field_path = f"spec.ports[{index}].nodePort"
        if asked not in NODE_PORTS:
            why = (
                f"provided port is not in the valid range. The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
            )
            return [errors.invalid_value(field_path, asked, why)]
        twice = used.get(str(asked)) == port.get("protocol", "TCP")
        if twice or self._ports.taken_by_other(str(asked), uid):
            return [errors.invalid_value(field_path, asked, "provided port is already allocated")]
        return []

    def _free_port(self, uid: str, used: dict[str, str]) -> int:
        start = self._choose(len(NODE_PORTS))
        for step in range(len(NODE_PORTS)):
            port = NODE_PORTS[(start + step) % len(NODE_PORTS)]
            if str(port) not in used and str(port) not in self._ports.holders:
                return port
        raise errors.internal("failed to allocate a nodePort: range is full")


def _port_key(port: JSON) -> tuple[object, object]:
    return (port.get("protocol", "TCP"), port.get("port"))
