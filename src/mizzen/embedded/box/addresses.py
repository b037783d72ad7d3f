"""Which addresses the box has, its Pods, its Services, and the link to the machine."""

from __future__ import annotations

import ipaddress

BRIDGE = "mizzen0"
GATEWAY = "10.244.0.1"
GATEWAY_IPV6 = "fd00:10:244::1"
API_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
SERVICES = "10.96.0.0/16"
SERVICES_IPV6 = "fd00:10:96::/112"
PODS = ipaddress.IPv4Network("10.244.0.0/16")
PODS_IPV6 = ipaddress.IPv6Network("fd00:10:244::/112")
LINKS = ipaddress.IPv4Network("10.245.0.0/16")
"""Where the /30 networks between host and boxes are taken from."""
LINKS_IPV6 = ipaddress.IPv6Network("fd00:10:245::/112")


def mac(address: str) -> str:
    """The Ethernet address of who has this IPv4 address.

    The bridge's is set, so that it stays: a bridge without one takes the lowest of its ports', and when that Pod goes,
    every other Pod talks to an address nobody has for ten seconds. Each box has a bridge of its own, so all may have
    the same.
    """
    return "02:00:" + ipaddress.IPv4Address(address).packed.hex(":")


def second_address(address: str) -> str:
    """The IPv6 address of the Pod, or of the end of a link, with this IPv4 address."""
    own = ipaddress.IPv4Address(address)
    network, beside = (PODS, PODS_IPV6) if own in PODS else (LINKS, LINKS_IPV6)
    return str(beside[int(own) - int(network.network_address)])
