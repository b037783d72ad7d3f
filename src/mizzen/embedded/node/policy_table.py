"""What NetworkPolicies mean in nftables: one table, empty while there is no policy. Pure.

A Pod that policies select is led, by its address, to a chain for just those policies: a packet that one of their rules
allows returns from it, all others are dropped. Peers and ports are sets, so that Pods come and go without a rule being
touched. https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from itertools import product
from typing import Literal, TypeAlias

from mizzen.embedded.box.addresses import BRIDGE, GATEWAY, GATEWAY_IPV6
from mizzen.kube.api import JSON
from mizzen.kube.selectors import Labels, select_labels
from mizzen.nftables.families import IPV4, Family
from mizzen.nftables.fields import (
    CT_ORIGINAL_DPORT,
    CT_STATE,
    ESTABLISHED_OR_RELATED,
    IIFNAME,
    L4PROTO,
    NFPROTO,
    TH_DPORT,
    Field,
    Statement,
)
from mizzen.nftables.kinds import INET_PROTO, INET_SERVICE
from mizzen.nftables.ruleset import (
    Chain,
    Hook,
    Jump,
    NamedMap,
    NamedSet,
    Rule,
    Table,
    Values,
    accept,
    drop,
    in_set,
    leave,
    verdict_map,
)

TABLE = "mizzen-policies"
Direction: TypeAlias = Literal["ingress", "egress"]
Match: TypeAlias = tuple[Statement, ...]
"""Statements that must all hold."""

_Key: TypeAlias = tuple[str, str]
"""Namespace and name of a policy."""

_GATEWAYS = {4: GATEWAY, 6: GATEWAY_IPV6}
_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class PodEndpoint:
    """A Pod as policies see it. `ports`: its named ports, each as protocol number and port."""

    namespace: str
    labels: Labels
    addresses: tuple[str, ...]
    """At most one of each family."""
    ports: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def pod_endpoint(pod: JSON, addresses: tuple[str, ...]) -> PodEndpoint:
    containers = [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
    named = {
        port["name"]: (_PROTOCOLS[port.get("protocol") or "TCP"], int(port["containerPort"]))
        for container in containers
        for port in container.get("ports") or ()
        if port.get("name")
    }
    metadata = pod["metadata"]
    return PodEndpoint(metadata["namespace"], metadata.get("labels") or {}, addresses, named)


@dataclass(frozen=True, slots=True)
class _Way:
    """How one direction looks at a packet. `outside`: calls that end in this box, such as those relayed to foreign
    addresses, are judged by where they were going."""

    direction: Direction
    outside: bool = False

    @property
    def name(self) -> str:
        return f"{self.direction}-outside" if self.outside else self.direction

    @property
    def port(self) -> Field:
        return CT_ORIGINAL_DPORT if self.outside else TH_DPORT

    def remote(self, family: Family) -> Field:
        """The other end's address."""
        if self.outside:
            return family.original_destination
        return family.source if self.direction == "ingress" else family.destination

    def called(self, family: Family) -> Field:
        """The address whose port it is."""
        return family.destination if self.direction == "ingress" else self.remote(family)


_OUTSIDE = _Way("egress", outside=True)
_WAYS = (_Way("ingress"), _Way("egress"), _OUTSIDE)


@dataclass(frozen=True, slots=True)
class World:
    """All that policies speak about. `namespaces`: name to labels."""

    policies: Sequence[JSON]
    namespaces: Mapping[str, Labels]
    pods: Sequence[PodEndpoint]
    families: Sequence[Family] = (IPV4,)
    """Those in which packets go."""

    def selected(self, policy: JSON) -> list[PodEndpoint]:
        """The Pods that the policy is about."""
        holds = select_labels(policy["spec"].get("podSelector") or {})
        namespace = policy["metadata"]["namespace"]
        return [pod for pod in self.pods if pod.namespace == namespace and holds(pod.labels)]

    def peers(self, own: str, peer: JSON) -> Iterator[PodEndpoint]:
        """The Pods that one peer of a policy in namespace `own` names."""
        within = select_labels(peer["namespaceSelector"]) if peer.get("namespaceSelector") is not None else None
        holds = select_labels(peer.get("podSelector") or {})
        for pod in self.pods:
            named = pod.namespace == own if within is None else within(self.namespaces.get(pod.namespace) or {})
            if named and holds(pod.labels):
                yield pod


