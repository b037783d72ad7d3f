"""What Services mean in nftables: one table. Pure.

A connection to a Service's address and port goes to the chain of that service port, whose one rule rewrites the
destination to an endpoint by chance. A service port without endpoints is refused at once, as kube-proxy does it.
https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mizzen.kube.api import JSON
from mizzen.nftables.fields import CT_STATUS, DESTINATION_TYPE, DNAT, IP_DADDR, IP_SADDR, L4PROTO, LOCAL, TH_DPORT
from mizzen.nftables.kinds import INET_PROTO, INET_SERVICE, INTEGER, IPV4_ADDR
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

_VIP_KEY = (IPV4_ADDR, INET_PROTO, INET_SERVICE)
_NODE_PORT_KEY = (INET_PROTO, INET_SERVICE)
_HAIRPIN_KEY = (IPV4_ADDR, IPV4_ADDR)
_ENDPOINT = (IPV4_ADDR, INET_SERVICE)
_VIP_FIELDS = (IP_DADDR, L4PROTO, TH_DPORT)
_NODE_PORT_FIELDS = (L4PROTO, TH_DPORT)

Address = tuple[str, int]
"""An IPv4 address and a port."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service: where it can be called, and who answers."""

    chain: str
    """`NAMESPACE/NAME/PROTOCOL/PORT`: names the chain and the map of endpoints."""
    protocol: int
    addresses: tuple[Address, ...]
    node_port: int = 0
    """0: none."""
    endpoints: tuple[Address, ...] = ()
    affinity: int = 0
    """Seconds for which a client comes back to its endpoint after its last connection; 0: it does not."""


def service_ports(
    services: Iterable[JSON], slices: Iterable[JSON], own_addresses: frozenset[str] = frozenset()
) -> list[ServicePort]:
    """Every TCP and UDP port of every Service that has an address; older Services first.

    What listens on `own_addresses` itself (API server, DNS) is left alone.
    """
    by_service: dict[tuple[str, str], list[JSON]] = {}
    for one in slices:
        metadata = one["metadata"]
        name = (metadata.get("labels") or {}).get(_SERVICE_NAME)
        if name and one.get("addressType") == "IPv4":
            by_service.setdefault((metadata.get("namespace", ""), name), []).append(one)
    return [
        _service_port(service, port, by_service.get(_name(service), []), own_addresses)
        for service in sorted(services, key=_age)
        for port in service["spec"].get("ports") or ()
        if port.get("protocol", "TCP") in _PROTOCOLS and _called(service)
    ]


@dataclass(frozen=True, slots=True)
class Backends:
    """Who answers at a chain: never nobody."""

    endpoints: tuple[Address, ...]
    affinity: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """The table's contents, comparable piece by piece."""

    chains: Mapping[str, Backends]
    vips: Mapping[tuple[str, int, int], str]
    """(address, protocol, port) to chain."""
    node_ports: Mapping[tuple[int, int], str]
    refused: frozenset[tuple[str, int, int]]
    refused_node_ports: frozenset[tuple[int, int]]
    hairpin: frozenset[tuple[str, str]]
    """A Pod that is sent to itself must be masqueraded, or its answer would not come back through here."""


def state_of(ports: Iterable[ServicePort]) -> State:
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
        chains={chain: backends for chain, backends in chains.items() if backends.endpoints},
        vips={vip: chain for vip, chain in vips.items() if chains[chain].endpoints},
        node_ports={port: chain for port, chain in node_ports.items() if chains[chain].endpoints},
        refused=frozenset(vip for vip, chain in vips.items() if not chains[chain].endpoints),
        refused_node_ports=frozenset(port for port, chain in node_ports.items() if not chains[chain].endpoints),
        hairpin=frozenset((address, address) for each in chains.values() for address, _ in each.endpoints),
    )


def table(state: State) -> Table:
    """The whole table."""
    return Table(
        TABLE,
        (*_base_chains(), *(_chain(name, backends) for name, backends in state.chains.items())),
        (
            _vip_map(state.vips),
            _node_port_map(state.node_ports),
            NamedSet("refused", _VIP_KEY, state.refused),
            NamedSet("refused-node-ports", _NODE_PORT_KEY, state.refused_node_ports),
            NamedSet("hairpin", _HAIRPIN_KEY, state.hairpin),
            *(each for name, backends in state.chains.items() for each in _sets(name, backends)),
        ),
    )


