"""What Services mean in nftables: one table. Pure.

A connection to a Service's address and port goes to the chain of that service port, whose one rule rewrites the
destination to an endpoint by chance. A service port without endpoints is refused at once, as kube-proxy does it.
https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mizzen.kube.api import JSON
from mizzen.nftables.families import IPV4, Family
from mizzen.nftables.fields import CT_STATUS, DESTINATION_TYPE, DNAT, L4PROTO, LOCAL, TH_DPORT, Statement
from mizzen.nftables.kinds import INET_PROTO, INET_SERVICE, INTEGER, Kind
from mizzen.nftables.ruleset import (
    Chain,
    Goto,
    Hook,
    NamedMap,
    NamedSet,
    Rule,
    Table,
    forget_endpoint,
    in_set,
    keep_endpoint,
    masquerade,
    random_endpoint,
    reject_as_unreachable,
    reject_with_reset,
    remembered_endpoint,
    to_endpoint,
    verdict_map,
)

TABLE = "mizzen-services"
_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}
_SERVICE_NAME = "kubernetes.io/service-name"
_AFFINITY_SECONDS = 10800
"""Kubernetes' default."""

_NODE_PORT_KEY = (INET_PROTO, INET_SERVICE)
_NODE_PORT_FIELDS = (L4PROTO, TH_DPORT)

Address = tuple[str, int]
"""An address and a port."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service: where it can be called, and who answers."""

    chain: str
    """`NAMESPACE/NAME/PROTOCOL/PORT`, and for IPv6 what tells it apart: names the chain and the map of endpoints."""
    protocol: int
    addresses: tuple[Address, ...]
    node_port: int = 0
    """0: none."""
    endpoints: tuple[Address, ...] = ()
    affinity: int = 0
    """Seconds for which a client comes back to its endpoint after its last connection; 0: it does not."""


def service_ports(
    services: Iterable[JSON],
    slices: Iterable[JSON],
    own_addresses: frozenset[str] = frozenset(),
    family: Family = IPV4,
) -> list[ServicePort]:
    """Every TCP and UDP port of every Service that has an address of this family; older Services first.

    What listens on `own_addresses` itself (API server, DNS) is left alone.
    """
    by_service: dict[tuple[str, str], list[JSON]] = {}
    for one in slices:
        metadata = one["metadata"]
        name = (metadata.get("labels") or {}).get(_SERVICE_NAME)
        if name and one.get("addressType") == family.name:
            by_service.setdefault((metadata.get("namespace", ""), name), []).append(one)
    return [
        _service_port(service, port, by_service.get(_name(service), []), own_addresses, family)
        for service in sorted(services, key=_age)
        for port in service["spec"].get("ports") or ()
        if port.get("protocol", "TCP") in _PROTOCOLS and _called(service, family)
    ]


