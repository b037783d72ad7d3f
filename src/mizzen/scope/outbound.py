"""What a sidecar may call: listeners, virtual hosts and clusters.

The work is done per namespace of the services called (`Group`), because most clients get the same answer about most
namespaces: a group is computed once for all clients that mean the same, and a view is put together from groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from mizzen.api.base import Model
from mizzen.api.discovery import SERVICE_NAME, EndpointSlice
from mizzen.api.networking import L4MatchAttributes, RouteDestination
from mizzen.scope.destination_rules import HostRule, Lookup
from mizzen.scope.hosts import service_domains
from mizzen.scope.memo import Memo
from mizzen.scope.model import Destination, Host, Outbound, Protocol, RouteTable, Rule, Subset, TcpRule
from mizzen.scope.routes import (
    Client,
    Routing,
    RuleSettings,
    applies_to_connections,
    connection_destinations,
    http_rules,
)
from mizzen.scope.services import MeshPort, MeshService
from mizzen.scope.subsets import cluster_name, consistent_hash, service_clusters


class Group(Model):
    """What the services of one namespace are to one class of clients."""

    hosts: Mapping[int, tuple[Host, ...]]
    """Virtual hosts by the port whose shared route table they stand in."""
    http_ports: frozenset[int]
    """Ports on which some service speaks HTTP for certain: these get a shared listener."""
    listeners: tuple[Outbound, ...]
    """Those with an address of their own."""
    tables: tuple[RouteTable, ...]
    """Of sniffed ports, one each."""
    subsets: tuple[Subset, ...]


class Selection(Model):
    """The VirtualServices that speak for one service, oldest first."""

    http: tuple[Routing, ...]
    connections: tuple[Routing, ...]
    """For tcp and tls rules."""

    @property
    def asks_source(self) -> bool:
        return any(one.asks_source for one in (*self.http, *self.connections))


def group(
    memo: Memo,
    services: tuple[MeshService, ...],
    selections: tuple[Selection, ...],
    client: Client,
    domain: str,
    settings: RuleSettings,
    lookup: Lookup,
    slices: tuple[EndpointSlice, ...],
) -> Group:
    """`selections` are in the order of `services`; `domain` (`NS.svc.cluster.local`) decides which short names lead
    here; `slices` are those of headless services, whose Pods are listened for one by one."""
    pods = pod_addresses(slices)
    answers = [
        _Answer(memo, service, chosen, client, domain, settings, lookup.rule(service.host), pods)
        for service, chosen in zip(services, selections, strict=True)
    ]
    hosts: dict[int, tuple[Host, ...]] = {}
    for answer in answers:
        for port, host in answer.hosts():
            hosts[port] = (*hosts.get(port, ()), host)
    return Group(
        hosts=hosts,
        http_ports=frozenset(port for answer in answers for port in answer.http_ports()),
        listeners=tuple(listener for answer in answers for listener in answer.listeners()),
        tables=tuple(table for answer in answers for table in answer.tables()),
        subsets=tuple(subset for service in services for subset in service_clusters(memo, service, lookup)),
    )


def pod_addresses(slices: Iterable[EndpointSlice]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Addresses by namespace and Service, sorted."""
    found: dict[tuple[str, str], set[str]] = {}
    for one in slices:
        key = one.metadata.namespace, one.metadata.labels.get(SERVICE_NAME, "")
        found.setdefault(key, set()).update(endpoint.addresses[0] for endpoint in one.endpoints if endpoint.addresses)
    return {key: tuple(sorted(addresses)) for key, addresses in found.items()}


def _takes_http(port: MeshPort) -> bool:
    return port.protocol.is_http or port.protocol is Protocol.AUTO


