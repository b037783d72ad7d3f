"""Which services there are: Kubernetes Services as the mesh sees them, by namespace and by host.

Protocol selection: https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mizzen.api.base import Model
from mizzen.api.core import IntOrString, Service, ServicePort
from mizzen.api.mesh import MeshConfig
from mizzen.scope.hosts import service_host
from mizzen.scope.memo import Memo
from mizzen.scope.model import Protocol, Resolution
from mizzen.scope.snapshot import Snapshot, Table
from mizzen.scope.visibility import Audience, service_audience

WORDS = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "https": Protocol.HTTPS,
    "http_proxy": Protocol.HTTP_PROXY,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC_WEB,
    "tcp": Protocol.TCP,
    "tls": Protocol.TLS,
    "mongo": Protocol.MONGO,
    "mysql": Protocol.MYSQL,
    "redis": Protocol.REDIS,
    "udp": Protocol.UDP,
}
KUBERNETES_WORDS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
SERVER_FIRST_PORTS = frozenset({25, 53, 3306, 27017})
"""SMTP, DNS, MySQL, MongoDB: waiting for the client's first bytes would hang, so without a word they are TCP."""


def word(text: str) -> Protocol:
    """The protocol a word names, in any case; AUTO for words Istio does not know."""
    return WORDS.get(text.lower(), Protocol.AUTO)


def _named(text: str) -> Protocol:
    """`grpc-web-1` is gRPC-Web, `grpc-1` gRPC, `mysql` MySQL."""
    lowered = text.lower()
    if lowered.startswith("grpc-web") and lowered[8:9] in ("", "-"):
        return Protocol.GRPC_WEB
    return word(lowered.partition("-")[0])


def selected_protocol(port: int, name: str, app_protocol: str | None, transport: str = "TCP") -> Protocol:
    """`appProtocol` beats the port's name; neither means the first bytes decide, except on server-first ports."""
    if transport == "UDP":
        return Protocol.UDP
    chosen = KUBERNETES_WORDS.get((app_protocol or "").lower()) or _named(app_protocol or name)
    if chosen is Protocol.AUTO and port in SERVER_FIRST_PORTS:
        return Protocol.TCP
    return chosen


class MeshPort(Model):
    number: int
    name: str
    protocol: Protocol
    target: IntOrString
    """The container's port, by number or by name."""


class MeshService(Model):
    """One Service as callers see it."""

    host: str
    name: str
    namespace: str
    ports: tuple[MeshPort, ...]
    """Without UDP: the mesh leaves that alone."""
    addresses: tuple[str, ...]
    """ClusterIPs, one of each IP family; empty when headless."""
    resolution: Resolution
    audience: Audience
    object: Service
    alias_of: str = ""
    """ExternalName: the host it stands for. It has no ports of its own."""

    @property
    def headless(self) -> bool:
        return self.resolution is Resolution.ORIGINAL_DST

    @property
    def first_family(self) -> str:
        """`IPv4` or `IPv6`: the one that callers are sent to when there are both."""
        families = self.object.spec.ip_families
        return families[0] if families else "IPv6" if self.addresses and ":" in self.addresses[0] else "IPv4"

    def port(self, number: int) -> MeshPort | None:
        return next((port for port in self.ports if port.number == number), None)


def mesh_service(service: Service, export_default: tuple[str, ...]) -> MeshService:
    spec, meta = service.spec, service.metadata
    external = spec.type == "ExternalName"
    headless = spec.cluster_ip == "None"
    addresses = () if headless or not spec.cluster_ip else spec.cluster_ips or (spec.cluster_ip,)
    return MeshService(
        host=service_host(meta.name, meta.namespace),
        name=meta.name,
        namespace=meta.namespace,
        ports=() if external else tuple(_ports(spec.ports)),
        addresses=addresses,
        resolution=Resolution.ORIGINAL_DST if headless else Resolution.EDS,
        audience=service_audience(service, export_default),
        object=service,
        alias_of=spec.external_name.rstrip(".") if external else "",
    )


def _ports(ports: Iterable[ServicePort]) -> Iterable[MeshPort]:
    for port in ports:
        protocol = selected_protocol(port.port, port.name, port.app_protocol, port.protocol)
        if protocol is not Protocol.UDP:
            target = port.target_port if port.target_port is not None else port.port
            yield MeshPort(number=port.port, name=port.name, protocol=protocol, target=target)


class Catalog:
    """A set of services: all of the mesh, or those that one namespace may see."""

    def __init__(self, services: Iterable[MeshService]) -> None:
        ordered = sorted(services, key=lambda service: (service.namespace, service.name))
        self.by_host: Mapping[str, MeshService] = {service.host: service for service in ordered}
        groups: dict[str, list[MeshService]] = {}
        for service in ordered:
            groups.setdefault(service.namespace, []).append(service)
        self.by_namespace: Mapping[str, tuple[MeshService, ...]] = {
            namespace: tuple(members) for namespace, members in groups.items()
        }
        self.aliases = _aliases(ordered, self.by_host)
        self.special_namespaces = frozenset().union(*(service.audience.named for service in ordered))

    def seen_from(self, namespace: str) -> Catalog:
        return Catalog(service for service in self.by_host.values() if service.audience.admits(namespace))

    def resolve(self, host: str) -> MeshService | None:
        """The service behind a host; an alias leads to what it stands for."""
        service = self.by_host.get(host)
        return self.by_host.get(service.alias_of) if service and service.alias_of else service


class Reach:
    """The part of a catalog that a few rules mention; it stays the same while others change."""

    def __init__(self, hosts: tuple[str, ...], found: tuple[MeshService | None, ...], aliases: tuple[str, ...]) -> None:
        """`aliases` are pairs of a host and its other name, with a space between."""
        self._found = dict(zip(hosts, found, strict=True))
        self.aliases: dict[str, tuple[str, ...]] = {}
        for host, _, alias in (pair.partition(" ") for pair in aliases):
            self.aliases[host] = (*self.aliases.get(host, ()), alias)

    def resolve(self, host: str) -> MeshService | None:
        return self._found.get(host)


def _aliases(services: Iterable[MeshService], by_host: Mapping[str, MeshService]) -> Mapping[str, tuple[str, ...]]:
    aliases: dict[str, tuple[str, ...]] = {}
    for service in services:
        if service.alias_of in by_host:
            aliases[service.alias_of] = (*aliases.get(service.alias_of, ()), service.host)
    return aliases


def catalog(snapshot: Snapshot) -> Catalog:
    """Every service of the mesh."""
    memo = snapshot.memo
    return memo(_catalog, memo, snapshot.table(Service), snapshot.mesh)


def _catalog(memo: Memo, table: Table[Service], mesh: MeshConfig) -> Catalog:
    return Catalog(memo(mesh_service, service, mesh.default_service_export_to) for service in table)


def visible_services(snapshot: Snapshot, namespace: str) -> Catalog:
    """The services that clients in `namespace` may see. Namespaces that nothing singles out share one catalog."""
    everything = catalog(snapshot)
    asker = namespace if namespace in everything.special_namespaces else ""
    return snapshot.memo(Catalog.seen_from, everything, asker)