def _base_chains() -> tuple[Chain, ...]:
    """`-110` is just before destinations are rewritten; nodes' own loopback addresses offer no node ports."""
    is_local, not_loopback = DESTINATION_TYPE.is_(LOCAL), IP_DADDR.not_within("127.0.0.0/8")
    translate = (
        Rule(verdict_map(_VIP_FIELDS, "vips")),
        Rule(is_local, not_loopback, verdict_map(_NODE_PORT_FIELDS, "node-ports")),
    )
    is_tcp = L4PROTO.is_(socket.IPPROTO_TCP)
    no_vip = in_set(_VIP_FIELDS, "refused")
    no_node_port = in_set(_NODE_PORT_FIELDS, "refused-node-ports")
    refuse = (
        Rule(is_tcp, no_vip, reject_with_reset()),
        Rule(no_vip, reject_as_unreachable()),
        Rule(is_tcp, is_local, not_loopback, no_node_port, reject_with_reset()),
        Rule(is_local, not_loopback, no_node_port, reject_as_unreachable()),
    )
    hairpin = Rule(CT_STATUS.has_bits(DNAT), in_set((IP_SADDR, IP_DADDR), "hairpin"), masquerade())
    return (
        Chain("refuse-prerouting", refuse, Hook("filter", "prerouting", -110)),
        Chain("refuse-output", refuse, Hook("filter", "output", -110)),
        Chain("prerouting", translate, Hook("nat", "prerouting", -100)),
        Chain("output", translate, Hook("nat", "output", -100)),
        Chain("postrouting", (hairpin,), Hook("nat", "postrouting", 100)),
    )


def _chain(name: str, backends: Backends) -> Chain:
    choose = random_endpoint(len(backends.endpoints), name)
    if not backends.affinity:
        return Chain(name, (Rule(choose, to_endpoint()),))
    clients, keep = _clients(name), keep_endpoint(_clients(name), backends.affinity)
    return Chain(
        name,
        (
            Rule(remembered_endpoint(clients, _known(name)), keep, to_endpoint()),
            Rule(choose, forget_endpoint(clients), keep, to_endpoint()),
        ),
    )


def _sets(name: str, backends: Backends) -> list[NamedSet | NamedMap]:
    """The endpoints by number; for a Service with affinity, who was sent where, and which endpoints there are still."""
    numbered = NamedMap(name, (INTEGER,), _ENDPOINT, {(i,): each for i, each in enumerate(backends.endpoints)})
    if not backends.affinity:
        return [numbered]
    clients = NamedMap(_clients(name), (IPV4_ADDR,), _ENDPOINT, dynamic=True)
    return [numbered, clients, NamedSet(_known(name), _ENDPOINT, frozenset(backends.endpoints))]


def _clients(chain: str) -> str:
    return f"{chain}/clients"


def _known(chain: str) -> str:
    return f"{chain}/known"


def _vip_map(vips: Mapping[tuple[str, int, int], str]) -> NamedMap:
    return NamedMap("vips", _VIP_KEY, elements={vip: Goto(chain) for vip, chain in vips.items()})


def _node_port_map(ports: Mapping[tuple[int, int], str]) -> NamedMap:
    return NamedMap("node-ports", _NODE_PORT_KEY, elements={port: Goto(chain) for port, chain in ports.items()})


def _name(obj: JSON) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _age(obj: JSON) -> tuple[str, str, str]:
    return obj["metadata"].get("creationTimestamp") or "", *_name(obj)


def _called(service: JSON) -> bool:
    """Headless Services and ExternalNames have no address of their own."""
    spec = service["spec"]
    return spec.get("type") != "ExternalName" and spec.get("clusterIP") not in (None, "", "None")


def _service_port(service: JSON, port: JSON, slices: list[JSON], own_addresses: frozenset[str]) -> ServicePort:
    namespace, name = _name(service)
    protocol = port.get("protocol", "TCP")
    addresses = [address for address in _addresses(service) if address not in own_addresses]
    return ServicePort(
        chain=f"{namespace}/{name}/{protocol.lower()}/{port['port']}",
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


def _addresses(service: JSON) -> list[str]:
    spec = service["spec"]
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    external = [ingress.get("ip") for ingress in balancer.get("ingress") or ()]
    found = [*(spec.get("clusterIPs") or [spec["clusterIP"]]), *(spec.get("externalIPs") or ()), *external]
    return [address for address in dict.fromkeys(found) if address and ":" not in address]


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
