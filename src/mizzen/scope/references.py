"""What an object refers to that is not there. Legal, as in Istio: it heals by itself, and until then it is said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mizzen.api.base import Problem, Resource
from mizzen.api.ingress import Ingress
from mizzen.api.networking import Destination, DestinationRule, Gateway, HTTPRoute, TCPRoute, TLSRoute, VirtualService
from mizzen.scope.destination_rules import Rulebook, lookup, rulebook
from mizzen.scope.guards import policy_problems
from mizzen.scope.hosts import full_name, intersection, is_wildcard, subset_of
from mizzen.scope.ingress_references import ingress_problems, ingress_references
from mizzen.scope.memo import Memo
from mizzen.scope.mtls import peer_policies
from mizzen.scope.problems import problem
from mizzen.scope.routes import MESH, AllRoutes, all_routes, gateway_names
from mizzen.scope.services import Catalog, catalog
from mizzen.scope.snapshot import Snapshot, Table

NOT_FOUND, HOST_NOT_IN_GATEWAY, UNKNOWN_RULE_HOST = "IST0101", "IST0132", "IST0174"
PORT_REQUIRED, CONFLICTING_HOSTS = "IST0112", "IST0109"


class _Known(NamedTuple):
    """What objects refer to. Objects of before are asked again only when something in here is another."""

    services: Catalog
    rules: Rulebook
    gateways: Table[Gateway]
    memo: Memo


def dangling(snapshot: Snapshot, obj: Resource) -> tuple[Problem, ...]:
    """Warnings about one object, stored or about to be; () for kinds that refer to nothing."""
    memo, services = snapshot.memo, catalog(snapshot)
    if isinstance(obj, VirtualService):
        return memo(_virtual_service, memo(_Known, services, rulebook(snapshot), snapshot.table(Gateway), memo), obj)
    if isinstance(obj, DestinationRule):
        return memo(_destination_rule, services, obj)
    if isinstance(obj, Ingress):
        return ingress_references(snapshot, obj)
    return ()


def findings(snapshot: Snapshot) -> tuple[Problem, ...]:
    """Warnings about all stored objects, also those in which several of them meet."""
    kinds: tuple[type[Resource], ...] = (Gateway, VirtualService, DestinationRule)
    objects = sorted((obj for kind in kinds for obj in snapshot.table(kind)), key=_order)
    own = [found for obj in objects for found in dangling(snapshot, obj)]
    merged = [found for rules in rulebook(snapshot) for rule in rules.rules for found in rule.problems]
    return (
        *own,
        *merged,
        *snapshot.memo(_conflicting_hosts, all_routes(snapshot)),
        *peer_policies(snapshot).problems(),
        *policy_problems(snapshot),
        *ingress_problems(snapshot),
    )


def _order(obj: Resource) -> tuple[str, str, str]:
    return type(obj).__name__, obj.namespace, obj.name


def _virtual_service(known: _Known, obj: VirtualService) -> tuple[Problem, ...]:
    return (*_routes(known, obj), *_gateways(known, obj))


def _routes(known: _Known, obj: VirtualService) -> Iterator[Problem]:
    for index, rule in enumerate(obj.spec.http):
        for path, wanted in _destinations(f"spec.http[{index}]", rule):
            yield from _destination(known, obj, path, wanted)
    for path, connections in _connection_rules(obj):
        for number, route in enumerate(connections.route):
            yield from _destination(known, obj, f"{path}.route[{number}].destination", route.destination)


def _connection_rules(obj: VirtualService) -> Iterator[tuple[str, TLSRoute | TCPRoute]]:
    yield from ((f"spec.tls[{index}]", rule) for index, rule in enumerate(obj.spec.tls))
    yield from ((f"spec.tcp[{index}]", rule) for index, rule in enumerate(obj.spec.tcp))


def _destinations(path: str, rule: HTTPRoute) -> Iterator[tuple[str, Destination]]:
    for index, route in enumerate(rule.route):
        yield f"{path}.route[{index}].destination", route.destination
    if rule.mirror is not None:
        yield f"{path}.mirror", rule.mirror
    for index, mirror in enumerate(rule.mirrors):
        yield f"{path}.mirrors[{index}].destination", mirror.destination


def _destination(known: _Known, obj: VirtualService, path: str, wanted: Destination) -> Iterator[Problem]:
    services = known.services
    host = full_name(wanted.host, obj.namespace).lower()
    service = services.resolve(host)
    if service is None:
        hint = _meant(services, wanted.host)
        message = (
            f"Referenced host not found: {wanted.host} ({host}) is no service; until it is, requests get 503{hint}."
        )
        yield problem(obj, NOT_FOUND, f"{path}.host", message)
        return
    if wanted.port is not None and service.port(wanted.port.number) is None:
        ports = ", ".join(str(port.number) for port in service.ports)
        message = f"Service {service.host} has no port {wanted.port.number}, only {ports}; requests to it get 503."
        yield problem(obj, NOT_FOUND, f"{path}.port.number", message)
    if wanted.port is None and len(service.ports) > 1:
        message = f"Service {service.host} has several ports; say which one with port.number, or the caller's is used."
        yield problem(obj, PORT_REQUIRED, path, message)
    if wanted.subset and not _has_subset(known, obj.namespace, service.host, service.namespace, wanted.subset):
        message = (
            f"Referenced host+subset in destinationrule not found: no DestinationRule for {service.host} defines the "
            f"subset {wanted.subset}; requests to it get 503 until one does."
        )
        yield problem(obj, NOT_FOUND, f"{path}.subset", message)


def _meant(services: Catalog, host: str) -> str:
    """`reviews.prod` is not expanded; only a name without dot, or the whole name, is."""
    name, dot, namespace = host.partition(".")
    full = f"{host}.svc.cluster.local"
    return f"; did you mean {full}?" if dot and "." not in namespace and full in services.by_host and name else ""


def _has_subset(known: _Known, namespace: str, host: str, owner: str, subset: str) -> bool:
    rule = lookup(known.memo, known.rules, namespace, frozenset(), owner).rule(host)
    return rule is not None and rule.subset(subset) is not None


def _gateways(known: _Known, obj: VirtualService) -> Iterator[Problem]:
    for index, name in enumerate(obj.spec.gateways):
        full = next(iter(gateway_names((name,), obj.namespace)))
        if full == MESH:
            continue
        namespace, _, own = full.partition("/")
        found = known.gateways.get(namespace, own)
        path = f"spec.gateways[{index}]"
        if found is None:
            yield problem(obj, NOT_FOUND, path, f"Referenced gateway not found: there is no Gateway {full} yet.")
        else:
            yield from _hosts_at(obj, found)


def _hosts_at(obj: VirtualService, gateway: Gateway) -> Iterator[Problem]:
    servers = [host for server in gateway.spec.servers for host in _server_hosts(gateway, server.hosts, obj.namespace)]
    for index, host in enumerate(obj.spec.hosts):
        full = full_name(host, obj.namespace).lower()
        if not intersection(servers, [full]):
            message = (
                f"Host {host} not found in Gateway {gateway.namespace}/{gateway.name}, whose servers have "
                f"{', '.join(servers) or 'no hosts for this namespace'}; it cannot be called there."
            )
            yield problem(obj, HOST_NOT_IN_GATEWAY, f"spec.hosts[{index}]", message)


def _server_hosts(gateway: Gateway, hosts: tuple[str, ...], namespace: str) -> Iterator[str]:
    for host in hosts:
        owner, _, name = host.rpartition("/")
        if owner in ("", "*", namespace) or (owner == "." and gateway.namespace == namespace):
            yield name.lower()


def _destination_rule(services: Catalog, obj: DestinationRule) -> tuple[Problem, ...]:
    host = full_name(obj.spec.host, obj.namespace).lower()
    known = services.by_host
    found = any(subset_of(name, host) for name in known) if is_wildcard(host) else host in known
    if found:
        return ()
    message = f"Host {obj.spec.host} ({host}) is no service of the mesh, so this rule has no effect until it is."
    return (problem(obj, UNKNOWN_RULE_HOST, "spec.host", message),)


def _conflicting_hosts(routes: AllRoutes) -> tuple[Problem, ...]:
    return tuple(_conflicts(routes))


def _conflicts(routes: AllRoutes) -> Iterator[Problem]:
    """For sidecars the oldest VirtualService of a host has it alone; the others are told so."""
    first: dict[str, VirtualService] = {}
    for one in routes.everything:
        for index, host in enumerate(one.hosts if MESH in one.gateways else ()):
            oldest = first.setdefault(host, one.object)
            if oldest is not one.object and one.audience.everyone:
                message = (
                    f"VirtualService {oldest.namespace}/{oldest.name} is older and already speaks for {host} in "
                    "sidecars; this one is not used for it there. Put the rules into one VirtualService."
                )
                yield problem(one.object, CONFLICTING_HOSTS, f"spec.hosts[{index}]", message)
