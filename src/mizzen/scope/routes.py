"""VirtualServices: which one speaks for a host, and the rules that a client gets from it.

What can be decided before a request arrives is decided here: port, gateway, source labels and source namespace.
https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol as Structural
from typing import TypeVar

from msgspec.structs import replace

from mizzen.api.base import Model
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import (
    ConsistentHashLB,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    RouteDestination,
    StringMatch,
    VirtualService,
    VirtualServiceSpec,
)
from mizzen.api.networking import Destination as Wanted
from mizzen.scope.hosts import HostIndex, full_name, matches
from mizzen.scope.ingresses import translated
from mizzen.scope.memo import Memo
from mizzen.scope.model import Destination, Mirror, Protocol, Rule, Source
from mizzen.scope.services import MeshService
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.subsets import UNKNOWN_CLUSTER, cluster_name
from mizzen.scope.visibility import Audience, audience

MESH = "mesh"


class Client(Model):
    """Who asks, as far as match conditions look."""

    namespace: str = ""
    labels: Mapping[str, str] = {}
    gateway: str = MESH
    """`namespace/name` of the Gateway resource whose server is being answered for."""


ANYONE = Client()
"""Stands in where no rule asks who calls, so that the answer is shared."""


class Routing(Model):
    """A VirtualService with its names made absolute."""

    object: VirtualService
    hosts: tuple[str, ...]
    gateways: frozenset[str]
    audience: Audience
    labels: frozenset[str]
    """Keys that `sourceLabels` ask about."""
    asks_source: bool
    """Whether some match looks at labels or namespace of the client."""
    destinations: frozenset[str]
    """The hosts that its rules send requests to."""

    @property
    def namespace(self) -> str:
        return self.object.metadata.namespace

    def source(self, rule: int) -> Source:
        meta = self.object.metadata
        return Source(kind="VirtualService", namespace=meta.namespace, name=meta.name, rule=rule)


def routing(virtual_service: VirtualService, export_default: tuple[str, ...]) -> Routing:
    spec, namespace = virtual_service.spec, virtual_service.metadata.namespace
    conditions = [match for group in (spec.http, spec.tls, spec.tcp) for rule in group for match in rule.match]
    return Routing(
        object=virtual_service,
        hosts=tuple(dict.fromkeys(full_name(host, namespace).lower() for host in spec.hosts)),
        gateways=gateway_names(spec.gateways, namespace) or frozenset({MESH}),
        audience=audience(spec.export_to, namespace, export_default),
        labels=frozenset(label for match in conditions for label in match.source_labels),
        asks_source=any(match.source_labels or match.source_namespace for match in conditions),
        destinations=frozenset(full_name(wanted.host, namespace).lower() for wanted in _wanted(spec)),
    )


def ingress_routing(virtual_service: VirtualService) -> Routing:
    """Of one that stands for Ingresses: their hosts are what clients say, never short for a Service."""
    made = routing(virtual_service, virtual_service.spec.export_to)
    return replace(made, hosts=virtual_service.spec.hosts)


def _wanted(spec: VirtualServiceSpec) -> Iterator[Wanted]:
    for http in spec.http:
        yield from (route.destination for route in http.route)
        yield from (mirror.destination for mirror in http.mirrors)
        if http.mirror is not None:
            yield http.mirror
    for rules in (spec.tls, spec.tcp):
        for rule in rules:
            yield from (route.destination for route in rule.route)


def gateway_names(names: Iterable[str], namespace: str) -> frozenset[str]:
    return frozenset(name if name == MESH or "/" in name else f"{namespace}/{name}" for name in names)


class MeshRoutes:
    """The VirtualServices that sidecars of one namespace follow."""

    def __init__(self, routings: Iterable[Routing]) -> None:
        self.routings = tuple(sorted(routings, key=lambda one: one.object.age_key))
        by_host: dict[str, tuple[Routing, ...]] = {}
        for one in self.routings:
            for host in one.hosts:
                by_host[host] = (*by_host.get(host, ()), one)
        self._index = HostIndex(by_host)
        self.labels = frozenset(label for one in self.routings for label in one.labels)
        self.asks_source = any(one.asks_source for one in self.routings)

    def for_service(self, host: str) -> tuple[Routing, ...]:
        """Who may speak for a service, oldest first; of wildcards only the most specific one, and its oldest."""
        found = self._index.get(host) or ()
        return found if host in self._index.exact else found[:1]

    def overlapping(self, host: str) -> tuple[Routing, ...]:
        """All that name the host or a wildcard over it, oldest first: for TCP and TLS rules."""
        exact = self._index.exact.get(host, ())
        wild = [one for pattern, found in self._index.wildcards.items() if matches(host, pattern) for one in found]
        if not wild:
            return exact
        both = {id(one): one for one in (*exact, *wild)}
        return tuple(sorted(both.values(), key=lambda one: one.object.age_key))


class AllRoutes:
    """Every VirtualService of the mesh."""

    def __init__(
        self, memo: Memo, table: Iterable[VirtualService], mesh: MeshConfig, ingress: tuple[VirtualService, ...] = ()
    ) -> None:
        """`ingress` are those that stand for Ingresses."""
        default = mesh.default_virtual_service_export_to
        everything = [memo(routing, one, default) for one in table] + [memo(ingress_routing, one) for one in ingress]
        self.everything = tuple(sorted(everything, key=lambda one: one.object.age_key))
        self._mesh = tuple(one for one in everything if MESH in one.gateways)
        self._special = frozenset().union(*(one.audience.named for one in self._mesh))

    def asker(self, namespace: str) -> str:
        """Namespaces that no `exportTo` names see the same."""
        return namespace if namespace in self._special else ""

    def seen_from(self, namespace: str) -> MeshRoutes:
        return MeshRoutes(one for one in self._mesh if one.audience.admits(namespace))

    def for_gateway(self, gateway: str, namespace: str) -> tuple[Routing, ...]:
        """Those bound to a Gateway (`ns/name`) and visible where its proxy lives, oldest first."""
        return tuple(one for one in self.everything if gateway in one.gateways and one.audience.admits(namespace))


def all_routes(snapshot: Snapshot) -> AllRoutes:
    memo = snapshot.memo
    return memo(AllRoutes, memo, snapshot.table(VirtualService), snapshot.mesh, translated(snapshot).virtual_services)


def mesh_routes(snapshot: Snapshot, namespace: str) -> MeshRoutes:
    """What the sidecars of a namespace follow."""
    everything = all_routes(snapshot)
    return snapshot.memo(AllRoutes.seen_from, everything, everything.asker(namespace))


class Hashing(Structural):
    """Answers which hash policy the DestinationRules of a destination ask for."""

    def __call__(self, host: str, port: int, subset: str) -> ConsistentHashLB | None: ...


def no_hashing(host: str, port: int, subset: str) -> None:
    """For meshes in which no DestinationRule hashes, which is most of them."""


class Known(Structural):
    """The services that rules may lead to."""

    def resolve(self, host: str) -> MeshService | None: ...


def http_rules(one: Routing, port: int, client: Client, services: Known, hashing: Hashing) -> tuple[Rule, ...]:
    """The rules of a VirtualService for a client on a port, in order, up to the first that takes everything."""
    rules: list[Rule] = []
    for index, http in enumerate(one.object.spec.http):
        if http.delegate is not None:
            continue  # Refused at admission; stored by another control plane it answers nothing.
        for match in http.match or (None,):
            if match is not None and not applies(match, one.namespace, port, client):
                continue
            rules.append(_rule(one, index, http, match, port, services, hashing))
            if takes_everything(match):
                return tuple(rules)
    return tuple(rules)


class Condition(Structural):
    """What match blocks of http, tls and tcp rules have in common."""

    @property
    def port(self) -> int: ...
    @property
    def gateways(self) -> tuple[str, ...]: ...
    @property
    def source_labels(self) -> dict[str, str]: ...
    @property
    def source_namespace(self) -> str: ...


def applies(match: Condition, namespace: str, port: int, client: Client) -> bool:
    """Decides the static part of an http match. Naming gateways switches the questions about the source off."""
    if match.port and match.port != port:
        return False
    if match.gateways:
        return client.gateway in gateway_names(match.gateways, namespace)
    return _from(match, client)


def applies_to_connections(match: Condition, namespace: str, port: int, client: Client) -> bool:
    """The same for tls and tcp matches, where all conditions must hold."""
    named = not match.gateways or client.gateway in gateway_names(match.gateways, namespace)
    return named and (not match.port or match.port == port) and _from(match, client)


def _from(match: Condition, client: Client) -> bool:
    right_namespace = match.source_namespace in ("", client.namespace)
    return right_namespace and match.source_labels.items() <= client.labels.items()


def takes_everything(match: HTTPMatchRequest | None) -> bool:
    """No rule after this one can ever be reached."""
    if match is None:
        return True
    conditions = (match.headers, match.without_headers, match.query_params, match.method, match.authority, match.scheme)
    return _any_path(match.uri) and not any(conditions)


def _any_path(uri: StringMatch | None) -> bool:
    if uri is None or uri == StringMatch():
        return True
    return uri.prefix == "/" or uri.regex == ".*"


def _rule(
    one: Routing,
    index: int,
    http: HTTPRoute,
    match: HTTPMatchRequest | None,
    port: int,
    services: Known,
    hashing: Hashing,
) -> Rule:
    answers_itself = http.redirect is not None or http.direct_response is not None
    shares = [] if answers_itself else _shares(http.route)
    return Rule(
        match=match,
        http=http,
        destinations=_http_destinations(http, shares, one.namespace, port, services),
        source=one.source(index),
        consistent_hash=_hashes(shares, one.namespace, port, services, hashing),
        mirrors=() if answers_itself else tuple(_mirrors(http, one.namespace, port, services)),
    )


W = TypeVar("W", HTTPRouteDestination, RouteDestination)


def _shares(routes: tuple[W, ...]) -> list[W]:
    """The weight of an only destination says nothing; of several, those of weight 0 get nothing."""
    return [route for route in routes if route.weight > 0] if len(routes) > 1 else list(routes)


def _http_destinations(
    http: HTTPRoute, shares: list[HTTPRouteDestination], namespace: str, port: int, services: Known
) -> tuple[Destination, ...]:
    if http.route and not shares and http.redirect is None and http.direct_response is None:
        return (Destination(cluster=UNKNOWN_CLUSTER, host="", port=port),)
    return tuple(
        replace(destination(share.destination, namespace, port, services, share.weight), headers=share.headers)
        for share in shares
    )


def connection_destinations(
    routes: tuple[RouteDestination, ...], namespace: str, port: int, services: Known
) -> tuple[Destination, ...]:
    """The shares of a tcp or tls rule."""
    shares = _shares(routes)
    return tuple(destination(share.destination, namespace, port, services, share.weight) for share in shares)


def undeclared(destinations: Iterable[Destination], services: Known) -> bool:
    """Whether some of these ports may speak anything."""
    found = ((services.resolve(one.host), one.port) for one in destinations)
    ports = (service.port(number) for service, number in found if service is not None)
    return any(port is not None and port.protocol is Protocol.AUTO for port in ports)


def destination(wanted: Wanted, namespace: str, port: int, services: Known, weight: int = 0) -> Destination:
    """The cluster that a rule in `namespace` means, for requests that came in on `port`.

    Without a port of its own it is the service's only port, else the one that the request came in on.
    """
    host = full_name(wanted.host, namespace).lower()
    service = services.resolve(host)
    if service is not None:
        host = service.host
    if wanted.port is not None:
        port = wanted.port.number
    elif service is not None and len(service.ports) == 1:
        port = service.ports[0].number
    return Destination(cluster=cluster_name(host, port, wanted.subset), host=host, port=port, weight=weight)


def _hashes(
    shares: list[HTTPRouteDestination], namespace: str, port: int, services: Known, hashing: Hashing
) -> tuple[ConsistentHashLB, ...]:
    found = []
    for share in shares:
        target = destination(share.destination, namespace, port, services)
        found.append(hashing(target.host, target.port, share.destination.subset))
    return tuple(dict.fromkeys(policy for policy in found if policy is not None))


def _mirrors(http: HTTPRoute, namespace: str, port: int, services: Known) -> Iterator[Mirror]:
    """Nothing said means all of the requests; a share of 0 is off."""
    if http.mirror is not None:
        percentage = _mirror_percentage(http)
        if percentage > 0:
            yield Mirror(destination=destination(http.mirror, namespace, port, services), percentage=percentage)
    for mirror in http.mirrors:
        percentage = mirror.percentage.value if mirror.percentage is not None else 100.0
        if percentage > 0:
            yield Mirror(destination=destination(mirror.destination, namespace, port, services), percentage=percentage)


def _mirror_percentage(http: HTTPRoute) -> float:
    if http.mirror_percentage is not None:
        return http.mirror_percentage.value
    old = http.mirror_percent if http.mirror_percent is not None else http.mirror_percent_legacy
    return 100.0 if old is None else float(old)
