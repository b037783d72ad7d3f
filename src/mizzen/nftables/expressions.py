"""nftables' instructions as netlink attributes: one small virtual machine's code. Values only.

https://wiki.nftables.org/wiki-nftables/index.php/Portal:DeveloperDocs/nftables_internals and, for the numbers,
`include/uapi/linux/netfilter/nf_tables.h` of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Attributes: TypeAlias = tuple[tuple[str, Any], ...]

VERDICT = 0
VALUE = 1
"""The register that a single value is loaded into."""
FIRST_WORD = 8
"""The first of sixteen registers of 4 bytes, where the parts of a concatenation stand side by side."""

IPV4, IPV6 = 2, 10
TCP, UDP = 6, 17


@dataclass(frozen=True, slots=True)
class Expression:
    name: str
    attributes: Attributes = ()

    def nla(self) -> dict[str, Any]:
        """In pyroute2's form."""
        data = {"attrs": list(self.attributes)}
        return {"attrs": [("NFTA_EXPR_NAME", self.name), ("NFTA_EXPR_DATA", data)]}


def data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def verdict_data(code: int, chain: str | None = None) -> dict[str, Any]:
    target = [("NFTA_VERDICT_CHAIN", chain)] if chain else []
    return {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code), *target]})]}


Verdict: TypeAlias = Literal["accept", "drop", "return", "jump", "goto"]
CODES: dict[Verdict, int] = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}


def immediate(value: bytes, register: int = VALUE) -> Expression:
    return Expression("immediate", (("NFTA_IMMEDIATE_DREG", register), ("NFTA_IMMEDIATE_DATA", data(value))))


def verdict(name: Verdict, chain: str | None = None) -> Expression:
    decided = verdict_data(CODES[name], chain)
    return Expression("immediate", (("NFTA_IMMEDIATE_DREG", VERDICT), ("NFTA_IMMEDIATE_DATA", decided)))


def payload(base: Literal["network", "transport"], offset: int, length: int, register: int = VALUE) -> Expression:
    return Expression(
        "payload",
        (
            ("NFTA_PAYLOAD_DREG", register),
            ("NFTA_PAYLOAD_BASE", {"network": 1, "transport": 2}[base]),
            ("NFTA_PAYLOAD_OFFSET", offset),
            ("NFTA_PAYLOAD_LEN", length),
        ),
    )


def meta(key: int, register: int = VALUE) -> Expression:
    return Expression("meta", (("NFTA_META_DREG", register), ("NFTA_META_KEY", key)))


def set_meta(key: int, register: int = VALUE) -> Expression:
    return Expression("meta", (("NFTA_META_KEY", key), ("NFTA_META_SREG", register)))


def conntrack(key: int, register: int = VALUE, *, original: bool = False) -> Expression:
    """A fact about the packet's connection; `original`: as it was before any translation, seen from who began it."""
    direction = (("NFTA_CT_DIRECTION", 0),) if original else ()
    return Expression("ct", (("NFTA_CT_DREG", register), ("NFTA_CT_KEY", key), *direction))


def destination_type(register: int = VALUE) -> Expression:
    """Whether the destination is local, a broadcast …, by the routing table: `fib daddr type`."""
    # pyroute2 takes this enumeration for a set of bits; these two bits make 3, NFT_FIB_RESULT_ADDRTYPE.
    address_type = ("NFT_FIB_RESULT_UNSPEC", "NFT_FIB_RESULT_OIF")
    return Expression(
        "fib", (("NFTA_FIB_DREG", register), ("NFTA_FIB_RESULT", address_type), ("NFTA_FIB_FLAGS", 1 << 1))
    )


def compare(value: bytes, *, equal: bool = True, register: int = VALUE) -> Expression:
    operation = 0 if equal else 1
    return Expression("cmp", (("NFTA_CMP_SREG", register), ("NFTA_CMP_OP", operation), ("NFTA_CMP_DATA", data(value))))


def between(first: bytes, last: bytes, register: int = VALUE) -> Expression:
    """From the first to the last, both included; the bytes are in network order."""
    ends = (("NFTA_RANGE_FROM_DATA", data(first)), ("NFTA_RANGE_TO_DATA", data(last)))
    return Expression("range", (("NFTA_RANGE_SREG", register), ("NFTA_RANGE_OP", 0), *ends))


def remember(name: str, key: int, value: int, seconds: int) -> Expression:
    """Puts a key and its value from registers into a dynamic map; a key that is there lives on with its old value."""
    return _dynset(name, 1, key, value, (("NFTA_DYNSET_TIMEOUT", seconds * 1000),))


def forget(name: str, key: int, value: int) -> Expression:
    """Takes a key out of a dynamic map. The kernel wants to be told of a value register all the same."""
    return _dynset(name, 2, key, value)


def _dynset(name: str, operation: int, key: int, value: int, more: Attributes = ()) -> Expression:
    registers = (("NFTA_DYNSET_SREG_KEY", key), ("NFTA_DYNSET_SREG_DATA", value))
    return Expression("dynset", (("NFTA_DYNSET_SET_NAME", name), ("NFTA_DYNSET_OP", operation), *registers, *more))


def mask(bits: bytes, register: int = VALUE) -> Expression:
    """Keeps only these bits of the register."""
    return Expression(
        "bitwise",
        (
            ("NFTA_BITWISE_SREG", register),
            ("NFTA_BITWISE_DREG", register),
            ("NFTA_BITWISE_LEN", len(bits)),
            ("NFTA_BITWISE_MASK", data(bits)),
            ("NFTA_BITWISE_XOR", data(bytes(len(bits)))),
        ),
    )


def lookup(name: str, source: int, destination: int | None = None, *, inverted: bool = False) -> Expression:
    """Is the source in this set? With a destination: what does this map hold for it? A verdict map's is `VERDICT`."""
    result = () if destination is None else (("NFTA_LOOKUP_DREG", destination),)
    flags = (("NFTA_LOOKUP_FLAGS", ("NFT_LOOKUP_F_INV",)),) if inverted else ()
    return Expression("lookup", (("NFTA_LOOKUP_SET", name), ("NFTA_LOOKUP_SREG", source), *result, *flags))


def random_number(modulus: int, register: int = VALUE) -> Expression:
    return Expression("numgen", (("NFTA_NG_DREG", register), ("NFTA_NG_MODULUS", modulus), ("NFTA_NG_TYPE", 1)))


def destination_nat(family: int, address: int, port: int) -> Expression:
    """Rewrites a destination of IPV4 or IPV6 from two registers."""
    return Expression(
        "nat",
        (
            ("NFTA_NAT_TYPE", 1),
            ("NFTA_NAT_FAMILY", family),
            ("NFTA_NAT_REG_ADDR_MIN", address),
            ("NFTA_NAT_REG_PROTO_MIN", port),
        ),
    )


def redirect(port: int = VALUE) -> Expression:
    return Expression("redir", (("NFTA_REDIR_REG_PROTO_MIN", port),))


MASQUERADE = Expression("masq")
COUNTER = Expression("counter", (("NFTA_COUNTER_BYTES", 0), ("NFTA_COUNTER_PACKETS", 0)))
REJECT_WITH_RESET = Expression("reject", (("NFTA_REJECT_TYPE", 1),))
REJECT_AS_UNREACHABLE = Expression("reject", (("NFTA_REJECT_TYPE", 2), ("NFTA_REJECT_ICMP_CODE", 1)))
