"""What a gateway accepts.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener.proto
"""

from __future__ import annotations

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import FilterChain, Listener, Message, optional
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Server
from mizzen.xds.access_logs import listener_access_log
from mizzen.xds.addresses import address
from mizzen.xds.filter_chains import tcp_chains, tls_inspector
from mizzen.xds.http_connection_manager import gateway_http
from mizzen.xds.kept import kept
from mizzen.xds.listeners import listener_resource
from mizzen.xds.network_filters import GUARDS


@kept
def gateway_listener(server: Server, mesh: MeshConfig) -> Resource | None:
    """One port. None when nothing is served there: Envoy has no listener without a filter chain."""
    chains = _chains(server, mesh)
    if not chains:
        return None
    name = f"{server.bind}_{server.port}"
    return listener_resource(
        Listener(
            name=name,
            address=address(server.bind, server.port),
            traffic_direction="OUTBOUND",
            max_connections_to_accept_per_socket_event=optional(1),
            access_log=listener_access_log(mesh),
            listener_filters=[tls_inspector()] if any(rule.sni_hosts for rule in server.tcp) else [],
            filter_chains=chains,
        )
    )


def _chains(server: Server, mesh: MeshConfig) -> list[Message]:
    if server.route is not None:
        return [FilterChain(filters=[gateway_http(f"outbound_{server.bind}_{server.port}", server.route, mesh)])]
    conditional, rest = tcp_chains(server.tcp, mesh, GUARDS)
    return [*conditional, *([rest] if rest else [])]
