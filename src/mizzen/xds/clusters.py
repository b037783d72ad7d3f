"""What is called, and with which limits.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/cluster/v3/cluster.proto
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import ConnectionPoolSettings, TCPSettings, TrafficPolicy
from mizzen.envoy.messages import Cluster, Message, serialized, struct
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Inbound, Resolution, Subset
from mizzen.xds.addresses import ADS, address, socket_address
from mizzen.xds.circuit_breakers import circuit_breakers
from mizzen.xds.http_protocol_options import follows_downstream, http_protocol_options
from mizzen.xds.kept import kept
from mizzen.xds.load_balancing import load_balancing, passes_through
from mizzen.xds.names import (
    BLACK_HOLE,
    INBOUND_PASSTHROUGH,
    INBOUND_SOURCE,
    INBOUND_SOURCE_IPV6,
    PASSTHROUGH,
    config_path,
)
from mizzen.xds.outlier_detection import outlier_detection
from mizzen.xds.transport_sockets import names_itself, outbound_tls

NO_POLICY = TrafficPolicy()
_NEVER = timedelta(days=36_500)
_PASSTHROUGH_IDLE = timedelta(minutes=5)
_SOL_SOCKET, _SO_MARK = 1, 36


@kept
def cluster(subset: Subset, mesh: MeshConfig, gateway: bool) -> Resource:
    """One `outbound|PORT|SUBSET|HOST`. Its endpoints come by EDS, unless DNS or the original destination says them."""
    policy = subset.policy or NO_POLICY
    pool = policy.connection_pool
    return _resource(
        Cluster(
            name=subset.cluster,
            connect_timeout=_connect_timeout(pool, mesh),
            **_discovery(subset, policy, mesh),
            **outlier_detection(policy.outlier_detection),
            circuit_breakers=circuit_breakers(pool, policy.retry_budget),
            upstream_connection_options=_upstream_connection_options(pool, mesh),
            typed_extension_protocol_options=http_protocol_options(
                subset.protocol,
                pool,
                upgrade=mesh.h2_upgrade_policy == "UPGRADE",
                sniffing=not gateway,
                error_codes=policy.outlier_detection.outlier_detection_http_error_codes
                if policy.outlier_detection
                else (),
                upstream=names_itself(policy.tls),
            ),
            **outbound_tls(subset, policy.tls, mesh),
            metadata={"filter_metadata": {"istio": struct(_istio_metadata(subset))}},
        )
    )


def _discovery(subset: Subset, policy: TrafficPolicy, mesh: MeshConfig) -> dict[str, Any]:
    if subset.originated is not None and subset.originated.refused:
        return {"type": "STATIC"}  # nobody to call: 503 at once, and never without the certificate
    if subset.resolution is Resolution.ORIGINAL_DST or passes_through(policy.load_balancer):
        return {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    if subset.resolution is Resolution.EDS:
        found: dict[str, Any] = {"eds_cluster_config": {"service_name": subset.cluster, "eds_config": ADS}}
    else:
        found = {
            "dns_lookup_family": "V4_ONLY",
            "dns_refresh_rate": mesh.dns_refresh_rate,
            "respect_dns_ttl": True,
            "load_assignment": _one_endpoint(subset.cluster, subset.address, subset.port),
        }
    return {"type": subset.resolution.value, **found, **load_balancing(policy.load_balancer)}


def _one_endpoint(cluster: str, host: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address(host, port)}}
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _istio_metadata(subset: Subset) -> dict[str, Any]:
    service = {"host": subset.host, "name": subset.service, "namespace": subset.namespace}
    return {
        "default_original_port": subset.port,
        "services": [service] if subset.service else [],
        **({"config": config_path(subset.source)} if subset.source else {}),
        **({"subset": subset.subset} if subset.subset else {}),
    }


def _connect_timeout(pool: ConnectionPoolSettings | None, mesh: MeshConfig) -> timedelta:
    return (pool and pool.tcp and pool.tcp.connect_timeout) or mesh.connect_timeout


def _upstream_connection_options(pool: ConnectionPoolSettings | None, mesh: MeshConfig) -> dict[str, Any] | None:
    """TCP keepalive: the rule's, else the mesh's."""
    tcp = (pool and pool.tcp) or TCPSettings()
    keepalive = tcp.tcp_keepalive or mesh.tcp_keepalive
    if keepalive is None:
        return None
    seconds = {"keepalive_time": keepalive.time, "keepalive_interval": keepalive.interval}
    return {
        "tcp_keepalive": {
            **({"keepalive_probes": {"value": keepalive.probes}} if keepalive.probes else {}),
            **{name: {"value": int(each.total_seconds())} for name, each in seconds.items() if each},
        }
    }


@kept
def inbound_cluster(inbound: Inbound, mesh: MeshConfig, mark: int | None, ipv6: bool = False) -> Resource:
    """The application behind one port: at the Pod's address as it was called, or at 127.0.0.1 if the mesh says so."""
    pool = inbound.policy.connection_pool if inbound.policy else None
    return _resource(
        Cluster(
            name=inbound.cluster,
            connect_timeout=_connect_timeout(pool, mesh),
            **(
                {"type": "STATIC", "load_assignment": _one_endpoint(inbound.cluster, "127.0.0.1", inbound.port)}
                if mesh.inbound_traffic_policy.mode == "LOCALHOST"
                else {"cleanup_interval": _NEVER, **_where_it_was_going(mark, ipv6)}
            ),
            circuit_breakers=circuit_breakers(pool, None),
            upstream_connection_options=_upstream_connection_options(pool, mesh),
            typed_extension_protocol_options=http_protocol_options(inbound.protocol, pool, upgrade=None, sniffing=True),
            metadata={"filter_metadata": {"istio": struct(_inbound_metadata(inbound))}},
        )
    )