class _Answer:
    """One service, as one class of clients sees it."""

    def __init__(
        self,
        memo: Memo,
        service: MeshService,
        selection: Selection,
        client: Client,
        domain: str,
        settings: RuleSettings,
        rule: HostRule | None,
        pods: Mapping[tuple[str, str], tuple[str, ...]],
    ) -> None:
        self.memo = memo
        self.service = service
        self.selection = selection
        self.client = client
        self.domain = domain
        self.settings = settings
        self.rule = rule
        own_pods = pods.get((service.namespace, service.name), ())
        self.binds = own_pods if service.headless else service.addresses[:1]

    def hosts(self) -> Iterator[tuple[int, Host]]:
        for port in self.service.ports:
            if _takes_http(port):
                yield port.number, self.host(port)

    def http_ports(self) -> Iterator[int]:
        return (port.number for port in self.service.ports if port.protocol.is_http)

    def host(self, port: MeshPort) -> Host:
        service = self.service
        names = (service.host, *self.settings.services.aliases.get(service.host, ()))
        return Host(
            name=f"{service.host}:{port.number}",
            domains=tuple(service_domains(names, service.addresses, self.domain, service.headless)),
            rules=self.rules(port.number),
        )

    def rules(self, port: int) -> tuple[Rule, ...]:
        """Those of the oldest VirtualService that has any for this client and port, else the default route."""
        for one in self.selection.http:
            rules = self.memo(http_rules, one, port, self.client, self.settings)
            if rules:
                return rules
        hashing = consistent_hash(self.memo, self.rule, port)
        return (Rule(destinations=(self.own_cluster(port),), consistent_hash=(hashing,) if hashing else ()),)

    def own_cluster(self, port: int) -> Destination:
        return Destination(cluster=cluster_name(self.service.host, port), host=self.service.host, port=port)

    def listeners(self) -> Iterator[Outbound]:
        for port in self.service.ports:
            if port.protocol.is_http:
                continue
            route = f"{self.service.host}:{port.number}" if port.protocol is Protocol.AUTO else None
            for bind in self.binds:
                yield Outbound(
                    bind=bind, port=port.number, protocol=port.protocol, route=route, tcp=self.connection_rules(port)
                )

    def tables(self) -> Iterator[RouteTable]:
        for port in self.service.ports:
            if port.protocol is Protocol.AUTO and self.binds:
                host = replace(self.host(port), domains=("*",))
                yield RouteTable(name=f"{self.service.host}:{port.number}", hosts=(host,))

    def connection_rules(self, port: MeshPort) -> tuple[TcpRule, ...]:
        found = tuple(self.tls_rules(port) if port.protocol.is_tls else self.tcp_rules(port))
        if port.protocol.is_tls and found:
            return found
        if any(not rule.match for rule in found):
            return found
        return (*found, TcpRule(destinations=(self.own_cluster(port.number),)))

    def tls_rules(self, port: MeshPort) -> Iterator[TcpRule]:
        seen: set[tuple[frozenset[str], tuple[str, ...]]] = set()
        for one in self.selection.connections:
            for index, rule in enumerate(one.object.spec.tls):
                for match in rule.match:
                    key = frozenset(match.sni_hosts), match.destination_subnets
                    if key in seen or not applies_to_connections(match, one.namespace, port.number, self.client):
                        continue
                    seen.add(key)
                    yield TcpRule(
                        destinations=self.shares(one, rule.route, port.number),
                        match=_subnets(match.destination_subnets),
                        sni_hosts=match.sni_hosts,
                        source=one.source(index),
                    )

    def tcp_rules(self, port: MeshPort) -> Iterator[TcpRule]:
        """Up to the first that takes every address; later ones cannot be reached."""
        for one in self.selection.connections:
            for index, rule in enumerate(one.object.spec.tcp):
                conditions = [
                    match
                    for match in rule.match
                    if applies_to_connections(match, one.namespace, port.number, self.client)
                ]
                if rule.match and not conditions:
                    continue
                subnets = tuple(subnet for match in conditions for subnet in match.destination_subnets)
                everywhere = any(not match.destination_subnets for match in conditions) or not rule.match
                yield TcpRule(
                    destinations=self.shares(one, rule.route, port.number),
                    match=None if everywhere else _subnets(subnets),
                    source=one.source(index),
                )
                if everywhere:
                    return

    def shares(self, one: Routing, routes: tuple[RouteDestination, ...], port: int) -> tuple[Destination, ...]:
        return connection_destinations(routes, one.namespace, port, self.settings.services)


def _subnets(subnets: tuple[str, ...]) -> L4MatchAttributes | None:
    return L4MatchAttributes(destination_subnets=subnets) if subnets else None
