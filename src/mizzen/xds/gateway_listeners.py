"""What a gateway accepts.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener.proto
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import FilterChain, Listener, Message, optional
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Server, TlsServer
from mizzen.xds.access_logs import listener_access_log
from mizzen.xds.addresses import address
from mizzen.xds.filter_chains import drain_marked, proxy_protocol, tcp_chains, tls_inspector
from mizzen.xds.http_connection_manager import gateway_http
from mizzen.xds.kept import kept
from mizzen.xds.listeners import WILDCARD, everywhere, listener_resource
from mizzen.xds.network_filters import GUARDS
from mizzen.xds.tcp_proxy import black_hole
from mizzen.xds.transport_sockets import gateway_tls


@kept
def gateway_listener(server: Server, mesh: MeshConfig, drained: str = "", ipv6: bool = False) -> Resource | None:
    """One port. None when nothing is served there: Envoy has no listener without a filter chain."""
    chains = _chains(server, mesh, drain_marked(drained))
    if not chains:
        return None
    name = f"{server.bind}_{server.port}"
    return listener_resource(
        Listener(
            name=name,
            address=address(server.bind, server.port),
            additional_addresses=everywhere(server.port, ipv6 and server.bind == WILDCARD),
            traffic_direction="OUTBOUND",
            max_connections_to_accept_per_socket_event=optional(1),
            access_log=listener_access_log(mesh),
            listener_filters=_listener_filters(server, mesh),
            filter_chains=chains,
        )
    )


def _listener_filters(server: Server, mesh: MeshConfig) -> list[Message]:
    """What the balancer in front says of its client comes before the client's own bytes."""
    topology = mesh.default_config.gateway_topology
    told = topology is not None and topology.proxy_protocol is not None
    encrypted = server.tls or any(rule.sni_hosts for rule in server.tcp)
    return [*([proxy_protocol()] if told else []), *([tls_inspector()] if encrypted else [])]


def _chains(server: Server, mesh: MeshConfig, marked: dict[str, Any]) -> list[Message]:
    if server.route is not None:
        http = gateway_http(f"outbound_{server.bind}_{server.port}", server.route, mesh)
        return [FilterChain(filters=[http], **marked)]
    decrypting = (chain for one in server.tls for chain in _decrypting(one, server, mesh, marked))
    conditional, rest = tcp_chains(server.tcp, mesh, GUARDS, marked)
    return [*decrypting, *conditional, *([rest] if rest else [])]


def _decrypting(one: TlsServer, server: Server, mesh: MeshConfig, marked: dict[str, Any]) -> list[Message]:
    """A server without its certificate keeps its names to itself: a wider server must not answer in its place."""
    named = {"server_names": one.hosts} if one.hosts else None
    if one.refused or not (one.route or one.tcp):
        return [FilterChain(filter_chain_match=named, filters=[black_hole()])]
    if one.route:
        http = gateway_http(f"outbound_{server.bind}_{server.port}", one.route, mesh)
        return [FilterChain(filter_chain_match=named, filters=[http], **gateway_tls(one, mesh), **marked)]
    rules = [replace(rule, sni_hosts=one.hosts) for rule in one.tcp]
    conditional, rest = tcp_chains(rules, mesh, GUARDS, {**gateway_tls(one, mesh), **marked})
    return [*conditional, *([rest] if rest else [])]
