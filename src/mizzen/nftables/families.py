"""The two versions of IP, each with its words in nftables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mizzen.nftables import expressions as x
from mizzen.nftables import fields, kinds
from mizzen.nftables.fields import Field
from mizzen.nftables.kinds import Kind


@dataclass(frozen=True, slots=True)
class Family:
    """`name` is that of Kubernetes; `suffix` tells the names of sets and chains apart where each family has its own."""

    name: Literal["IPv4", "IPv6"]
    version: Literal[4, 6]
    number: int
    """nfproto"""
    address: Kind
    source: Field
    destination: Field
    original_destination: Field
    loopback: str
    """As a network."""
    suffix: str = ""

    def __str__(self) -> str:
        return "ip" if self.version == 4 else "ip6"

    def has(self, address: str) -> bool:
        return (":" in address) == (self.version == 6)


IPV4 = Family(
    "IPv4",
    4,
    x.IPV4,
    kinds.IPV4_ADDR,
    fields.IP_SADDR,
    fields.IP_DADDR,
    fields.CT_ORIGINAL_DADDR,
    "127.0.0.0/8",
)
IPV6 = Family(
    "IPv6",
    6,
    x.IPV6,
    kinds.IPV6_ADDR,
    fields.IP6_SADDR,
    fields.IP6_DADDR,
    fields.CT_ORIGINAL_IP6_DADDR,
    "::1/128",
    suffix="-ipv6",
)
BOTH = (IPV4, IPV6)
