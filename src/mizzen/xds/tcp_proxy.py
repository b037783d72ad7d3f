"""Bytes to a cluster.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto
"""

from __future__ import annotations

from typing import Any

from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import TCPSettings, TrafficPolicy
from mizzen.envoy.messages import Message, NetworkFilter, SetConnectionState, TcpProxy, typed
from mizzen.scope.model import TcpRule
from mizzen.xds.access_logs import access_log
from mizzen.xds.names import BLACK_HOLE
from mizzen.xds.route_actions import proportional_weights
from mizzen.xds.transport_sockets import MESH_TCP

NAME = "envoy.filters.network.tcp_proxy"


def to_cluster(cluster: str, mesh: MeshConfig, **options: Any) -> Message:
    """Everything to one cluster."""
    return _filter(mesh, stat_prefix=cluster, cluster=cluster, **options)


def counted(cluster: str, mesh: MeshConfig, counter: Message) -> Message:
    """Everything to one cluster; `counter` is told of each connection when it stands."""
    proxy = TcpProxy(
        stat_prefix=cluster,
        cluster=cluster,
        access_log=[*access_log(mesh, True), counter],
        access_log_options={"flush_access_log_on_connected": True},
    )
    return NetworkFilter(**typed(NAME, proxy))


def black_hole() -> Message:
    """A reset, and no log line: it only guards against loops."""
    return NetworkFilter(**typed(NAME, TcpProxy(stat_prefix=BLACK_HOLE, cluster=BLACK_HOLE)))


def bytes_in_mesh_tls() -> Message:
    """Overrides the ALPN of the connection to come, as `istio.alpn` would."""
    state = {
        "object_key": "envoy.network.application_protocols",
        "format_string": {"text_format_source": {"inline_string": ",".join(MESH_TCP)}},
        "shared_with_upstream": "ONCE",
    }
    return NetworkFilter(
        **typed("envoy.filters.network.set_filter_state", SetConnectionState(on_new_connection=[state]))
    )


def to_destinations(rule: TcpRule, mesh: MeshConfig) -> Message:
    """By weight. No destination, or only ones of weight 0 among several: refused."""
    options = _connection_options(rule.policy)
    if len(rule.destinations) == 1:
        return to_cluster(rule.destinations[0].cluster, mesh, **options)
    shares = proportional_weights(rule.destinations)
    if not shares:
        return to_cluster(BLACK_HOLE, mesh)
    clusters = [{"name": each.cluster, "weight": weight} for each, weight in shares]
    name = f"{rule.source.name}.{rule.source.namespace}" if rule.source else shares[0][0].cluster
    return _filter(mesh, stat_prefix=name, weighted_clusters={"clusters": clusters}, **options)


def _filter(mesh: MeshConfig, **fields: Any) -> Message:
    return NetworkFilter(**typed(NAME, TcpProxy(access_log=access_log(mesh), **fields)))


def _connection_options(policy: TrafficPolicy | None) -> dict[str, Any]:
    if policy is None:
        return {}
    tcp = (policy.connection_pool and policy.connection_pool.tcp) or TCPSettings()
    hash = policy.load_balancer and policy.load_balancer.consistent_hash
    return {
        "idle_timeout": tcp.idle_timeout,
        "max_downstream_connection_duration": tcp.max_connection_duration,
        "hash_policy": [{"source_ip": {}}] if hash and hash.use_source_ip else [],
    }
