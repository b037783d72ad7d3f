"""What Services mean in nftables: one table, as a whole or as the difference between two states. Pure.

A connection to a Service's address and port goes to the chain of that service port, whose one rule rewrites the
destination to an endpoint by chance. A service port without endpoints is refused at once, as kube-proxy does it.
https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

import socket
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mizzen.kube.api import JSON
from mizzen.nftables import messages
from mizzen.nftables.fields import CT_STATUS, DESTINATION_TYPE, DNAT, IP_DADDR, IP_SADDR, L4PROTO, LOCAL, TH_DPORT
from mizzen.nftables.kinds import INET_PROTO, INET_SERVICE, INTEGER, IPV4_ADDR, Kind
from mizzen.nftables.messages import Message
from mizzen.nftables.ruleset import (
    Chain,
    Goto,
    Hook,
    NamedMap,
    NamedSet,
    Rule,
    Table,
    Values,
    in_set,
    masquerade,
    random_destination,
    reject_as_unreachable,
    reject_with_reset,
    verdict_map,
)

TABLE = "mizzen-services"
_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}
_SERVICE_NAME = "kubernetes.io/service-name"

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
class State:
    """The table's contents, comparable piece by piece."""

    chains: Mapping[str, tuple[Address, ...]]
    """Chain to its endpoints, never none."""
    vips: Mapping[tuple[str, int, int], str]
    """(address, protocol, port) to chain."""
    node_ports: Mapping[tuple[int, int], str]
    refused: frozenset[tuple[str, int, int]]
    refused_node_ports: frozenset[tuple[int, int]]
    hairpin: frozenset[tuple[str, str]]
    """A Pod that is sent to itself must be masqueraded, or its answer would not come back through here."""


def state_of(ports: Iterable[ServicePort]) -> State:
    """Where two Services claim the same address and port, the one that comes first has it."""
    chains: dict[str, tuple[Address, ...]] = {}
    vips: dict[tuple[str, int, int], str] = {}
    node_ports: dict[tuple[int, int], str] = {}
    for port in ports:
        chains[port.chain] = port.endpoints
        for address, number in port.addresses:
            vips.setdefault((address, port.protocol, number), port.chain)
        if port.node_port:
            node_ports.setdefault((port.protocol, port.node_port), port.chain)
    return State(
        chains={chain: endpoints for chain, endpoints in chains.items() if endpoints},
        vips={vip: chain for vip, chain in vips.items() if chains[chain]},
        node_ports={port: chain for port, chain in node_ports.items() if chains[chain]},
        refused=frozenset(vip for vip, chain in vips.items() if not chains[chain]),
        refused_node_ports=frozenset(port for port, chain in node_ports.items() if not chains[chain]),
        hairpin=frozenset((address, address) for endpoints in chains.values() for address, _ in endpoints),
    )


def table(state: State) -> Table:
    """The whole table."""
    return Table(
        TABLE,
        (*_base_chains(), *(_chain(name, endpoints) for name, endpoints in state.chains.items())),
        (
            _vip_map(state.vips),
            _node_port_map(state.node_ports),
            NamedSet("refused", _VIP_KEY, state.refused),
            NamedSet("refused-node-ports", _NODE_PORT_KEY, state.refused_node_ports),
            NamedSet("hairpin", _HAIRPIN_KEY, state.hairpin),
            *(_endpoint_map(name, endpoints) for name, endpoints in state.chains.items()),
        ),
    )


def changes(old: State, new: State) -> list[Message]:
    """What leads from one state to the other: references go before what they refer to, and come after it."""
    return [
        *_withdrawn("vips", _VIP_KEY, _lost(old.vips, new.vips)),
        *_withdrawn("node-ports", _NODE_PORT_KEY, _lost(old.node_ports, new.node_ports)),
        *_withdrawn("refused", _VIP_KEY, old.refused - new.refused),
        *_withdrawn("refused-node-ports", _NODE_PORT_KEY, old.refused_node_ports - new.refused_node_ports),
        *_withdrawn("hairpin", _HAIRPIN_KEY, old.hairpin - new.hairpin),
        *(message for name in _lost(old.chains, new.chains) for message in _emptied(name, new)),
        *(message for name in _lost(new.chains, old.chains) for message in _filled(name, old, new)),
        *messages.new_elements(TABLE, _vip_map(_gained(old.vips, new.vips))),
        *messages.new_elements(TABLE, _node_port_map(_gained(old.node_ports, new.node_ports))),
        *messages.new_elements(TABLE, NamedSet("refused", _VIP_KEY, new.refused - old.refused)),
        *messages.new_elements(
            TABLE, NamedSet("refused-node-ports", _NODE_PORT_KEY, new.refused_node_ports - old.refused_node_ports)
        ),
        *messages.new_elements(TABLE, NamedSet("hairpin", _HAIRPIN_KEY, new.hairpin - old.hairpin)),
    ]


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


def _chain(name: str, endpoints: tuple[Address, ...]) -> Chain:
    return Chain(name, (Rule(random_destination(len(endpoints), name)),))


def _endpoint_map(name: str, endpoints: tuple[Address, ...]) -> NamedMap:
    return NamedMap(name, (INTEGER,), _ENDPOINT, {(index,): endpoint for index, endpoint in enumerate(endpoints)})


def _vip_map(vips: Mapping[tuple[str, int, int], str]) -> NamedMap:
    return NamedMap("vips", _VIP_KEY, elements={vip: Goto(chain) for vip, chain in vips.items()})


def _node_port_map(ports: Mapping[tuple[int, int], str]) -> NamedMap:
    return NamedMap("node-ports", _NODE_PORT_KEY, elements={port: Goto(chain) for port, chain in ports.items()})


def _emptied(name: str, new: State) -> list[Message]:
    """A chain that goes, or whose endpoints change, loses its rule and its map."""
    emptied = [messages.flush_chain(TABLE, name), messages.delete_set(TABLE, name)]
    return emptied if name in new.chains else [*emptied, messages.delete_chain(TABLE, name)]


def _filled(name: str, old: State, new: State) -> list[Message]:
    endpoints = new.chains[name]
    chain, endpoint_map = _chain(name, endpoints), _endpoint_map(name, endpoints)
    created = [] if name in old.chains else [messages.new_chain(TABLE, chain)]
    return [
        *created,
        messages.new_set(TABLE, endpoint_map),
        *messages.new_elements(TABLE, endpoint_map),
        *(messages.new_rule(TABLE, name, rule) for rule in chain.rules),
    ]


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _lost(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> list[Any]:
    """What is gone, or is another."""
    return [key for key, value in old.items() if new.get(key) != value]


def _gained(old: Mapping[K, V], new: Mapping[K, V]) -> dict[K, V]:
    return {key: value for key, value in new.items() if old.get(key) != value}


def _withdrawn(name: str, key: tuple[Kind, ...], elements: Iterable[Values]) -> list[Message]:
    return messages.delete_elements(TABLE, name, key, elements)


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
    )


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
