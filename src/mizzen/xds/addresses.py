"""Addresses and where resources come from.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/core/v3/address.proto
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

ADS: dict[str, Any] = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": timedelta(0)}
"""Over the stream that brought the reference. No timeout: a proxy without its routes must not call itself ready."""


def address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": socket_address(host, port)}


def socket_address(host: str, port: int) -> dict[str, Any]:
    return {"address": host, "port_value": port}


def additional(hosts: Iterable[str], port: int) -> list[dict[str, Any]]:
    """The same port at more addresses."""
    return [{"address": address(host, port)} for host in hosts]


def cidr_range(subnet: str) -> dict[str, Any]:
    """Of `10.0.0.0/8` or of a single address. Raises ValueError for anything else."""
    network = ip_network(subnet, strict=False)
    return {"address_prefix": str(network.network_address), "prefix_len": {"value": network.prefixlen}}