def table(world: World) -> Table:
    """Raises ValueError for a policy that the API should not have taken."""
    if not world.policies:
        return Table(TABLE)
    chains, maps = list(_base_chains(world.families)), []
    sets: dict[str, NamedSet] = {}
    for way in _WAYS:
        applied = _applied(world, way.direction)
        names = {policies: _chain_name(way, policies) for policies in set(applied.values())}
        chains += [_chain(world, way, names[each], each, sets) for each in sorted(names, key=names.__getitem__)]
        maps += [_led(way, applied, names, family) for family in world.families]
    own = [_pairs(world.pods, family) for family in world.families]
    return Table(TABLE, tuple(chains), (*maps, *own, *sets.values()))


def _led(
    way: _Way, applied: Mapping[str, tuple[_Key, ...]], names: Mapping[tuple[_Key, ...], str], family: Family
) -> NamedMap:
    """From the address of each isolated Pod to the chain for its policies."""
    led: dict[Values, Jump] = {
        (address,): Jump(names[keys]) for address, keys in applied.items() if family.has(address)
    }
    return NamedMap(way.name + family.suffix, (family.address,), elements=led)


def _pairs(pods: Iterable[PodEndpoint], family: Family) -> NamedSet:
    """Of each Pod with itself."""
    pairs = frozenset((address, address) for pod in pods for address in pod.addresses if family.has(address))
    return NamedSet("own" + family.suffix, (family.address, family.address), pairs)


def without_rules(policy: JSON) -> JSON:
    """What is left of a policy that cannot be understood: it isolates, and allows nothing."""
    return {**policy, "spec": {"podSelector": policy["spec"].get("podSelector"), "policyTypes": policy_types(policy)}}


def _base_chains(families: Sequence[Family]) -> tuple[Chain, ...]:
    """Packets of the node itself pass neither hook on their way to a Pod: probes are always allowed."""
    known = Rule(CT_STATE.has_bits(ESTABLISHED_OR_RELATED), accept())
    between = (rule for family in families for rule in _between(family))
    leaves = (_leaves(family) for family in families)
    return Chain("forward", (known, *between), Hook("filter", "forward", 0)), Chain(
        "input", (known, *leaves), Hook("filter", "input", 0)
    )


def _between(family: Family) -> tuple[Rule, ...]:
    own = Rule(in_set((family.source, family.destination), "own" + family.suffix), accept())
    egress = Rule(verdict_map((family.source,), "egress" + family.suffix))
    return own, egress, Rule(verdict_map((family.destination,), "ingress" + family.suffix))


def _leaves(family: Family) -> Rule:
    elsewhere = family.original_destination.is_not(_GATEWAYS[family.version])
    return Rule(IIFNAME.is_(BRIDGE), elsewhere, verdict_map((family.source,), _OUTSIDE.name + family.suffix))


def _applied(world: World, direction: Direction) -> dict[str, tuple[_Key, ...]]:
    """Address of each isolated Pod → the policies that isolate it, in order."""
    found: dict[str, list[_Key]] = {}
    for policy in sorted(world.policies, key=_key):
        if direction.capitalize() in policy_types(policy):
            for pod in world.selected(policy):
                for address in pod.addresses:
                    found.setdefault(address, []).append(_key(policy))
    return {address: tuple(keys) for address, keys in found.items()}


def policy_types(policy: JSON) -> list[str]:
    """With Kubernetes' defaults: egress only where there are rules for it."""
    spec = policy["spec"]
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def _key(policy: JSON) -> _Key:
    return policy["metadata"]["namespace"], policy["metadata"]["name"]


def _chain_name(way: _Way, policies: tuple[_Key, ...]) -> str:
    plain = f"{way.name}/{policies[0][0]}/{'+'.join(name for _, name in policies)}"
    if len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[:_LONGEST_NAME]}/{hashlib.sha256(plain.encode()).hexdigest()[:16]}"


