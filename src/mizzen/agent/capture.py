"""`istio-iptables`: writes the rules of `interception` into the network namespace it runs in."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
from collections.abc import Mapping
from ipaddress import IPv6Address

from mizzen.agent.addresses import ipv6_addresses
from mizzen.agent.interception import INBOUND_SOURCE_IPV6, CaptureRefused, interception, read_arguments
from mizzen.nftables.messages import replace_table
from mizzen.nftables.netlink import commit

_LOOPBACK_INDEX = 1
_SIOCSIFADDR = 0x8916


def capture(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Replaces the whole table at once and prints it. Raises CaptureRefused."""
    asked = read_arguments(arguments, by_mark=environment.get("MIZZEN_CAPTURE") == "mark")
    ipv6 = bool(ipv6_addresses())
    table = interception(asked, ipv6=ipv6)
    try:
        if ipv6:
            _own_inbound_source()
        commit(replace_table(table))
    except OSError as error:
        raise CaptureRefused(f"the rules could not be written (NET_ADMIN is needed): {error}") from error
    sys.stdout.write(f"{table}\n")
    return 0


def _own_inbound_source() -> None:
    """All of 127.0.0.0/8 is this machine's own; of IPv6 only what is written down is. Raises OSError.

    The request is a `struct in6_ifreq`: netdevice(7).
    """
    request = struct.pack("=16sIi", IPv6Address(INBOUND_SOURCE_IPV6).packed, 128, _LOOPBACK_INDEX)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SIOCSIFADDR, request)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
