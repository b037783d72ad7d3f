"""The table of contents: what each kind of proxy is told.

A sidecar gets the union of `outbound` and `inbound`; where both have a resource it is the same. Endpoints travel apart,
in `endpoints.cluster_load_assignment`.
"""

from __future__ import annotations

from mizzen.envoy.resources import CLUSTER, EXTENSION, LISTENER, ROUTES, SECRET, Resource, Resources
from mizzen.scope.model import GatewayScope, Guards, InboundScope, OutboundScope
from mizzen.xds import http_filters, network_filters
from mizzen.xds.clusters import (
    black_hole_cluster,
    cluster,
    inbound_cluster,
    inbound_passthrough_cluster,
    passthrough_cluster,
)
from mizzen.xds.gateway_listeners import gateway_listener
from mizzen.xds.inbound_listeners import virtual_inbound
from mizzen.xds.kept import kept
from mizzen.xds.listeners import outbound_listener, virtual_outbound
from mizzen.xds.routes import route_configuration
from mizzen.xds.secrets import in_files, secret


def outbound(scope: OutboundScope) -> Resources:
    """What the sidecars of a view may call."""
    mesh = scope.mesh
    return {
        CLUSTER: _named(
            black_hole_cluster(mesh),
            passthrough_cluster(mesh),
            *(cluster(subset, mesh, False) for subset in scope.subsets),
        ),
        LISTENER: _named(
            virtual_outbound(mesh, scope.fallthrough, scope.ipv6),
            *(outbound_listener(each, mesh, scope.fallthrough, scope.ipv6) for each in scope.listeners),
        ),
        ROUTES: _named(*(route_configuration(table, mesh) for table in scope.routes)),
        SECRET: _named(*(secret(credential) for credential in scope.credentials)),
    }


def inbound(scope: InboundScope, mark: int | None = None) -> Resources:
    """What a workload serves. `mark`: SO_MARK of connections to the application, where capture exempts by mark."""
    mesh = scope.mesh
    return {
        CLUSTER: _named(
            black_hole_cluster(mesh),
            inbound_passthrough_cluster(mesh, mark, scope.ipv6),
            *(inbound_cluster(port, mesh, mark, scope.ipv6) for port in scope.ports),
        ),
        LISTENER: _named(virtual_inbound(scope)),
        ROUTES: {},
        EXTENSION: extensions(scope.guards),
    }


def gateway(scope: GatewayScope) -> Resources:
    """What a gateway serves and calls."""
    mesh = scope.mesh
    listeners = (gateway_listener(server, mesh, scope.drained, scope.ipv6) for server in scope.servers)
    return {
        CLUSTER: _named(black_hole_cluster(mesh), *(cluster(subset, mesh, True) for subset in scope.subsets)),
        LISTENER: _named(*(listener for listener in listeners if listener is not None)),
        ROUTES: _named(*(route_configuration(table, mesh) for table in scope.routes)),
        SECRET: _named(
            *(secret(credential) for credential in scope.credentials),
            *(resource for server in scope.servers for one in server.tls for resource in in_files(one)),
        ),
        EXTENSION: extensions(scope.guards),
    }


@kept
def extensions(guards: Guards) -> dict[str, Resource]:
    """What is in the slots of filter chains for what comes in."""
    network = {resource.name: resource for resource in network_filters.contents(guards)}
    return {**http_filters.guard_contents(guards), **network}


def _named(*resources: Resource) -> dict[str, Resource]:
    return {resource.name: resource for resource in resources}
