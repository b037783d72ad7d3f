"""Gateways: which servers a gateway proxy opens, and which virtual hosts stand behind them.

https://istio.io/latest/docs/reference/config/networking/gateway/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from mizzen.api.base import Model, Problem
from mizzen.api.networking import HTTPDirectResponse, HTTPRoute, L4MatchAttributes
from mizzen.scope.credentials import Secrets, Unusable, credentials
from mizzen.scope.hosts import bracketed, intersection, specificity, subset_of
from mizzen.scope.model import Credential, Host, Protocol, RouteTable, Rule, Server, Source, Subset, TcpRule, TlsServer
from mizzen.scope.opened import ANY_ADDRESS, Opened
from mizzen.scope.passing import passing_rules
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
from mizzen.scope.services import Catalog


class Answers(Model):
    """What stands behind the servers of a gateway."""

    routes: AllRoutes
    services: Catalog
    hashing: Hashing
    client: Client
    secrets: Secrets
    passed_on: tuple[Subset, ...] = ()
    """Clusters that AUTO_PASSTHROUGH servers lead to."""


class Served(Model):
    servers: tuple[Server, ...]
    routes: tuple[RouteTable, ...]
    credentials: tuple[Credential, ...]
    problems: tuple[Problem, ...]
    passed_on: tuple[Subset, ...] = ()


def servers(kept: Iterable[Opened], answers: Answers) -> Served:
    """Listeners and route tables of everything that is opened."""
    by_listener: dict[tuple[str, int], list[Opened]] = {}
    for one in kept:
        by_listener.setdefault((one.bind, one.port), []).append(one)
    listeners: list[Server] = []
    tables: list[RouteTable] = []
    found: dict[str, Credential] = {}
    problems: list[Problem] = []
    for (bind, port), members in sorted(by_listener.items()):
        if members[0].protocol.is_http:
            table = _route_table(bind, port, members, answers)
            tables.append(table)
            listeners.append(
                Server(bind=bind, port=port, protocol=Protocol.HTTP, route=table.name, sources=_sources(members))
            )
            continue
        encrypted = decrypted(
            [one for one in members if one.protocol.is_tls and not (one.passthrough or one.auto_passthrough)], answers
        )
        tables += encrypted.routes
        problems += encrypted.problems
        found |= {one.name: one for one in encrypted.credentials}
        rules = tuple(_unclaimed(_connection_rules(members, answers), encrypted.servers))
        if rules or encrypted.servers:
            listeners.append(
                Server(
                    bind=bind,
                    port=port,
                    protocol=members[0].protocol,
                    tcp=rules,
                    tls=tuple(encrypted.servers),
                    sources=_sources(members),
                )
            )
    return Served(
        servers=tuple(listeners), routes=tuple(tables), credentials=tuple(found.values()), problems=tuple(problems)
    )


def _sources(members: Iterable[Opened]) -> tuple[Source, ...]:
    gateways = dict.fromkeys((one.gateway.namespace, one.gateway.name) for one in members)
    return tuple(Source(kind="Gateway", namespace=namespace, name=name) for namespace, name in gateways)


def _unclaimed(rules: Iterable[TcpRule], claimed: Iterable[TlsServer]) -> Iterator[TcpRule]:
    """Names that are decrypted here are not passed through as well: Envoy refuses two equal conditions."""
    taken = {name for one in claimed for name in one.hosts or ("*",)}
    for rule in rules:
        free = tuple(name for name in rule.sni_hosts if name not in taken)
        if free or not rule.sni_hosts:
            yield replace(rule, sni_hosts=free)


def _route_table(bind: str, port: int, members: list[Opened], answers: Answers) -> RouteTable:
    name = f"http.{port}" if bind == ANY_ADDRESS else f"http.{port}.{bind}"
    hosts = _virtual_hosts(members, answers)
    if not hosts:
        hosts = (Host(name=f"blackhole:{members[0].server.port.number}", domains=("*",)),)
    return RouteTable(name=name, hosts=hosts)


def _virtual_hosts(members: list[Opened], answers: Answers) -> tuple[Host, ...]:
    found: dict[str, _VirtualHost] = {}
    for one in members:
        number = one.server.port.number
        asker = replace(answers.client, gateway=one.name)
        for bound in answers.routes.for_gateway(one.name, asker.namespace):
            names = intersection(one.hosts_for(bound.namespace), bound.hosts)
            rules = http_rules(bound, number, asker, answers.services, answers.hashing) if names else ()
            for name in names if rules else ():
                found.setdefault(name, _VirtualHost(name, number)).add(bound, rules)
        if one.server.tls is not None and one.server.tls.https_redirect:
            for name in _redirected(one, found):
                found.setdefault(name, _VirtualHost(name, number)).require_tls = True
    return tuple(found[name].host() for name in sorted(found, key=specificity))


def _redirected(one: Opened, found: Mapping[str, _VirtualHost]) -> list[str]:
    """All virtual hosts under a server that redirects to HTTPS, and its own hosts even without a VirtualService."""
    own = one.dns_names
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


def _connection_rules(members: Iterable[Opened], answers: Answers) -> Iterator[TcpRule]:
    """Of servers that pass bytes on as they come."""
    for one in members:
        if one.auto_passthrough:
            yield from passing_rules(one, answers.passed_on)
            continue
        asker = replace(answers.client, gateway=one.name)
        for bound in answers.routes.for_gateway(one.name, asker.namespace):
            names = one.hosts_for(bound.namespace)
            if one.passthrough:
                yield from _tls_rules(one, bound, names, answers.services, asker)
            elif not one.protocol.is_tls and intersection(names, bound.hosts):
                yield from _tcp_rules(one, bound, answers.services, asker)


def decrypted(members: Iterable[Opened], answers: Answers) -> Decrypted:
    """The servers of one port that terminate TLS. Of two that want the same name the older one has it."""
    found = Decrypted()
    taken: dict[str, Opened] = {}
    for one in members:
        free = [name for name in one.dns_names if name not in taken]
        if len(free) < len(one.dns_names):
            found.problems.append(_taken(one, [(name, taken[name]) for name in one.dns_names if name in taken]))
        taken |= dict.fromkeys(free, one)
        if free:
            found.add(one, () if "*" in free else tuple(free), answers)
    for index, one in enumerate(found.served):
        if one.protocol is Protocol.HTTPS and found.servers[index].route:
            found.routes.append(_https_table(one, found.servers[index], list(taken), answers))
    return found


class Decrypted:
    """What the TLS servers of one port come to."""

    def __init__(self) -> None:
        self.served: list[Opened] = []
        self.servers: list[TlsServer] = []
        """In the order of `served`."""
        self.routes: list[RouteTable] = []
        self.credentials: list[Credential] = []
        self.problems: list[Problem] = []

    def add(self, one: Opened, names: tuple[str, ...], answers: Answers) -> None:
        tls = one.server.tls
        assert tls is not None, "what has no settings passes through"
        self.served.append(one)
        try:
            certificates, roots = credentials(tls, answers.secrets)
        except Unusable as error:
            self.servers.append(TlsServer(hosts=names, settings=tls, refused=True))
            self.problems.append(_unusable(one, error))
            return
        self.credentials += [*certificates, *([roots] if roots else [])]
        https = one.protocol is Protocol.HTTPS
        self.servers.append(
            TlsServer(
                hosts=names,
                settings=tls,
                certificates=tuple(each.name for each in certificates),
                roots=roots.name if roots else "",
                route=one.https_table if https else None,
                tcp=() if https else tuple(_decrypted_bytes(one, answers)),
            )
        )


def _decrypted_bytes(one: Opened, answers: Answers) -> Iterator[TcpRule]:
    asker = replace(answers.client, gateway=one.name)
    for bound in answers.routes.for_gateway(one.name, asker.namespace):
        if intersection(one.hosts_for(bound.namespace), bound.hosts):
            yield from _tcp_rules(one, bound, answers.services, asker)


MISDIRECTED = HTTPRoute(direct_response=HTTPDirectResponse(status=421))
"""A browser that reuses a connection for another host of the same certificate asks again on one of its own."""


def _https_table(one: Opened, served: TlsServer, all_names: list[str], answers: Answers) -> RouteTable:
    """Hosts of this server, and 421 for those that a connection with this name is not for."""
    known = _virtual_hosts([one], answers)
    answered = {name for host in known for name in host.domains}
    own = one.dns_names
    number = one.server.port.number
    silent = (name for name in own if name not in answered)
    elsewhere = all_names if not served.hosts else ("*",)
    wrong = [name for name in elsewhere if name not in own and name not in answered]
    hosts = [
        *known,
        *(Host(name=f"blackhole:{number}:{name}", domains=(name,)) for name in silent),
        *(
            Host(name=f"misdirected:{number}:{name}", domains=(name,), rules=(Rule(match=None, http=MISDIRECTED),))
            for name in wrong
        ),
    ]
    return RouteTable(name=one.https_table, hosts=tuple(hosts))


def _unusable(one: Opened, error: Unusable) -> Problem:
    return problem(
        one.gateway,
        "IST0101",
        f"spec.servers[{one.index}].tls.{error.field}",
        f"{error}. Until then TLS handshakes for {', '.join(one.dns_names)} on port {one.server.port.number} are "
        "refused; the other servers work.",
    )


def _taken(one: Opened, found: list[tuple[str, Opened]]) -> Problem:
    shown = ", ".join(f"{name} ({holder.name})" for name, holder in found)
    return problem(
        one.gateway,
        "IST0145",
        f"spec.servers[{one.index}].hosts",
        f"Port {one.server.port.number} already has a TLS server for {shown}, which is older; here they are skipped.",
    )


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
