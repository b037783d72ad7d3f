"""What a sidecar may call: listeners, virtual hosts and clusters.

The work is done per namespace of the services called (`Group`), because most clients get the same answer about most
namespaces: a group is computed once for all clients that mean the same, and a view is put together from groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from msgspec.structs import replace

from mizzen.api.base import Model
from mizzen.api.discovery import SERVICE_NAME, EndpointSlice
from mizzen.api.networking import L4MatchAttributes, RouteDestination
from mizzen.scope.destination_rules import HostRule, Lookup
from mizzen.scope.hosts import service_domains
from mizzen.scope.memo import Memo
from mizzen.scope.model import Destination, Host, Outbound, Protocol, RouteTable, Rule, Subset, TcpRule
from mizzen.scope.mtls import Peers
from mizzen.scope.routes import (
    Client,
    Hashing,
    Routing,
    applies_to_connections,
    connection_destinations,
    http_rules,
    undeclared,
)
from mizzen.scope.services import MeshPort, MeshService, Reach
from mizzen.scope.subsets import cluster_name, consistent_hash, policy_in_force, service_clusters


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
    def all(self) -> tuple[Routing, ...]:
        return (*self.http, *self.connections)


class Neighbours(Model):
    """The services of one namespace, and what is said about them."""

    services: tuple[MeshService, ...]
    selections: tuple[Selection, ...]
    """In the order of `services`."""
    reach: Reach
    """The services that the VirtualServices lead to."""

    @cached_property
    def asks_source(self) -> bool:
        """Whether some rule looks at who calls."""
        return any(one.asks_source for selection in self.selections for one in selection.all)

    @cached_property
    def headless(self) -> tuple[MeshService, ...]:
        """Those that need a listener per Pod; with HTTP alone they share the port's listener."""
        return tuple(
            service
            for service in self.services
            if service.headless and not all(port.protocol.is_http for port in service.ports)
        )


def group(
    memo: Memo,
    neighbours: Neighbours,
    client: Client,
    domain: str,
    hashing: Hashing,
    lookup: Lookup,
    slices: tuple[EndpointSlice, ...],
    peers: Peers,
) -> Group:
    """`domain` (`NS.svc.cluster.local`) decides which short names lead here; `slices` have headless services' Pods;
    `peers` are whom mesh TLS meets."""
    services, pods = neighbours.services, pod_addresses(slices)
    caller = Caller(memo=memo, client=client, domain=domain, hashing=hashing, reach=neighbours.reach)
    answers = [
        _Answer(caller, service, chosen, lookup.rule(service.host), pods.get((service.namespace, service.name), ()))
        for service, chosen in zip(services, neighbours.selections, strict=True)
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
        subsets=tuple(subset for service in services for subset in service_clusters(memo, service, lookup, peers)),
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


@dataclass(frozen=True)
class Caller:
    """Who calls, and what is the same towards all services of a group."""

    memo: Memo
    client: Client
    domain: str
    hashing: Hashing
    reach: Reach


class _Answer:
    """One service, as one class of clients sees it."""

    def __init__(
        self,
        caller: Caller,
        service: MeshService,
        selection: Selection,
        rule: HostRule | None,
        pods: tuple[str, ...],
    ) -> None:
        self.caller = caller
        self.service = service
        self.selection = selection
        self.rule = rule
        self.binds = tuple((pod,) for pod in pods) if service.headless else tuple(filter(None, (service.addresses,)))
        """The addresses of each listener that is not a wildcard."""

    def hosts(self) -> Iterator[tuple[int, Host]]:
        for port in self.service.ports:
            if _takes_http(port):
                yield port.number, self.host(port)

    def http_ports(self) -> Iterator[int]:
        return (port.number for port in self.service.ports if port.protocol.is_http)

    def host(self, port: MeshPort) -> Host:
        service = self.service
        names = (service.host, *self.caller.reach.aliases.get(service.host, ()))
        return Host(
            name=f"{service.host}:{port.number}",
            domains=tuple(service_domains(names, service.addresses, self.caller.domain, service.headless)),
            rules=self.rules(port.number),
        )

    def rules(self, port: int) -> tuple[Rule, ...]:
        """Those of the oldest VirtualService that has any for this client and port, else the default route."""
        caller = self.caller
        for one in self.selection.http:
            rules = caller.memo(http_rules, one, port, caller.client, caller.reach, caller.hashing)
            if rules:
                return rules
        hashing = consistent_hash(self.caller.memo, self.rule, port)
        return (Rule(destinations=(self.own_cluster(port),), consistent_hash=(hashing,) if hashing else ()),)

    def own_cluster(self, port: int) -> Destination:
        return Destination(cluster=cluster_name(self.service.host, port), host=self.service.host, port=port)

    def listeners(self) -> Iterator[Outbound]:
        for port in self.service.ports:
            if port.protocol.is_http:
                continue
            route = f"{self.service.host}:{port.number}" if port.protocol is Protocol.AUTO else None
            for bind, *more in self.binds:
                yield Outbound(
                    bind=bind,
                    port=port.number,
                    protocol=port.protocol,
                    route=route,
                    tcp=self.connection_rules(port),
                    more_binds=tuple(more),
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
        says_bytes = port.protocol is Protocol.AUTO and not self.originates_tls(port.number)
        return (*found, TcpRule(destinations=(self.own_cluster(port.number),), says_bytes=says_bytes))

    def originates_tls(self, port: int) -> bool:
        """Whether callers speak TLS that is not the mesh's."""
        policy = policy_in_force(self.caller.memo, self.rule, port) if self.rule else None
        return policy is not None and policy.tls is not None and policy.tls.mode in ("SIMPLE", "MUTUAL")

    def tls_rules(self, port: MeshPort) -> Iterator[TcpRule]:
        seen: set[tuple[frozenset[str], tuple[str, ...]]] = set()
        for one in self.selection.connections:
            for index, rule in enumerate(one.object.spec.tls):
                for match in rule.match:
                    key = frozenset(match.sni_hosts), match.destination_subnets
                    if key in seen or not applies_to_connections(match, one.namespace, port.number, self.caller.client):
                        continue
                    seen.add(key)
                    shares = self.shares(one, rule.route, port.number)
                    yield TcpRule(
                        destinations=shares,
                        match=_subnets(match.destination_subnets),
                        sni_hosts=match.sni_hosts,
                        source=one.source(index),
                        says_bytes=undeclared(shares, self.caller.reach),
                    )

    def tcp_rules(self, port: MeshPort) -> Iterator[TcpRule]:
        """Up to the first that takes every address; later ones cannot be reached."""
        for one in self.selection.connections:
            for index, rule in enumerate(one.object.spec.tcp):
                conditions = [
                    match
                    for match in rule.match
                    if applies_to_connections(match, one.namespace, port.number, self.caller.client)
                ]
                if rule.match and not conditions:
                    continue
                subnets = tuple(subnet for match in conditions for subnet in match.destination_subnets)
                everywhere = any(not match.destination_subnets for match in conditions) or not rule.match
                shares = self.shares(one, rule.route, port.number)
                yield TcpRule(
                    destinations=shares,
                    match=None if everywhere else _subnets(subnets),
                    source=one.source(index),
                    says_bytes=undeclared(shares, self.caller.reach),
                )
                if everywhere:
                    return

    def shares(self, one: Routing, routes: tuple[RouteDestination, ...], port: int) -> tuple[Destination, ...]:
        return connection_destinations(routes, one.namespace, port, self.caller.reach)


def _subnets(subnets: tuple[str, ...]) -> L4MatchAttributes | None:
    return L4MatchAttributes(destination_subnets=subnets) if subnets else None
