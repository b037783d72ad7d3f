"""How calls between workloads are encrypted, as their proxies count them.

A caller's proxy counts what it sends to each endpoint, and its configuration says how; the proxy of a server counts
those who come without mesh TLS, by address (`xds/unencrypted.py`). Counts are those since a proxy started.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from mizzen.api.base import Model
from mizzen.api.core import Pod
from mizzen.explain.reach import ENVOY_ADMIN_PORT, http_get
from mizzen.kube.api import ApiError
from mizzen.kube.http import HttpApi
from mizzen.xds import unencrypted

JSON: TypeAlias = dict[str, Any]

MTLS, TLS, PLAINTEXT = "mTLS", "TLS", "plaintext"
_AT_ONCE = 16
_COUNTER = re.compile(rf"envoy_{unencrypted.PREFIX}_{unencrypted.COUNTER}\{{(.*)\}} (\d+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_UPSTREAM_TLS = "UpstreamTlsContext"
_WORKLOAD_CERTIFICATE = "default"


class Sent(NamedTuple):
    """What one proxy sent to one endpoint of one of its clusters."""

    cluster: str
    address: str
    port: int
    how: str
    """mTLS, TLS or plaintext."""
    calls: int
    """Requests; connections where bytes are passed on."""


class Arrived(NamedTuple):
    """What came to a port of a Pod without mesh TLS."""

    seen: str
    """One of `unencrypted.PLAIN`, `OWN_TLS`, `REFUSED`."""
    source: str
    """An address."""
    port: int
    """The container's."""
    calls: int


class Reading(Model):
    """What the proxy of one Pod counts."""

    pod: Pod
    sent: tuple[Sent, ...] = ()
    arrived: tuple[Arrived, ...] = ()
    failure: str = ""
    """Why it could not be asked."""


async def readings(api: HttpApi, pods: Iterable[Pod]) -> list[Reading]:
    """Of the proxies of these Pods, in their order."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(pod: Pod) -> Reading:
        async with gate:
            try:
                return await _reading(api, pod)
            except ApiError as error:
                return Reading(pod=pod, failure=error.message)

    return await asyncio.gather(*map(read, pods))


async def _reading(api: HttpApi, pod: Pod) -> Reading:
    async def page(path: str) -> bytes:
        return await http_get(api, pod.namespace, pod.name, ENVOY_ADMIN_PORT, path)

    statuses, clusters, endpoints, counters = await asyncio.gather(
        page("/clusters?format=json"),
        page("/config_dump?resource=dynamic_active_clusters"),
        page("/config_dump?include_eds&resource=dynamic_endpoint_configs"),
        page(f"/stats/prometheus?filter=^{unencrypted.PREFIX}"),
    )
    ways = transports(json.loads(clusters), json.loads(endpoints))
    return Reading(pod=pod, sent=tuple(sent(json.loads(statuses), ways)), arrived=tuple(arrived(counters.decode())))


Ways: TypeAlias = Mapping[tuple[str, str, int], str]
"""Cluster, address and port (of any endpoint: "" and 0) to mTLS, TLS or plaintext."""


def transports(clusters: JSON, endpoints: JSON) -> Ways:
    """How a proxy speaks to endpoints, out of dumps of its clusters and endpoints."""
    modes = dict(_modes(endpoints))
    found: dict[tuple[str, str, int], str] = {}
    for entry in clusters.get("configs", ()):
        cluster = entry["cluster"]
        name = cluster["name"]
        found[name, "", 0] = _way(cluster.get("transport_socket"))
        for match in cluster.get("transport_socket_matches", ()):
            wanted = match.get("match", {}).get("tlsMode")
            for (owner, address, port), mode in modes.items():
                if owner == name and (wanted is None or wanted == mode):
                    found.setdefault((name, address, port), _way(match["transport_socket"]))
    return found


def _modes(endpoints: JSON) -> Iterator[tuple[tuple[str, str, int], str]]:
    """The `tlsMode` of each endpoint."""
    for entry in endpoints.get("configs", ()):
        assignment = entry["endpoint_config"]
        for group in assignment.get("endpoints", ()):
            for one in group.get("lb_endpoints", ()):
                socket = one["endpoint"]["address"].get("socket_address", {})
                said = one.get("metadata", {}).get("filter_metadata", {}).get("envoy.transport_socket_match", {})
                key = assignment["cluster_name"], socket.get("address", ""), socket.get("port_value", 0)
                yield key, said.get("tlsMode", "")


def _way(socket: JSON | None) -> str:
    config = (socket or {}).get("typed_config", {})
    if not str(config.get("@type", "")).endswith(_UPSTREAM_TLS):
        return PLAINTEXT
    secrets = config.get("common_tls_context", {}).get("tls_certificate_sds_secret_configs", ())
    return MTLS if any(one.get("name") == _WORKLOAD_CERTIFICATE for one in secrets) else TLS


def sent(statuses: JSON, ways: Ways) -> Iterator[Sent]:
    """From `/clusters?format=json`: whatever was sent at all, other than to the proxy's own application."""
    for cluster in statuses.get("cluster_statuses", ()):
        name = cluster["name"]
        if not name.startswith("outbound|") and name != "PassthroughCluster":
            continue
        for host in cluster.get("host_statuses", ()):
            socket = host["address"].get("socket_address", {})
            address, port = socket.get("address", ""), socket.get("port_value", 0)
            if count := _count(host):
                how = ways.get((name, address, port)) or ways.get((name, "", 0), PLAINTEXT)
                yield Sent(name, address, port, how, count)


def _count(host: JSON) -> int:
    stats = {one["name"]: int(one.get("value", 0)) for one in host.get("stats", ())}
    return stats.get("rq_total", 0) or stats.get("cx_total", 0) - stats.get("cx_connect_fail", 0)


def arrived(page: str) -> Iterator[Arrived]:
    """From Envoy's Prometheus page."""
    for labels, count in _COUNTER.findall(page):
        said = dict(_LABEL.findall(labels))
        if int(count):
            yield Arrived(said["seen"], said["source"], int(said["port"]), int(count))