def _chain(world: World, way: _Way, name: str, keys: tuple[_Key, ...], sets: dict[str, NamedSet]) -> Chain:
    rules = [
        rule
        for policy in sorted(world.policies, key=_key)
        if _key(policy) in keys
        for number, each in enumerate(policy["spec"].get(way.direction) or ())
        for rule in _rules(world, way, policy, each, number, sets)
    ]
    return Chain(name, (*rules, Rule(drop())))


def _rules(world: World, way: _Way, policy: JSON, rule: JSON, number: int, sets: dict[str, NamedSet]) -> Iterator[Rule]:
    """One ingress or egress rule: every way in which it allows a packet. Its sets are added to `sets`."""
    namespace, policy_name = _key(policy)
    name = f"{namespace}/{policy_name}/{way.direction}/{number}"
    peers: list[JSON] = rule.get("from" if way.direction == "ingress" else "to") or []
    named = [pod for peer in peers if "ipBlock" not in peer for pod in world.peers(namespace, peer)]
    anywhere = not peers or any("ipBlock" in peer for peer in peers)
    targets = world.selected(policy) if way.direction == "ingress" else world.pods if anywhere else named
    for family in world.families:
        sources = list(_peer_matches(way, name, peers, named, sets, family))
        ports = list(_port_matches(way, name, rule.get("ports") or [], targets, sets, family))
        anybody: Match = (NFPROTO.is_(family.number),) if len(world.families) > 1 else ()
        for source, port in product(sources if peers else [anybody], ports if rule.get("ports") else [()]):
            yield Rule(*source, *port, leave())


def _peer_matches(
    way: _Way,
    name: str,
    peers: Sequence[JSON],
    named: Sequence[PodEndpoint],
    sets: dict[str, NamedSet],
    family: Family,
) -> Iterator[Match]:
    remote = way.remote(family)
    if any("ipBlock" not in peer for peer in peers):
        own = f"{name}/pods{family.suffix}"
        addresses = frozenset((address,) for pod in named for address in pod.addresses if family.has(address))
        sets[own] = NamedSet(own, (family.address,), addresses)
        yield (in_set((remote,), own),)
    for peer in peers:
        block = peer.get("ipBlock")
        if block and ip_network(block["cidr"], strict=False).version == family.version:
            yield (remote.within(block["cidr"]), *map(remote.not_within, block.get("except") or ()))


def _port_matches(
    way: _Way,
    name: str,
    ports: Sequence[JSON],
    targets: Iterable[PodEndpoint],
    sets: dict[str, NamedSet],
    family: Family,
) -> Iterator[Match]:
    """`targets`: the Pods whose names for ports count."""
    numbers: set[Values] = set()
    names: set[Values] = set()
    for each in ports:
        protocol, port = _PROTOCOLS[each.get("protocol") or "TCP"], each.get("port")
        if port is None:
            yield (L4PROTO.is_(protocol),)
        elif isinstance(port, str):
            names.update(
                (address, *called) for address, called in _named(targets, port, family) if called[0] == protocol
            )
        elif each.get("endPort"):
            yield L4PROTO.is_(protocol), way.port.between(port, each["endPort"])
        else:
            numbers.add((protocol, port))
    if numbers:
        sets[f"{name}/ports"] = NamedSet(f"{name}/ports", (INET_PROTO, INET_SERVICE), frozenset(numbers))
        yield (in_set((L4PROTO, way.port), f"{name}/ports"),)
    if any(isinstance(each.get("port"), str) for each in ports):
        set_name, kinds = f"{name}/named{family.suffix}", (family.address, INET_PROTO, INET_SERVICE)
        sets[set_name] = NamedSet(set_name, kinds, frozenset(names))
        yield (in_set((way.called(family), L4PROTO, way.port), set_name),)


def _named(pods: Iterable[PodEndpoint], port: str, family: Family) -> Iterator[tuple[str, tuple[int, int]]]:
    """Where a port of this name is: address, and protocol with number."""
    for pod in pods:
        if port in pod.ports:
            yield from ((address, pod.ports[port]) for address in pod.addresses if family.has(address))
