"""Gateways: which servers a gateway proxy opens, and which virtual hosts stand behind them.

https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from mizzen.api.base import Model, Problem
from mizzen.api.networking import Gateway, L4MatchAttributes
from mizzen.api.networking import Server as WantedServer
from mizzen.scope.hosts import bracketed, for_namespace, intersection, specificity, subset_of
from mizzen.scope.inbound import container_port
from mizzen.scope.model import Host, Protocol, RouteTable, Rule, Server, TcpRule
from mizzen.scope.problems import problem
from mizzen.scope.routes import (
    AllRoutes,
    Client,
    Hashing,
    Routing,
    applies_to_connections,
    connection_destinations,
    http_rules,
    takes_everything,
    undeclared,
)
from mizzen.scope.services import Catalog, MeshService, word

ANY_ADDRESS = "0.0.0.0"


class Opened(Model):
    """One server of one Gateway resource, on the port where the proxy listens for it."""

    gateway: Gateway
    index: int
    server: WantedServer
    port: int

    @property
    def name(self) -> str:
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def bind(self) -> str:
        return self.server.bind or ANY_ADDRESS

    @property
    def protocol(self) -> Protocol:
        return word(self.server.port.protocol)

    @property
    def passthrough(self) -> bool:
        tls = self.server.tls
        return self.protocol.is_tls and tls is not None and tls.mode in (None, "PASSTHROUGH")

    def hosts_for(self, namespace: str) -> list[str]:
        """The host names that VirtualServices of a namespace may use here, in lower case."""
        own = self.gateway.namespace
        hosts = (f"{own}/{host[2:]}" if host.startswith("./") else host for host in self.server.hosts)
        return for_namespace((host.lower() for host in hosts), namespace)


def selected_gateways(gateways: Iterable[Gateway], labels: Mapping[str, str]) -> list[Gateway]:
    """Those that the proxy with these labels serves, oldest first; an empty selector means every gateway."""
    found = [gateway for gateway in gateways if gateway.spec.selector.items() <= labels.items()]
    return sorted(found, key=lambda gateway: gateway.age_key)


def opened(
    gateways: Iterable[Gateway], services: Iterable[MeshService], named_ports: Mapping[str, int]
) -> tuple[list[Opened], list[Problem]]:
    """The servers that can be served together; of two that exclude each other on a port the first has it.

    `services` are the gateway's own, `named_ports` its container ports by name.
    """
    kept: list[Opened] = []
    problems: list[Problem] = []
    for gateway in gateways:
        for index, server in enumerate(gateway.spec.servers):
            one = Opened(gateway=gateway, index=index, server=server, port=_listening(server, services, named_ports))
            found = _obstacle(one, kept)
            problems += [found] if found else []
            kept += [one] if not found else []
    return kept, problems


def _listening(server: WantedServer, services: Iterable[MeshService], named_ports: Mapping[str, int]) -> int:
    """The container port behind that port of the gateway's Service; without one the number is taken as given."""
    for service in services:
        port = service.port(server.port.number)
        number = container_port(port, named_ports) if port else None
        if number is not None:
            return number
    return server.port.number


def _obstacle(one: Opened, kept: Iterable[Opened]) -> Problem | None:
    missing = missing_for(one)
    if missing:
        return problem(one.gateway, "MZ0003", f"spec.servers[{one.index}]", missing)
    for other in kept:
        if other.port == one.port and other.bind == one.bind and not _share_port(other, one):
            return problem(
                one.gateway,
                "IST0145",
                f"spec.servers[{one.index}].port",
                f"Port {one.server.port.number} ({one.protocol}) is already served as {other.protocol} by Gateway "
                f"{other.name}, which is older; this server is not opened. Choose another port or protocol.",
            )
    return None


def _share_port(first: Opened, second: Opened) -> bool:
    both_http = first.protocol.is_http and second.protocol.is_http
    return both_http or (first.passthrough and second.passthrough)


def missing_for(one: Opened) -> str:
    """Why this server cannot be served yet; "" when it can."""
    if one.protocol.is_tls and not one.passthrough:
        return (
            f"Server {one.index} ({one.server.port.protocol} on port {one.server.port.number}) is not opened: this "
            "version does not terminate TLS at gateways yet. HTTP, TCP and PASSTHROUGH servers of this Gateway work."
        )
    return ""


def servers(
    kept: Iterable[Opened], routes: AllRoutes, services: Catalog, hashing: Hashing, client: Client
) -> tuple[tuple[Server, ...], tuple[RouteTable, ...]]:
    """Listeners and route tables of everything that is opened."""
    by_listener: dict[tuple[str, int], list[Opened]] = {}
    for one in kept:
        by_listener.setdefault((one.bind, one.port), []).append(one)
    listeners: list[Server] = []
    tables: list[RouteTable] = []
    for (bind, port), members in sorted(by_listener.items()):
        if members[0].protocol.is_http:
            table = _route_table(bind, port, members, routes, services, hashing, client)
            tables.append(table)
            listeners.append(Server(bind=bind, port=port, protocol=Protocol.HTTP, route=table.name))
        elif rules := tuple(_connection_rules(members, routes, services, client)):
            listeners.append(Server(bind=bind, port=port, protocol=members[0].protocol, tcp=rules))
    return tuple(listeners), tuple(tables)


