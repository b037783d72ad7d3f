"""Snapshot and view to scope: the table of contents of everything that Istio decides."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from msgspec.structs import replace

from mizzen.api.core import Secret
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import Gateway
from mizzen.scope.credentials import Secrets
from mizzen.scope.drains import drain_mark
from mizzen.scope.foreign import foreign_hosts, without_claimed
from mizzen.scope.gateways import Answers, Served, servers
from mizzen.scope.groups import groups, hash_policies
from mizzen.scope.guards import guards
from mizzen.scope.inbound import inbound, own_services
from mizzen.scope.ingresses import Translated, about_ingress, translated
from mizzen.scope.model import (
    Fallthrough,
    GatewayScope,
    GatewayView,
    Guards,
    Host,
    Outbound,
    OutboundScope,
    OutboundView,
    Protocol,
    RouteTable,
    Subset,
)
from mizzen.scope.opened import opened, selected_gateways
from mizzen.scope.outbound import Group
from mizzen.scope.routes import ANYONE, AllRoutes, Client, Hashing, all_routes, mesh_routes
from mizzen.scope.services import Catalog, MeshService, catalog, visible_services
from mizzen.scope.snapshot import Snapshot, Table, by_namespace

__all__ = ["gateway", "inbound", "outbound"]

ANY_ADDRESS = "0.0.0.0"
Labels = frozenset[tuple[str, str]]


def outbound(snapshot: Snapshot, view: OutboundView) -> OutboundScope:
    """What the sidecars of this view may call. The same object as before when nothing it depends on changed."""
    memo, labels = snapshot.memo, frozenset(view.labels)
    client = memo(_client, view.namespace, labels)
    found = groups(snapshot, client, labels)
    routes, services = mesh_routes(snapshot, view.namespace), visible_services(snapshot, view.namespace)
    hashing = hash_policies(snapshot, view.namespace, labels)
    foreign = memo(foreign_hosts, routes, services, hashing, client if routes.asks_source else ANYONE)
    return memo(_outbound_scope, found, foreign, snapshot.mesh)


def gateway(snapshot: Snapshot, view: GatewayView) -> GatewayScope:
    """What a gateway serves and calls. The same object as before when nothing it depends on changed."""
    memo, labels = snapshot.memo, frozenset(view.labels)
    client = memo(_client, view.namespace, labels)
    own = memo(own_services, catalog(snapshot), view.namespace, labels)
    secrets = memo(Secrets, view.namespace, *snapshot.table(Secret).grouped(by_namespace).get(view.namespace, ()))
    served = memo(
        _served,
        snapshot.table(Gateway),
        translated(snapshot),
        own,
        frozenset(view.container_ports),
        all_routes(snapshot),
        visible_services(snapshot, view.namespace),
        hash_policies(snapshot, view.namespace, labels),
        client,
        secrets,
    )
    guarding = guards(snapshot, view.namespace, labels)
    drained = drain_mark(view.drained, guarding)
    return memo(_gateway_scope, served, groups(snapshot, client, labels), guarding, drained, snapshot.mesh)


def _served(
    table: Table[Gateway],
    ingress: Translated,
    own: tuple[MeshService, ...],
    ports: frozenset[tuple[str, int]],
    routes: AllRoutes,
    services: Catalog,
    hashing: Hashing,
    client: Client,
    secrets: Secrets,
) -> Served:
    kept, problems = opened(selected_gateways((*table, *ingress.gateways), client.labels), own, dict(ports))
    answers = Answers(routes=routes, services=services, hashing=hashing, client=client, secrets=secrets)
    found = servers(kept, answers)
    return replace(found, problems=tuple(about_ingress(one, ingress) for one in (*problems, *found.problems)))


def _gateway_scope(
    served: Served, found: tuple[Group, ...], guarding: Guards, drained: str, mesh: MeshConfig
) -> GatewayScope:
    return GatewayScope(
        servers=served.servers,
        routes=served.routes,
        subsets=_all_subsets(found),
        mesh=mesh,
        credentials=served.credentials,
        guards=guarding,
        drained=drained,
        problems=(*served.problems, *guarding.problems),
    )


def _all_subsets(found: tuple[Group, ...]) -> tuple[Subset, ...]:
    return tuple(chain.from_iterable(group.subsets for group in found))


def _client(namespace: str, labels: Labels) -> Client:
    return Client(namespace=namespace, labels=dict(labels))


def _outbound_scope(
    found: tuple[Group, ...], foreign: Mapping[int, tuple[Host, ...]], mesh: MeshConfig
) -> OutboundScope:
    fallthrough = _fallthrough(mesh)
    ports = sorted(frozenset().union(*(group.http_ports for group in found)))
    shared = (Outbound(bind=ANY_ADDRESS, port=port, protocol=Protocol.HTTP, route=str(port)) for port in ports)
    tables = (
        RouteTable(name=str(port), hosts=_table_hosts(found, port, foreign.get(port, ())), fallthrough=fallthrough)
        for port in ports
    )
    return OutboundScope(
        listeners=(*shared, *chain.from_iterable(group.listeners for group in found)),
        routes=(*tables, *chain.from_iterable(group.tables for group in found)),
        subsets=_all_subsets(found),
        fallthrough=fallthrough,
        mesh=mesh,
    )


def _table_hosts(found: tuple[Group, ...], port: int, foreign: tuple[Host, ...]) -> tuple[Host, ...]:
    own = tuple(chain.from_iterable(group.hosts.get(port, ()) for group in found))
    if not foreign:
        return own
    claimed = frozenset(domain for host in foreign for domain in host.domains)
    return (*foreign, *without_claimed(own, claimed))


def _fallthrough(mesh: MeshConfig) -> Fallthrough:
    only_known = mesh.outbound_traffic_policy.mode == "REGISTRY_ONLY"
    return Fallthrough.REGISTRY_ONLY if only_known else Fallthrough.ALLOW_ANY
