"""What a sidecar accepts for its application.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener.proto
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import FilterChain, Listener, Message, optional
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Inbound, InboundScope, Protocol
from mizzen.xds.access_logs import listener_access_log
from mizzen.xds.addresses import address
from mizzen.xds.filter_chains import SNIFFED_HTTP, http_inspector, original_dst
from mizzen.xds.http_connection_manager import inbound_http
from mizzen.xds.kept import kept
from mizzen.xds.listeners import WILDCARD, listener_resource, loop_guard
from mizzen.xds.names import INBOUND_PASSTHROUGH, VIRTUAL_INBOUND
from mizzen.xds.routes import inbound_passthrough_route_configuration, inbound_route_configuration
from mizzen.xds.tcp_proxy import to_cluster


class Wire(NamedTuple):
    """How a connection looks from outside, and whether requests are read from it."""

    http: bool
    transport_protocol: str
    application_protocols: tuple[str, ...] = ()


# By what a port's protocol is said to be. Plain text is the one mode there is until workloads get certificates for each
# other; PERMISSIVE and STRICT are further tables of the same shape, with `tls` rows.
PLAIN = {
    "auto": (Wire(True, "raw_buffer", SNIFFED_HTTP), Wire(False, "raw_buffer")),
    "http": (Wire(True, "raw_buffer"),),
    "tcp": (Wire(False, "raw_buffer"),),
}


def _kind(protocol: Protocol) -> str:
    if protocol is Protocol.AUTO:
        return "auto"
    return "http" if protocol.is_http else "tcp"


def virtual_inbound(scope: InboundScope) -> Resource:
    """Where captured connections arrive: a chain per declared port and look, then those for any other port."""
    mesh = scope.mesh
    return listener_resource(
        Listener(
            name=VIRTUAL_INBOUND,
            address=address(WILDCARD, mesh.proxy_inbound_listen_port),
            traffic_direction="INBOUND",
            max_connections_to_accept_per_socket_event=optional(1),
            access_log=listener_access_log(mesh),
            listener_filters=[
                original_dst(),
                http_inspector(_declared_ports(scope.ports, mesh.proxy_inbound_listen_port)),
            ],
            listener_filters_timeout=mesh.protocol_detection_timeout,
            continue_on_listener_filters_timeout=True,
            filter_chains=[
                loop_guard("virtualInbound-blackhole", mesh.proxy_inbound_listen_port),
                *_passthrough_chains(mesh),
                *(chain for inbound in scope.ports for chain in _port_chains(inbound, mesh)),
            ],
        )
    )


def _declared_ports(ports: Iterable[Inbound], own: int) -> dict[str, Any]:
    """Ports whose protocol is known are not sniffed: a server that speaks first would never get to. Nor is `own`."""
    known = [*(each.port for each in ports if each.protocol is not Protocol.AUTO), own]
    ranges = [{"destination_port_range": {"start": port, "end": port + 1}} for port in known]
    return ranges[0] if len(ranges) == 1 else {"or_match": {"rules": ranges}}


@kept
def _port_chains(inbound: Inbound, mesh: MeshConfig) -> list[Message]:
    name = f"{WILDCARD}_{inbound.port}"
    routes = inbound_route_configuration(inbound, mesh)
    return [
        FilterChain(
            name=name,
            filter_chain_match={"destination_port": optional(inbound.port), **_look(wire)},
            filters=[
                inbound_http(f"inbound_{name}", routes, mesh, http2=inbound.protocol.is_http2)
                if wire.http
                else to_cluster(inbound.cluster, mesh)
            ],
        )
        for wire in PLAIN[_kind(inbound.protocol)]
    ]


@kept
def _passthrough_chains(mesh: MeshConfig) -> list[Message]:
    routes = inbound_passthrough_route_configuration(mesh)
    return [
        FilterChain(
            name="virtualInbound-catchall-http" if wire.http else VIRTUAL_INBOUND,
            filter_chain_match=_look(wire),
            filters=[
                inbound_http(INBOUND_PASSTHROUGH, routes, mesh) if wire.http else to_cluster(INBOUND_PASSTHROUGH, mesh)
            ],
        )
        for wire in PLAIN["auto"]
    ]


def _look(wire: Wire) -> dict[str, Any]:
    return {"transport_protocol": wire.transport_protocol, "application_protocols": wire.application_protocols}
