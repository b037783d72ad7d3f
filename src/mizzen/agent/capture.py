"""`istio-iptables`: writes the rules of `interception` into the network namespace it runs in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from mizzen.agent.interception import CaptureRefused, interception, read_arguments
from mizzen.nftables.messages import replace_table
from mizzen.nftables.netlink import commit

_LINK_LOCAL = "20"
_LOOPBACK = "10"


def capture(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Replaces the whole table at once and prints it. Raises CaptureRefused."""
    asked = read_arguments(arguments, by_mark=environment.get("MIZZEN_CAPTURE") == "mark")
    table = interception(asked, ipv6=has_ipv6())
    try:
        commit(replace_table(table))
    except OSError as error:
        raise CaptureRefused(f"the rules could not be written (NET_ADMIN is needed): {error}") from error
    sys.stdout.write(f"{table}\n")
    return 0


def has_ipv6(addresses: str = "/proc/self/net/if_inet6") -> bool:
    """Whether this network namespace has an IPv6 address that others can call."""
    try:
        lines = Path(addresses).read_text().splitlines()
    except FileNotFoundError:
        return False
    return any(line.split()[3] not in (_LINK_LOCAL, _LOOPBACK) for line in lines)