def _route_table(
    bind: str, port: int, members: list[Opened], routes: AllRoutes, services: Catalog, hashing: Hashing, client: Client
) -> RouteTable:
    name = f"http.{port}" if bind == ANY_ADDRESS else f"http.{port}.{bind}"
    hosts = _virtual_hosts(members, routes, services, hashing, client)
    if not hosts:
        hosts = (Host(name=f"blackhole:{members[0].server.port.number}", domains=("*",)),)
    return RouteTable(name=name, hosts=hosts)


def _virtual_hosts(
    members: list[Opened], routes: AllRoutes, services: Catalog, hashing: Hashing, client: Client
) -> tuple[Host, ...]:
    found: dict[str, _VirtualHost] = {}
    for one in members:
        number = one.server.port.number
        asker = replace(client, gateway=one.name)
        for bound in routes.for_gateway(one.name, client.namespace):
            names = intersection(one.hosts_for(bound.namespace), bound.hosts)
            rules = http_rules(bound, number, asker, services, hashing) if names else ()
            for name in names if rules else ():
                found.setdefault(name, _VirtualHost(name, number)).add(bound, rules)
        if one.server.tls is not None and one.server.tls.https_redirect:
            for name in _redirected(one, found):
                found.setdefault(name, _VirtualHost(name, number)).require_tls = True
    return tuple(found[name].host() for name in sorted(found, key=specificity))


def _redirected(one: Opened, found: Mapping[str, _VirtualHost]) -> list[str]:
    """All virtual hosts under a server that redirects to HTTPS, and its own hosts even without a VirtualService."""
    own = [host.rpartition("/")[2].lower() for host in one.server.hosts]
    return [*own, *(name for name in found if any(subset_of(name, host) for host in own))]


class _VirtualHost:
    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.require_tls = False
        self._rules: dict[int, tuple[Rule, ...]] = {}

    def add(self, bound: Routing, rules: tuple[Rule, ...]) -> None:
        """Several VirtualServices on a host add up, oldest first; one that is bound twice counts once."""
        self._rules.setdefault(id(bound), rules)

    def host(self) -> Host:
        rules = [rule for rules in self._rules.values() for rule in rules]
        return Host(
            name=f"{self.name}:{self.port}",
            domains=(bracketed(self.name),),
            rules=tuple(sorted(rules, key=lambda rule: takes_everything(rule.match))),
            require_tls=self.require_tls,
        )


def _connection_rules(
    members: Iterable[Opened], routes: AllRoutes, services: Catalog, client: Client
) -> Iterator[TcpRule]:
    for one in members:
        asker = replace(client, gateway=one.name)
        for bound in routes.for_gateway(one.name, client.namespace):
            names = one.hosts_for(bound.namespace)
            if one.passthrough:
                yield from _tls_rules(one, bound, names, services, asker)
            elif intersection(names, bound.hosts):
                yield from _tcp_rules(one, bound, services, asker)


def _tls_rules(one: Opened, bound: Routing, names: list[str], services: Catalog, client: Client) -> Iterator[TcpRule]:
    number = one.server.port.number
    for index, rule in enumerate(bound.object.spec.tls):
        for match in rule.match:
            sni = tuple(host for host in match.sni_hosts if any(subset_of(host, name) for name in names))
            if sni and applies_to_connections(match, bound.namespace, number, client):
                shares = connection_destinations(rule.route, bound.namespace, number, services)
                yield TcpRule(
                    destinations=shares,
                    match=_subnets(match.destination_subnets),
                    sni_hosts=sni,
                    source=bound.source(index),
                    says_bytes=undeclared(shares, services),
                )


def _tcp_rules(one: Opened, bound: Routing, services: Catalog, client: Client) -> Iterator[TcpRule]:
    number = one.server.port.number
    for index, rule in enumerate(bound.object.spec.tcp):
        conditions = [match for match in rule.match if applies_to_connections(match, bound.namespace, number, client)]
        if rule.match and not conditions:
            continue
        everywhere = not rule.match or any(not match.destination_subnets for match in conditions)
        subnets = tuple(subnet for match in conditions for subnet in match.destination_subnets)
        shares = connection_destinations(rule.route, bound.namespace, number, services)
        yield TcpRule(
            destinations=shares,
            match=None if everywhere else _subnets(subnets),
            source=bound.source(index),
            says_bytes=undeclared(shares, services),
        )
        if everywhere:
            return


def _subnets(subnets: tuple[str, ...]) -> L4MatchAttributes | None:
    return L4MatchAttributes(destination_subnets=subnets) if subnets else None
