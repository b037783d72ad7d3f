"""Which addresses this network namespace has, as the kernel lists them."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

_LINK_LOCAL = "20"
_LOOPBACK = "10"


def ipv6_addresses(listed: str = "/proc/self/net/if_inet6") -> tuple[str, ...]:
    """The IPv6 addresses that others can call, sorted; none where the kernel has no IPv6."""
    try:
        lines = [line.split() for line in Path(listed).read_text().splitlines()]
    except FileNotFoundError:
        return ()
    callable_ = (fields[0] for fields in lines if fields[3] not in (_LINK_LOCAL, _LOOPBACK))
    return tuple(sorted(str(IPv6Address(bytes.fromhex(address))) for address in callable_))
