"""What a packet has and a rule may ask about: `TCP_DPORT.is_(9080)`, `IP_DADDR.within("10.0.0.0/8")`.

A field brings the conditions without which it would be nonsense: a port needs the protocol, an address its family.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Literal

from mizzen.nftables import expressions as x
from mizzen.nftables import kinds
from mizzen.nftables.expressions import Expression
from mizzen.nftables.kinds import Kind

# Numbers of enum nft_meta_keys and enum nft_ct_keys.
_MARK, _IIFNAME, _OIFNAME, _SKUID, _SKGID, _NFPROTO, _L4PROTO = 3, 6, 7, 10, 11, 15, 16
_CT_STATE, _CT_STATUS, _CT_PROTO_DST, _CT_DST_IP, _CT_DST_IP6 = 0, 2, 12, 20, 22


@dataclass(frozen=True, slots=True)
class Statement:
    """One part of a rule: what `nft list` would print, and the instructions."""

    text: str
    expressions: tuple[Expression, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Field:
    """`load` gives the instruction that puts the field into a register; `guard` must hold for it to make sense."""

    name: str
    kind: Kind
    load: Callable[[int], Expression]
    guard: tuple[Expression, ...] = ()

    def is_(self, value: Any) -> Statement:
        return self._compared(value, equal=True)

    def is_not(self, value: Any) -> Statement:
        return self._compared(value, equal=False)

    def within(self, network: str) -> Statement:
        """The address is in this network. Raises ValueError for what is not one."""
        return self._masked(ip_network(network, strict=False), equal=True)

    def not_within(self, network: str) -> Statement:
        return self._masked(ip_network(network, strict=False), equal=False)

    def between(self, first: Any, last: Any) -> Statement:
        """From the first to the last, both included: of fields in network order."""
        tested = (*self.guard, self.load(x.VALUE), x.between(self.kind.packed(first), self.kind.packed(last)))
        return Statement(f"{self.name} {first}-{last}", tested)

    def has_bits(self, bits: int) -> Statement:
        value = self.kind.packed(bits)
        tested = (*self.guard, self.load(x.VALUE), x.mask(value), x.compare(bytes(len(value)), equal=False))
        return Statement(f"{self.name} & {bits:#x} != 0", tested)

    def _compared(self, value: Any, *, equal: bool) -> Statement:
        compared = x.compare(self.kind.packed(value), equal=equal)
        return Statement(
            f"{self.name} {_operator(equal)}{self.kind.shown(value)}", (*self.guard, self.load(x.VALUE), compared)
        )

    def _masked(self, network: IPv4Network | IPv6Network, *, equal: bool) -> Statement:
        masked = (*self.guard, self.load(x.VALUE), x.mask(network.netmask.packed))
        compared = x.compare(network.network_address.packed, equal=equal)
        return Statement(f"{self.name} {_operator(equal)}{network}", (*masked, compared))


def _operator(equal: bool) -> str:
    return "" if equal else "!= "


def _meta(key: int) -> Callable[[int], Expression]:
    return lambda register: x.meta(key, register)


def _payload(base: Literal["network", "transport"], offset: int, length: int) -> Callable[[int], Expression]:
    return lambda register: x.payload(base, offset, length, register)


def _only(key: int, value: int) -> tuple[Expression, ...]:
    return (x.meta(key), x.compare(bytes([value])))


_IPV4_ONLY = _only(_NFPROTO, x.IPV4)
_IPV6_ONLY = _only(_NFPROTO, x.IPV6)
_TCP_ONLY = _only(_L4PROTO, socket.IPPROTO_TCP)

NFPROTO = Field("meta nfproto", kinds.NF_PROTO, _meta(_NFPROTO))
L4PROTO = Field("meta l4proto", kinds.INET_PROTO, _meta(_L4PROTO))
SKUID = Field("meta skuid", kinds.UID, _meta(_SKUID))
SKGID = Field("meta skgid", kinds.GID, _meta(_SKGID))
MARK = Field("meta mark", kinds.MARK, _meta(_MARK))
IIFNAME = Field("iifname", kinds.IFNAME, _meta(_IIFNAME))
OIFNAME = Field("oifname", kinds.IFNAME, _meta(_OIFNAME))
IP_SADDR = Field("ip saddr", kinds.IPV4_ADDR, _payload("network", 12, 4), _IPV4_ONLY)
IP_DADDR = Field("ip daddr", kinds.IPV4_ADDR, _payload("network", 16, 4), _IPV4_ONLY)
IP6_SADDR = Field("ip6 saddr", kinds.IPV6_ADDR, _payload("network", 8, 16), _IPV6_ONLY)
IP6_DADDR = Field("ip6 daddr", kinds.IPV6_ADDR, _payload("network", 24, 16), _IPV6_ONLY)
TCP_DPORT = Field("tcp dport", kinds.INET_SERVICE, _payload("transport", 2, 2), _TCP_ONLY)
TH_DPORT = Field("th dport", kinds.INET_SERVICE, _payload("transport", 2, 2))
CT_STATE = Field("ct state", kinds.INTEGER, lambda register: x.conntrack(_CT_STATE, register))
CT_ORIGINAL_DADDR = Field(
    "ct original ip daddr",
    kinds.IPV4_ADDR,
    lambda register: x.conntrack(_CT_DST_IP, register, original=True),
    _IPV4_ONLY,
)
CT_ORIGINAL_IP6_DADDR = Field(
    "ct original ip6 daddr",
    kinds.IPV6_ADDR,
    lambda register: x.conntrack(_CT_DST_IP6, register, original=True),
    _IPV6_ONLY,
)
CT_ORIGINAL_DPORT = Field(
    "ct original proto-dst",
    kinds.INET_SERVICE,
    lambda register: x.conntrack(_CT_PROTO_DST, register, original=True),
)
CT_STATUS = Field("ct status", kinds.INTEGER, lambda register: x.conntrack(_CT_STATUS, register))
DESTINATION_TYPE = Field("fib daddr type", kinds.FIB_ADDRTYPE, x.destination_type)

LOCAL = 2
"""RTN_LOCAL, a value of `DESTINATION_TYPE`: an address of this machine."""
ESTABLISHED_OR_RELATED = 1 << 1 | 1 << 2
"""Bits of `CT_STATE`: the packet belongs to a connection that was let through before, or is about one."""
DNAT = 1 << 5
"""IPS_DST_NAT, a bit of `CT_STATUS`."""