@dataclass(frozen=True, slots=True)
class Backends:
    """Who answers at a chain: never nobody."""

    endpoints: tuple[Address, ...]
    affinity: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What the table holds about one family, comparable piece by piece."""

    family: Family
    chains: Mapping[str, Backends]
    vips: Mapping[tuple[str, int, int], str]
    """(address, protocol, port) to chain."""
    node_ports: Mapping[tuple[int, int], str]
    refused: frozenset[tuple[str, int, int]]
    refused_node_ports: frozenset[tuple[int, int]]
    hairpin: frozenset[tuple[str, str]]
    """A Pod that is sent to itself must be masqueraded, or its answer would not come back through here."""


def state_of(ports: Iterable[ServicePort], family: Family = IPV4) -> State:
    """Where two Services claim the same address and port, the one that comes first has it."""
    chains: dict[str, Backends] = {}
    vips: dict[tuple[str, int, int], str] = {}
    node_ports: dict[tuple[int, int], str] = {}
    for port in ports:
        chains[port.chain] = Backends(port.endpoints, port.affinity)
        for address, number in port.addresses:
            vips.setdefault((address, port.protocol, number), port.chain)
        if port.node_port:
            node_ports.setdefault((port.protocol, port.node_port), port.chain)
    return State(
        family=family,
        chains={chain: backends for chain, backends in chains.items() if backends.endpoints},
        vips={vip: chain for vip, chain in vips.items() if chains[chain].endpoints},
        node_ports={port: chain for port, chain in node_ports.items() if chains[chain].endpoints},
        refused=frozenset(vip for vip, chain in vips.items() if not chains[chain].endpoints),
        refused_node_ports=frozenset(port for port, chain in node_ports.items() if not chains[chain].endpoints),
        hairpin=frozenset((address, address) for each in chains.values() for address, _ in each.endpoints),
    )


def table(*states: State) -> Table:
    """The whole table: one state of each family that there is."""
    return Table(
        TABLE,
        (*_base_chains([one.family for one in states]), *(chain for one in states for chain in _chains(one))),
        tuple(named for one in states for named in _named(one)),
    )


def _chains(state: State) -> Iterator[Chain]:
    return (_chain(name, backends, state.family) for name, backends in state.chains.items())


def _named(state: State) -> Iterator[NamedSet | NamedMap]:
    family = state.family
    vips, node_ports = state.vips.items(), state.node_ports.items()
    yield NamedMap(_of("vips", family), _vip_key(family), elements={vip: Goto(chain) for vip, chain in vips})
    yield NamedMap(
        _of("node-ports", family), _NODE_PORT_KEY, elements={port: Goto(chain) for port, chain in node_ports}
    )
    yield NamedSet(_of("refused", family), _vip_key(family), state.refused)
    yield NamedSet(_of("refused-node-ports", family), _NODE_PORT_KEY, state.refused_node_ports)
    yield NamedSet(_of("hairpin", family), (family.address, family.address), state.hairpin)
    for name, backends in state.chains.items():
        yield from _sets(name, backends, family)


def _of(name: str, family: Family) -> str:
    return name + family.suffix


def _vip_key(family: Family) -> tuple[Kind, ...]:
    return (family.address, INET_PROTO, INET_SERVICE)


def _base_chains(families: Sequence[Family]) -> tuple[Chain, ...]:
    """`-110` is just before destinations are rewritten; nodes' own loopback addresses offer no node ports."""
    translate = tuple(rule for family in families for rule in _translate(family))
    refuse = tuple(rule for family in families for rule in _refuse(family))
    return (
        Chain("refuse-prerouting", refuse, Hook("filter", "prerouting", -110)),
        Chain("refuse-output", refuse, Hook("filter", "output", -110)),
        Chain("prerouting", translate, Hook("nat", "prerouting", -100)),
        Chain("output", translate, Hook("nat", "output", -100)),
        Chain("postrouting", tuple(map(_hairpin, families)), Hook("nat", "postrouting", 100)),
    )


def _translate(family: Family) -> tuple[Rule, ...]:
    vips = verdict_map((family.destination, L4PROTO, TH_DPORT), _of("vips", family))
    return Rule(vips), Rule(*_own_address(family), verdict_map(_NODE_PORT_FIELDS, _of("node-ports", family)))


def _own_address(family: Family) -> tuple[Statement, ...]:
    return DESTINATION_TYPE.is_(LOCAL), family.destination.not_within(family.loopback)


def _refuse(family: Family) -> tuple[Rule, ...]:
    is_tcp = L4PROTO.is_(socket.IPPROTO_TCP)
    no_vip = in_set((family.destination, L4PROTO, TH_DPORT), _of("refused", family))
    no_node_port = in_set(_NODE_PORT_FIELDS, _of("refused-node-ports", family))
    return (
        Rule(is_tcp, no_vip, reject_with_reset()),
        Rule(no_vip, reject_as_unreachable()),
        Rule(is_tcp, *_own_address(family), no_node_port, reject_with_reset()),
        Rule(*_own_address(family), no_node_port, reject_as_unreachable()),
    )


