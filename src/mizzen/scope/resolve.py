"""Snapshot and view to scope: the table of contents of everything that Istio decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mizzen.api.base import Problem
from mizzen.api.discovery import EndpointSlice
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import ConsistentHashLB, Gateway
from mizzen.scope.destination_rules import Rulebook, lookup, rulebook
from mizzen.scope.endpoints import slice_owner
from mizzen.scope.foreign import foreign_hosts, without_claimed
from mizzen.scope.gateways import opened, selected_gateways, servers
from mizzen.scope.hosts import DOMAIN
from mizzen.scope.inbound import inbound, selecting
from mizzen.scope.memo import Memo
from mizzen.scope.model import (
    Fallthrough,
    GatewayScope,
    GatewayView,
    Host,
    Outbound,
    OutboundScope,
    OutboundView,
    Protocol,
    RouteTable,
    Server,
    Subset,
)
from mizzen.scope.outbound import Group, Selection, group
from mizzen.scope.routes import ANYONE, AllRoutes, Client, MeshRoutes, Routing, RuleSettings, all_routes, mesh_routes
from mizzen.scope.services import Catalog, MeshService, catalog, visible_services
from mizzen.scope.snapshot import Snapshot, Table
from mizzen.scope.subsets import consistent_hash

__all__ = ["gateway", "inbound", "outbound"]

ANY_ADDRESS = "0.0.0.0"
Labels = frozenset[tuple[str, str]]


def outbound(snapshot: Snapshot, view: OutboundView) -> OutboundScope:
    """What the sidecars of this view may call. The same object as before when nothing it depends on changed."""
    labels = frozenset(view.labels)
    routes = mesh_routes(snapshot, view.namespace)
    client = snapshot.memo(_client, view.namespace, labels)
    settings = _settings(snapshot, view.namespace, labels)
    groups = _groups(snapshot, client, labels, settings)
    foreign = snapshot.memo(foreign_hosts, routes, settings, client if routes.asks_source else ANYONE)
    return snapshot.memo(_outbound_scope, groups, foreign, snapshot.mesh)


def gateway(snapshot: Snapshot, view: GatewayView) -> GatewayScope:
    """What a gateway serves and calls. The same object as before when nothing it depends on changed."""
    memo, labels = snapshot.memo, frozenset(view.labels)
    client = memo(_client, view.namespace, labels)
    settings = _settings(snapshot, view.namespace, frozenset())
    groups = _groups(snapshot, client, frozenset(), settings)
    own = selecting(catalog(snapshot).by_namespace.get(view.namespace, ()), dict(view.labels))
    ports = frozenset(view.container_ports)
    served = memo(_served, snapshot.table(Gateway), own, ports, all_routes(snapshot), settings, client)
    return memo(_gateway_scope, served, groups, snapshot.mesh)


def _served(
    table: Table[Gateway],
    services: tuple[MeshService, ...],
    ports: frozenset[tuple[str, int]],
    routes: AllRoutes,
    settings: RuleSettings,
    client: Client,
) -> tuple[tuple[Server, ...], tuple[RouteTable, ...], tuple[Problem, ...]]:
    kept, problems = opened(selected_gateways(table, client.labels), services, dict(ports))
    return *servers(kept, routes, settings, client), tuple(problems)


def _gateway_scope(
    served: tuple[tuple[Server, ...], tuple[RouteTable, ...], tuple[Problem, ...]],
    groups: tuple[Group, ...],
    mesh: MeshConfig,
) -> GatewayScope:
    listeners, tables, problems = served
    return GatewayScope(servers=listeners, routes=tables, subsets=_all_subsets(groups), mesh=mesh, problems=problems)


def _all_subsets(groups: tuple[Group, ...]) -> tuple[Subset, ...]:
    return tuple(subset for group in groups for subset in group.subsets)


def _client(namespace: str, labels: Labels) -> Client:
    return Client(namespace=namespace, labels=dict(labels))


def _settings(snapshot: Snapshot, namespace: str, labels: Labels) -> RuleSettings:
    """Hash policies live on routes, so routes depend on DestinationRules, but only where one of these hashes."""
    services, book = visible_services(snapshot, namespace), rulebook(snapshot)
    if not book.uses_hashing:
        return snapshot.memo(_plain_settings, services)
    return snapshot.memo(_hashing_settings, snapshot.memo, services, book, namespace, labels)


def _plain_settings(services: Catalog) -> RuleSettings:
    return RuleSettings(services=services)


def _hashing_settings(memo: Memo, services: Catalog, book: Rulebook, namespace: str, labels: Labels) -> RuleSettings:
    def hashing(host: str, port: int, subset: str) -> ConsistentHashLB | None:
        service = services.by_host.get(host)
        found = lookup(memo, book, namespace, labels, service.namespace if service else "")
        return consistent_hash(memo, found.rule(host), port, subset)

    return RuleSettings(services=services, hashing=hashing)


def _groups(snapshot: Snapshot, client: Client, labels: Labels, settings: RuleSettings) -> tuple[Group, ...]:
    routes = mesh_routes(snapshot, client.namespace)
    return tuple(
        _group(snapshot, client, labels, members, routes, settings)
        for members in settings.services.by_namespace.values()
    )


def _group(
    snapshot: Snapshot,
    client: Client,
    labels: Labels,
    services: tuple[MeshService, ...],
    routes: MeshRoutes,
    settings: RuleSettings,
) -> Group:
    memo, owner = snapshot.memo, services[0].namespace
    selections = memo(_selections, memo, services, routes)
    asks = any(selection.asks_source for selection in selections)
    domain = f"{client.namespace if client.namespace == owner else ''}.svc.{DOMAIN}"
    rules = lookup(memo, rulebook(snapshot), client.namespace, labels, owner)
    slices = _headless_slices(snapshot, services)
    return memo(group, memo, services, selections, client if asks else ANYONE, domain, settings, rules, slices)


def _selections(memo: Memo, services: tuple[MeshService, ...], routes: MeshRoutes) -> tuple[Selection, ...]:
    return tuple(
        memo(_selection, routes.for_service(service.host), routes.overlapping(service.host)) for service in services
    )


def _selection(http: tuple[Routing, ...], connections: tuple[Routing, ...]) -> Selection:
    return Selection(http=http, connections=connections)


def _headless_slices(snapshot: Snapshot, services: Iterable[MeshService]) -> tuple[EndpointSlice, ...]:
    """Slices of those headless services that need a listener per Pod: HTTP ones share the port's listener."""
    slices = snapshot.table(EndpointSlice).grouped(slice_owner)
    return tuple(
        one
        for service in services
        if service.headless and not all(port.protocol.is_http for port in service.ports)
        for one in slices.get((service.namespace, service.name), ())
    )


