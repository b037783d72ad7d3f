"""The data types of nftables: how long a value is, how it looks in a register, and its number in `nft list`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

_INTERFACE_NAME_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Kind:
    """`number` is that of `include/datatype.h` of nftables; the kernel keeps it only for display."""

    name: str
    number: int
    length: int
    packed: Callable[[Any], bytes]

    def shown(self, value: Any) -> str:
        return f'"{value}"' if self.name == "ifname" else str(value)


def _big_endian(length: int) -> Callable[[int], bytes]:
    return lambda value: value.to_bytes(length, "big")


def _native(value: int) -> bytes:
    return struct.pack("=I", value)


def _address(value: str) -> bytes:
    return ip_address(value).packed


def _interface(name: str) -> bytes:
    return name.encode().ljust(_INTERFACE_NAME_LENGTH, b"\0")


NF_PROTO = Kind("nf_proto", 2, 1, _big_endian(1))
INTEGER = Kind("integer", 4, 4, _native)
IPV4_ADDR = Kind("ipv4_addr", 7, 4, _address)
IPV6_ADDR = Kind("ipv6_addr", 8, 16, _address)
INET_PROTO = Kind("inet_proto", 12, 1, _big_endian(1))
INET_SERVICE = Kind("inet_service", 13, 2, _big_endian(2))
MARK = Kind("mark", 19, 4, _native)
UID = Kind("uid", 24, 4, _native)
GID = Kind("gid", 25, 4, _native)
FIB_ADDRTYPE = Kind("fib_addrtype", 38, 4, _native)
IFNAME = Kind("ifname", 41, _INTERFACE_NAME_LENGTH, _interface)

WORD = 4


def concatenated(kinds: tuple[Kind, ...], values: tuple[Any, ...]) -> bytes:
    """Side by side, each in whole words, as registers hold them. One value alone is not padded."""
    if len(kinds) == 1:
        return kinds[0].packed(values[0])
    return b"".join(_in_words(kind.packed(value)) for kind, value in zip(kinds, values, strict=True))


def concatenated_length(kinds: tuple[Kind, ...]) -> int:
    return kinds[0].length if len(kinds) == 1 else sum(words(kind) * WORD for kind in kinds)


def concatenated_number(kinds: tuple[Kind, ...]) -> int:
    number = 0
    for kind in kinds:
        number = number << 6 | kind.number
    return number


def words(kind: Kind) -> int:
    return -(-kind.length // WORD)


def _in_words(value: bytes) -> bytes:
    return value.ljust(-(-len(value) // WORD) * WORD, b"\0")
