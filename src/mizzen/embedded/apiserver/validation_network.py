"""What must hold of NetworkPolicies: a policy that cannot be understood would have to deny everything."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from mizzen.embedded.apiserver import validation_names as check
from mizzen.embedded.apiserver.errors import Cause, invalid_value, required
from mizzen.kube.api import JSON

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_OPERATORS = ("DoesNotExist", "Exists", "In", "NotIn")
_SELECTORS = ("podSelector", "namespaceSelector")


def network_policy(obj: JSON) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from _selector("spec.podSelector", spec.get("podSelector"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            at = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                yield from _port(f"{at}.ports[{number}]", port)
            for number, peer in enumerate(rule.get(peers) or ()):
                yield from _peer(f"{at}.{peers}[{number}]", peer)
    for index, kind in enumerate(spec.get("policyTypes") or ()):
        yield from check.choice(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress"))


def _selector(at: str, selector: JSON | None) -> Iterator[Cause]:
    for index, each in enumerate((selector or {}).get("matchExpressions") or ()):
        place, operator = f"{at}.matchExpressions[{index}]", each.get("operator")
        yield from check.needed(f"{place}.key", each.get("key"))
        yield from check.choice(f"{place}.operator", operator or "", _OPERATORS)
        if operator in ("In", "NotIn") and not each.get("values"):
            yield required(f"{place}.values", "must be specified when `operator` is 'In' or 'NotIn'")


def _port(at: str, port: JSON) -> Iterator[Cause]:
    number, end = port.get("port"), port.get("endPort")
    yield from check.choice(f"{at}.protocol", port.get("protocol"), _PROTOCOLS)
    if isinstance(number, int) and not 0 < number < 65536:
        yield invalid_value(f"{at}.port", number, "must be between 1 and 65535, inclusive")
    if end is None:
        return
    if not isinstance(number, int):
        told = "may not be specified when `port` is not specified" if number is None else "is non-numeric"
        yield invalid_value(
            f"{at}.endPort", end, told if number is None else f"may not be specified when `port` {told}"
        )
    elif not number <= end < 65536:
        yield invalid_value(f"{at}.endPort", end, "must be greater than or equal to `port`, and at most 65535")


def _peer(at: str, peer: JSON) -> Iterator[Cause]:
    for name in _SELECTORS:
        yield from _selector(f"{at}.{name}", peer.get(name))
    block = peer.get("ipBlock")
    if not block and all(peer.get(name) is None for name in _SELECTORS):
        yield required(at, "must specify a peer")
    if block and any(peer.get(name) is not None for name in _SELECTORS):
        yield check.forbidden(at, "may not specify both ipBlock and another peer")
    if block:
        yield from _block(f"{at}.ipBlock", block)


def _block(at: str, block: JSON) -> Iterator[Cause]:
    whole = _network(block.get("cidr"))
    if whole is None:
        yield invalid_value(f"{at}.cidr", block.get("cidr") or "", "must be a valid CIDR value")
    for index, text in enumerate(block.get("except") or ()):
        part, place = _network(text), f"{at}.except[{index}]"
        if part is None:
            yield invalid_value(place, text, "must be a valid CIDR value")
        elif whole and not (part.version == whole.version and _lies_within(part, whole)):
            yield invalid_value(place, text, "must be a strict subset of `cidr`")


def _lies_within(part: IPv4Network | IPv6Network, whole: IPv4Network | IPv6Network) -> bool:
    first, last = int(part.network_address), int(part.broadcast_address)
    return part != whole and int(whole.network_address) <= first and last <= int(whole.broadcast_address)


def _network(text: str | None) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False) if text and "/" in text else None
    except ValueError:
        return None
