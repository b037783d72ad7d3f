"""The addresses behind a cluster.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/endpoint/v3/endpoint.proto

The hot path of a mesh: a Pod that comes or goes touches one of these and nothing else. Each address is serialised once,
and an assignment is composed of those bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from mizzen.envoy.messages import (
    ClusterLoadAssignment,
    LbEndpoint,
    LocalityLbEndpoints,
    Message,
    optional,
    serialized,
    struct,
)
from mizzen.envoy.resources import Resource
from mizzen.envoy.wire import nested, repeated
from mizzen.scope.model import Endpoint
from mizzen.xds.addresses import additional, address
from mizzen.xds.kept import kept

_ENDPOINTS = ClusterLoadAssignment.DESCRIPTOR.fields_by_name["endpoints"].number
_CLUSTER_NAME = ClusterLoadAssignment.DESCRIPTOR.fields_by_name["cluster_name"].number
_LB_ENDPOINTS = LocalityLbEndpoints.DESCRIPTOR.fields_by_name["lb_endpoints"].number


def cluster_load_assignment(cluster: str, endpoints: Iterable[Endpoint]) -> Resource:
    """Grouped by locality and sorted, whatever the order of `endpoints`. Without any, requests get 503 at once."""
    groups = [list(group) for _, group in groupby(sorted(endpoints, key=_order), key=_locality)]
    body = nested(_CLUSTER_NAME, cluster.encode()) + repeated(_ENDPOINTS, map(_locality_lb_endpoints, groups))
    return Resource.of(cluster, body)


def _order(endpoint: Endpoint) -> tuple[str, ...]:
    return (*_locality(endpoint), endpoint.address, f"{endpoint.port:05}")


def _locality(endpoint: Endpoint) -> tuple[str, str, str]:
    return (endpoint.region, endpoint.zone, endpoint.subzone)


def _locality_lb_endpoints(endpoints: list[Endpoint]) -> bytes:
    region, zone, sub_zone = _locality(endpoints[0])
    head = LocalityLbEndpoints(
        locality={"region": region, "zone": zone, "sub_zone": sub_zone},
        load_balancing_weight=optional(sum(each.weight for each in endpoints)),
    )
    return b"".join((serialized(head), *map(_lb_endpoint_field, endpoints)))


@kept
def _lb_endpoint_field(endpoint: Endpoint) -> bytes:
    return nested(_LB_ENDPOINTS, serialized(lb_endpoint(endpoint)))


def lb_endpoint(endpoint: Endpoint) -> Message:
    return LbEndpoint(
        endpoint={
            "address": address(endpoint.address, endpoint.port),
            "additional_addresses": additional(endpoint.more, endpoint.port),
        },
        health_status="HEALTHY" if endpoint.ready else "UNHEALTHY",
        load_balancing_weight=optional(endpoint.weight),
        metadata={"filter_metadata": _filter_metadata(endpoint)},
    )


def _filter_metadata(endpoint: Endpoint) -> dict[str, Any]:
    """Who it is, for telemetry; and whether it takes the mesh's TLS, for the choice of the transport."""
    return {
        **({"istio": struct({"workload": endpoint.workload})} if endpoint.workload else {}),
        **({"envoy.transport_socket_match": struct({"tlsMode": endpoint.tls_mode})} if endpoint.tls_mode else {}),
    }