def _hairpin(family: Family) -> Rule:
    itself = in_set((family.source, family.destination), _of("hairpin", family))
    return Rule(CT_STATUS.has_bits(DNAT), itself, masquerade())


def _chain(name: str, backends: Backends, family: Family) -> Chain:
    choose = random_endpoint(len(backends.endpoints), name)
    if not backends.affinity:
        return Chain(name, (Rule(choose, to_endpoint(family)),))
    clients, keep = _clients(name), keep_endpoint(family, _clients(name), backends.affinity)
    return Chain(
        name,
        (
            Rule(remembered_endpoint(family, clients, _known(name)), keep, to_endpoint(family)),
            Rule(choose, forget_endpoint(family, clients), keep, to_endpoint(family)),
        ),
    )


def _sets(name: str, backends: Backends, family: Family) -> list[NamedSet | NamedMap]:
    """The endpoints by number; for a Service with affinity, who was sent where, and which endpoints there are still."""
    endpoint = (family.address, INET_SERVICE)
    numbered = NamedMap(name, (INTEGER,), endpoint, {(i,): each for i, each in enumerate(backends.endpoints)})
    if not backends.affinity:
        return [numbered]
    clients = NamedMap(_clients(name), (family.address,), endpoint, dynamic=True)
    return [numbered, clients, NamedSet(_known(name), endpoint, frozenset(backends.endpoints))]


def _clients(chain: str) -> str:
    return f"{chain}/clients"


def _known(chain: str) -> str:
    return f"{chain}/known"


def _name(obj: JSON) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _age(obj: JSON) -> tuple[str, str, str]:
    return obj["metadata"].get("creationTimestamp") or "", *_name(obj)


def _called(service: JSON, family: Family) -> bool:
    """Headless Services and ExternalNames have no address of their own."""
    spec = service["spec"]
    has_address = spec.get("type") != "ExternalName" and spec.get("clusterIP") not in (None, "", "None")
    return has_address and any(family.has(address) for address in _cluster_ips(spec))


def _cluster_ips(spec: JSON) -> list[str]:
    return spec.get("clusterIPs") or [spec["clusterIP"]]


def _service_port(
    service: JSON, port: JSON, slices: list[JSON], own_addresses: frozenset[str], family: Family
) -> ServicePort:
    namespace, name = _name(service)
    protocol = port.get("protocol", "TCP")
    addresses = [address for address in _addresses(service, family) if address not in own_addresses]
    return ServicePort(
        chain=f"{namespace}/{name}/{protocol.lower()}/{port['port']}{family.suffix}",
        protocol=_PROTOCOLS[protocol],
        addresses=tuple((address, port["port"]) for address in addresses),
        node_port=port.get("nodePort") or 0,
        endpoints=_endpoints(slices, port.get("name") or "", protocol),
        affinity=_affinity(service["spec"]),
    )


def _affinity(spec: JSON) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(config.get("timeoutSeconds") or _AFFINITY_SECONDS)


def _addresses(service: JSON, family: Family) -> list[str]:
    spec = service["spec"]
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    external = [ingress.get("ip") for ingress in balancer.get("ingress") or ()]
    found = [*_cluster_ips(spec), *(spec.get("externalIPs") or ()), *external]
    return [address for address in dict.fromkeys(found) if address and family.has(address)]


def _endpoints(slices: list[JSON], port_name: str, protocol: str) -> tuple[Address, ...]:
    """Ready endpoints; where there is none, those that still serve while they end."""
    ready: set[Address] = set()
    ending: set[Address] = set()
    for one in slices:
        for port in one.get("ports") or ():
            if (port.get("name") or "") != port_name or port.get("protocol", "TCP") != protocol or not port.get("port"):
                continue
            for endpoint in one.get("endpoints") or ():
                conditions = endpoint.get("conditions") or {}
                found = {(address, port["port"]) for address in endpoint["addresses"]}
                if conditions.get("ready") is not False:
                    ready |= found
                elif conditions.get("serving") and conditions.get("terminating"):
                    ending |= found
    return tuple(sorted(ready or ending))