def _outbound_scope(
    groups: tuple[Group, ...], foreign: Mapping[int, tuple[Host, ...]], mesh: MeshConfig
) -> OutboundScope:
    fallthrough = _fallthrough(mesh)
    ports = sorted(frozenset().union(*(group.http_ports for group in groups)))
    shared = (Outbound(bind=ANY_ADDRESS, port=port, protocol=Protocol.HTTP, route=str(port)) for port in ports)
    tables = (
        RouteTable(name=str(port), hosts=_table_hosts(groups, port, foreign.get(port, ())), fallthrough=fallthrough)
        for port in ports
    )
    return OutboundScope(
        listeners=(*shared, *(listener for group in groups for listener in group.listeners)),
        routes=(*tables, *(table for group in groups for table in group.tables)),
        subsets=_all_subsets(groups),
        fallthrough=fallthrough,
        mesh=mesh,
    )


def _table_hosts(groups: tuple[Group, ...], port: int, foreign: tuple[Host, ...]) -> tuple[Host, ...]:
    own = tuple(host for group in groups for host in group.hosts.get(port, ()))
    if not foreign:
        return own
    claimed = frozenset(domain for host in foreign for domain in host.domains)
    return (*foreign, *without_claimed(own, claimed))


def _fallthrough(mesh: MeshConfig) -> Fallthrough:
    only_known = mesh.outbound_traffic_policy.mode == "REGISTRY_ONLY"
    return Fallthrough.REGISTRY_ONLY if only_known else Fallthrough.ALLOW_ANY
