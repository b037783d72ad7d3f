"""Snapshot and view to scope: the table of contents of everything that Istio decides."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from msgspec.structs import replace

from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import Gateway
from mizzen.scope.credentials import Secrets, secrets_for
from mizzen.scope.drains import drain_mark
from mizzen.scope.foreign import foreign_hosts, without_claimed
from mizzen.scope.gateways import Answers, Served, servers
from mizzen.scope.groups import groups, hash_policies
from mizzen.scope.guards import guards
from mizzen.scope.inbound import inbound, own_services
from mizzen.scope.ingresses import Translated, about_ingress, translated
from mizzen.scope.memo import Memo
from mizzen.scope.model import (
    Fallthrough,
    GatewayScope,
    Guards,
    Host,
    Outbound,
    OutboundScope,
    Protocol,
    RouteTable,
    Subset,
)
from mizzen.scope.opened import opened, selected_gateways
from mizzen.scope.origination import Asker, Origination, origination
from mizzen.scope.outbound import Group
from mizzen.scope.passing import passed_on
from mizzen.scope.routes import ANYONE, AllRoutes, Client, Hashing, all_routes, mesh_routes
from mizzen.scope.services import Catalog, MeshService, catalog, visible_services
from mizzen.scope.snapshot import Snapshot, Table
from mizzen.scope.view import GatewayView, OutboundView

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
    calls = origination(
        snapshot,
        memo(_all_subsets, found),
        Asker(namespace=view.namespace, account=view.account, sidecar=True),
    )
    return memo(_outbound_scope, found, foreign, calls, snapshot.mesh, view.ipv6)


def gateway(snapshot: Snapshot, view: GatewayView) -> GatewayScope:
    """What a gateway serves and calls. The same object as before when nothing it depends on changed."""
    memo, labels = snapshot.memo, frozenset(view.labels)
    client = memo(_client, view.namespace, labels)
    own = memo(own_services, catalog(snapshot), view.namespace, labels)
    secrets = secrets_for(snapshot, view.namespace, view.account)
    asker = Asker(namespace=view.namespace, account=view.account)
    calls = origination(snapshot, memo(_all_subsets, groups(snapshot, client, labels)), asker)
    served = memo(
        _served,
        memo,
        snapshot.table(Gateway),
        translated(snapshot),
        own,
        frozenset(view.container_ports),
        all_routes(snapshot),
        visible_services(snapshot, view.namespace),
        hash_policies(snapshot, view.namespace, labels),
        client,
        secrets,
        calls.subsets if _passes_on(snapshot) else (),
    )
    guarding = guards(snapshot, view.namespace, labels)
    drained = drain_mark(view.drained, guarding)
    return memo(_gateway_scope, served, calls, guarding, drained, snapshot.mesh, view.ipv6)


def _passes_on(snapshot: Snapshot) -> bool:
    servers = (server for one in snapshot.table(Gateway) for server in one.spec.servers)
    return any(server.tls is not None and server.tls.mode == "AUTO_PASSTHROUGH" for server in servers)


def _served(
    memo: Memo,
    table: Table[Gateway],
    ingress: Translated,
    own: tuple[MeshService, ...],
    ports: frozenset[tuple[str, int]],
    routes: AllRoutes,
    services: Catalog,
    hashing: Hashing,
    client: Client,
    secrets: Secrets,
    subsets: tuple[Subset, ...],
) -> Served:
    kept, problems = opened(selected_gateways((*table, *ingress.gateways), client.labels), own, dict(ports))
    behind = passed_on(memo, kept, subsets)
    answers = Answers(
        routes=routes, services=services, hashing=hashing, client=client, secrets=secrets, passed_on=behind
    )
    found = servers(kept, answers)
    return replace(
        found, passed_on=behind, problems=tuple(about_ingress(one, ingress) for one in (*problems, *found.problems))
    )


def _gateway_scope(
    served: Served, calls: Origination, guarding: Guards, drained: str, mesh: MeshConfig, ipv6: bool
) -> GatewayScope:
    return GatewayScope(
        servers=served.servers,
        routes=served.routes,
        subsets=(*calls.subsets, *served.passed_on),
        mesh=mesh,
        credentials=tuple({one.name: one for one in (*served.credentials, *calls.credentials)}.values()),
        guards=guarding,
        drained=drained,
        problems=(*served.problems, *calls.problems, *guarding.problems),
        ipv6=ipv6,
    )


def _all_subsets(found: tuple[Group, ...]) -> tuple[Subset, ...]:
    return tuple(chain.from_iterable(group.subsets for group in found))


def _client(namespace: str, labels: Labels) -> Client:
    return Client(namespace=namespace, labels=dict(labels))


def _outbound_scope(
    found: tuple[Group, ...], foreign: Mapping[int, tuple[Host, ...]], calls: Origination, mesh: MeshConfig, ipv6: bool
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
        subsets=calls.subsets,
        fallthrough=fallthrough,
        mesh=mesh,
        credentials=calls.credentials,
        problems=calls.problems,
        ipv6=ipv6,
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