def _inbound_metadata(inbound: Inbound) -> dict[str, Any]:
    name, _, rest = inbound.host.partition(".")
    return {"services": [{"host": inbound.host, "name": name, "namespace": rest.partition(".")[0]}]}


def _where_it_was_going(mark: int | None, ipv6: bool) -> dict[str, Any]:
    """To the original destination, from an address of its family that the Pod's capture rules let through."""
    socket_options = [] if mark is None else [{"level": _SOL_SOCKET, "name": _SO_MARK, "int_value": mark}]
    return {
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "upstream_bind_config": {
            "source_address": socket_address(INBOUND_SOURCE, 0),
            "extra_source_addresses": [{"address": socket_address(INBOUND_SOURCE_IPV6, 0)}] if ipv6 else [],
            "socket_options": socket_options,
        },
    }


@kept
def black_hole_cluster(mesh: MeshConfig) -> Resource:
    """No endpoint: connections are reset."""
    return _resource(Cluster(name=BLACK_HOLE, type="STATIC", connect_timeout=mesh.connect_timeout))


@kept
def passthrough_cluster(mesh: MeshConfig) -> Resource:
    """Whatever address the application dialled."""
    return _resource(
        _original_destination(PASSTHROUGH, mesh, {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"})
    )


@kept
def inbound_passthrough_cluster(mesh: MeshConfig, mark: int | None, ipv6: bool = False) -> Resource:
    """Ports of the Pod that no Service names."""
    return _resource(_original_destination(INBOUND_PASSTHROUGH, mesh, _where_it_was_going(mark, ipv6)))


def _original_destination(name: str, mesh: MeshConfig, discovery: dict[str, Any]) -> Message:
    pool = mesh.default_traffic_policy.connection_pool if mesh.default_traffic_policy else None
    return Cluster(
        name=name,
        connect_timeout=mesh.connect_timeout,
        **discovery,
        circuit_breakers=circuit_breakers(pool, None),
        typed_extension_protocol_options=follows_downstream(_PASSTHROUGH_IDLE),
    )


def _resource(message: Any) -> Resource:
    return Resource.of(message.name, serialized(message))
