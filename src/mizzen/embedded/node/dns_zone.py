"""The cluster's DNS zone as a value: names to records, from Services and EndpointSlices. Pure.

https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, TypeAlias

from mizzen.kube.api import JSON

Labels: TypeAlias = tuple[str, ...]
_SERVICE_NAME = "kubernetes.io/service-name"
_SPECIFICATION = "1.1.0"
_PRIORITY, _WEIGHT = 0, 100


@dataclass(frozen=True, slots=True)
class Record:
    """`type` is A, AAAA, CNAME, SRV, PTR or TXT; `data` is its text in a zone file, names in it absolute."""

    type: str
    data: str


@dataclass(frozen=True, slots=True)
class _Endpoint:
    address: str
    hostname: str

    @property
    def label(self) -> str:
        return self.hostname or self.address.replace(".", "-").replace(":", "-")


@dataclass(frozen=True)
class Zone:
    """Everything below `domain`, and the names of addresses. Look-ups cost no more than their own answer."""

    domain: str = "cluster.local"
    services: Mapping[tuple[str, str], JSON] = field(default_factory=dict)
    """By (namespace, name)."""
    endpoints: Mapping[tuple[str, str], tuple[_Endpoint, ...]] = field(default_factory=dict)
    """Ready ones, by Service."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Address to the absolute name that it answers for."""

    @classmethod
    def of(cls, services: Iterable[JSON], slices: Iterable[JSON], domain: str = "cluster.local") -> Zone:
        by_name = {_name(service): service for service in services}
        endpoints = _endpoints(slices)
        return cls(domain, by_name, endpoints, dict(_reverse(by_name, endpoints, domain)))

    def records(self, labels: Labels) -> tuple[Record, ...] | None:
        """All records of a name, given by its labels below the domain, in lower case. None: there is no such name."""
        match labels:
            case () | ("svc",) | ("pod",):
                return ()
            case ("dns-version",):
                return (Record("TXT", f'"{_SPECIFICATION}"'),)
            case (dashed, _, "pod"):
                return _pod(dashed)
            case (namespace, "svc"):
                return () if any(known == namespace for known, _ in self.services) else None
            case (*below, name, namespace, "svc"):
                service = self.services.get((namespace, name))
                return None if service is None else self._below_service(service, tuple(below))
        return None

    def pointer(self, address: str) -> tuple[Record, ...] | None:
        """The PTR record of an address. None: it is nobody's here."""
        name = self.names.get(_canonical(address))
        return None if name is None else (Record("PTR", name),)

    def _below_service(self, service: JSON, below: Labels) -> tuple[Record, ...] | None:
        match below:
            case ():
                return self._of_service(service)
            case ("_tcp" | "_udp",):
                return ()
            case (host,):
                found = [one for one in self._headless_endpoints(service) if one.label == host]
                return tuple(_address(one.address) for one in found) or None
            case (port, protocol):
                return self._ports(service, port.removeprefix("_"), protocol.removeprefix("_")) or None
        return None

    def _of_service(self, service: JSON) -> tuple[Record, ...]:
        spec = service["spec"]
        if spec.get("type") == "ExternalName":
            return (Record("CNAME", _absolute(spec["externalName"])),)
        if _is_headless(service):
            addresses = sorted({one.address for one in self._headless_endpoints(service)})
            return tuple(map(_address, addresses))
        return tuple(map(_address, _cluster_ips(service)))

    def _headless_endpoints(self, service: JSON) -> tuple[_Endpoint, ...]:
        return self.endpoints.get(_name(service), ()) if _is_headless(service) else ()

    def _ports(self, service: JSON, port_name: str, protocol: str) -> tuple[Record, ...]:
        name = service_name(service, self.domain)
        targets = [name]
        if _is_headless(service):
            labels = dict.fromkeys(one.label for one in self._headless_endpoints(service))
            targets = [f"{label}.{name}" for label in labels]
        return tuple(
            Record("SRV", f"{_PRIORITY} {_WEIGHT} {port['port']} {target}")
            for port in service["spec"].get("ports") or ()
            if port.get("name", "") == port_name and port.get("protocol", "TCP").lower() == protocol
            for target in targets
        )


def service_name(service: JSON, domain: str) -> str:
    """Absolute, with its final dot."""
    namespace, name = _name(service)
    return f"{name}.{namespace}.svc.{domain}."


def _endpoints(slices: Iterable[JSON]) -> dict[tuple[str, str], tuple[_Endpoint, ...]]:
    found: dict[tuple[str, str], list[_Endpoint]] = defaultdict(list)
    for one in slices:
        metadata = one["metadata"]
        name = (metadata.get("labels") or {}).get(_SERVICE_NAME)
        if name and one.get("addressType") in ("IPv4", "IPv6"):
            found[metadata.get("namespace", ""), name] += _ready(one.get("endpoints") or ())
    return {service: tuple(endpoints) for service, endpoints in found.items()}


def _ready(endpoints: Iterable[Mapping[str, Any]]) -> list[_Endpoint]:
    return [
        _Endpoint(address, endpoint.get("hostname") or "")
        for endpoint in endpoints
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in endpoint["addresses"]
    ]


def _reverse(
    services: Mapping[tuple[str, str], JSON], endpoints: Mapping[tuple[str, str], tuple[_Endpoint, ...]], domain: str
) -> Iterable[tuple[str, str]]:
    for key, service in services.items():
        name = service_name(service, domain)
        if _is_headless(service):
            yield from ((_canonical(one.address), f"{one.label}.{name}") for one in endpoints.get(key, ()))
        elif service["spec"].get("type") != "ExternalName":
            yield from ((_canonical(address), name) for address in _cluster_ips(service))


def _pod(dashed: str) -> tuple[Record, ...] | None:
    """`10-244-0-5.NAMESPACE.pod`, `fd00-10-244--a.NAMESPACE.pod`: the name says the address."""
    is_ipv4 = dashed.count("-") == 3 and "--" not in dashed
    try:
        return (_address(_canonical(dashed.replace("-", "." if is_ipv4 else ":"))),)
    except ValueError:
        return None


def _address(address: str) -> Record:
    return Record("AAAA" if ":" in address else "A", address)


def _canonical(address: str) -> str:
    return str(ip_address(address))


def _is_headless(service: JSON) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def _cluster_ips(service: JSON) -> list[str]:
    spec = service["spec"]
    every = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [address for address in every if address]


def _name(obj: JSON) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _absolute(name: str) -> str:
    return name if name.endswith(".") else f"{name}."
