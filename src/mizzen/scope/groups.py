"""Groups for a client: shared with all clients who get the same answer, made for this one where it differs.

A client differs from any stranger only towards its own namespace (short names), towards namespaces that its own
namespace's DestinationRules are about, and where rules look at who asks. Everything else is one object for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mizzen.api.base import Model
from mizzen.api.discovery import EndpointSlice
from mizzen.api.networking import ConsistentHashLB
from mizzen.scope.destination_rules import Rulebook, lookup, rulebook
from mizzen.scope.endpoints import peers, slice_owner
from mizzen.scope.hosts import DOMAIN
from mizzen.scope.memo import Memo
from mizzen.scope.mtls import Peers
from mizzen.scope.outbound import Group, Neighbours, Selection, group
from mizzen.scope.routes import ANYONE, Client, Hashing, MeshRoutes, Routing, mesh_routes, no_hashing
from mizzen.scope.services import Catalog, MeshService, Reach, catalog, visible_services
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.subsets import consistent_hash

Labels = frozenset[tuple[str, str]]


class Whom:
    """Who is found behind the services of each namespace."""

    def __init__(self, by_namespace: frozenset[tuple[str, int]], *found: Peers) -> None:
        """Pairs of a namespace and its place among `found`."""
        self._by_namespace = {namespace: found[place] for namespace, place in by_namespace}

    def peers(self, namespace: str) -> Peers:
        return self._by_namespace[namespace]


def whom(snapshot: Snapshot) -> Whom:
    """One object as long as the answers stay the same."""
    memo = snapshot.memo
    by_namespace = catalog(snapshot).by_namespace
    found = [peers(snapshot, members) for members in by_namespace.values()]
    return memo(Whom, frozenset((namespace, place) for place, namespace in enumerate(by_namespace)), *found)


class Plan(Model):
    """What all clients have in common who see the same services and follow the same VirtualServices."""

    neighbours: Mapping[str, Neighbours]
    """By namespace."""
    headless: tuple[MeshService, ...]
    """Services whose Pods get listeners of their own."""


def groups(snapshot: Snapshot, client: Client, labels: Labels) -> tuple[Group, ...]:
    """One group per namespace with services that the client may see."""
    memo, book = snapshot.memo, rulebook(snapshot)
    services = visible_services(snapshot, client.namespace)
    plan = memo(_plan, memo, services, mesh_routes(snapshot, client.namespace))
    slices = _slices(snapshot, plan)
    found = whom(snapshot)
    shared = memo(_shared, memo, plan, book, slices, found)
    special = _special(memo, plan, book, client.namespace)
    hashing = hash_policies(snapshot, client.namespace, labels)
    own = {
        owner: _group(memo, plan.neighbours[owner], book, client, labels, hashing, slices, found)
        for owner in special
        if owner in plan.neighbours
    }
    return tuple([own.get(owner) or group for owner, group in shared.items()])


def _plan(memo: Memo, services: Catalog, routes: MeshRoutes) -> Plan:
    neighbours = {
        namespace: _neighbours(memo, services, members, routes) for namespace, members in services.by_namespace.items()
    }
    return Plan(
        neighbours=neighbours, headless=tuple(service for one in neighbours.values() for service in one.headless)
    )


def _neighbours(memo: Memo, services: Catalog, members: tuple[MeshService, ...], routes: MeshRoutes) -> Neighbours:
    """The same object as long as nothing in it changes, whatever else does in the mesh."""
    selections = tuple(
        memo(_selection, routes.for_service(service.host), routes.overlapping(service.host)) for service in members
    )
    mentioned = frozenset().union(*(one.destinations for chosen in selections for one in chosen.all))
    hosts = (*(service.host for service in members), *sorted(mentioned))
    found = tuple(services.resolve(host) for host in hosts)
    aliases = tuple(f"{host} {alias}" for host in hosts for alias in services.aliases.get(host, ()))
    reach = memo(Reach, hosts, found, aliases)
    return memo(_together, members, selections, reach)


def _together(services: tuple[MeshService, ...], selections: tuple[Selection, ...], reach: Reach) -> Neighbours:
    return Neighbours(services=services, selections=selections, reach=reach)


def _selection(http: tuple[Routing, ...], connections: tuple[Routing, ...]) -> Selection:
    return Selection(http=http, connections=connections)


def _slices(snapshot: Snapshot, plan: Plan) -> tuple[EndpointSlice, ...]:
    found = snapshot.table(EndpointSlice).grouped(slice_owner)
    return tuple(one for service in plan.headless for one in found.get((service.namespace, service.name), ()))


def _shared(
    memo: Memo, plan: Plan, book: Rulebook, slices: tuple[EndpointSlice, ...], found: Whom
) -> Mapping[str, Group]:
    """What a stranger gets: a client of no namespace and without labels."""
    return {
        owner: _group(memo, one, book, ANYONE, frozenset(), no_hashing, slices, found)
        for owner, one in plan.neighbours.items()
    }


def _special(memo: Memo, plan: Plan, book: Rulebook, namespace: str) -> Iterable[str]:
    """The namespaces about which this client may get another answer than a stranger."""
    if book.uses_hashing:
        return plan.neighbours
    local = book.of(namespace)
    touched = (owner for owner in plan.neighbours if local.touches(owner)) if local is not None else ()
    return {namespace, *touched, *memo(_who_asks_matters, plan, book)}


def _who_asks_matters(plan: Plan, book: Rulebook) -> frozenset[str]:
    return frozenset(
        owner
        for owner, one in plan.neighbours.items()
        if one.asks_source or not all(place.same_for_all for place in book.places("", owner))
    )


def _group(
    memo: Memo,
    neighbours: Neighbours,
    book: Rulebook,
    client: Client,
    labels: Labels,
    hashing: Hashing,
    slices: tuple[EndpointSlice, ...],
    found: Whom,
) -> Group:
    owner = neighbours.services[0].namespace
    domain = f"{client.namespace if client.namespace == owner else ''}.svc.{DOMAIN}"
    asker = client if neighbours.asks_source else ANYONE
    own_slices = slices if neighbours.headless else ()
    rules = lookup(memo, book, client.namespace, labels, owner)
    return memo(group, memo, neighbours, asker, domain, hashing, rules, own_slices, found.peers(owner))


def hash_policies(snapshot: Snapshot, namespace: str, labels: Labels) -> Hashing:
    """Hash policies live on routes, so routes depend on DestinationRules, but only where one of these hashes."""
    book = rulebook(snapshot)
    if not book.uses_hashing:
        return no_hashing
    services = visible_services(snapshot, namespace)
    return snapshot.memo(_hash_policies, snapshot.memo, services, book, namespace, labels)


def _hash_policies(memo: Memo, services: Catalog, book: Rulebook, namespace: str, labels: Labels) -> Hashing:
    def hashing(host: str, port: int, subset: str) -> ConsistentHashLB | None:
        service = services.by_host.get(host)
        found = lookup(memo, book, namespace, labels, service.namespace if service else "")
        return consistent_hash(memo, found.rule(host), port, subset)

    return hashing
