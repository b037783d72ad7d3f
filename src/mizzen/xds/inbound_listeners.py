"""What a sidecar accepts for its application.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener.proto
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import FilterChain, Listener, Message, optional
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Inbound, InboundScope, Protocol, TlsMode
from mizzen.xds import unencrypted
from mizzen.xds.access_logs import listener_access_log
from mizzen.xds.addresses import address
from mizzen.xds.filter_chains import SNIFFED_HTTP, drain_marked, http_inspector, original_dst, tls_inspector
from mizzen.xds.http_connection_manager import inbound_http
from mizzen.xds.kept import kept
from mizzen.xds.listeners import WILDCARD, everywhere, listener_resource, loop_guard
from mizzen.xds.names import INBOUND_PASSTHROUGH, VIRTUAL_INBOUND
from mizzen.xds.network_filters import GUARDS
from mizzen.xds.routes import inbound_passthrough_route_configuration, inbound_route_configuration
from mizzen.xds.tcp_proxy import counted, to_cluster
from mizzen.xds.transport_sockets import MESH_HTTP, MESH_TCP, inbound_tls


class Wire(NamedTuple):
    """How a connection looks from outside, what is done with its TLS, and whether requests are read from it."""

    http: bool
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    terminates: bool = False
    """It is mesh TLS: decrypted here, and refused without a certificate of the mesh."""


_ANY_MESH = (*MESH_HTTP, *MESH_TCP)
_AUTO_MESH = (Wire(True, "tls", MESH_HTTP, True), Wire(False, "tls", MESH_TCP, True))
_AUTO_PLAIN = (Wire(True, "raw_buffer", SNIFFED_HTTP), Wire(False, "raw_buffer"))
_OWN_TLS = Wire(False, "tls")

# By mode and by what a port's protocol is said to be. Callers of the mesh meet the same chain under PERMISSIVE and
# STRICT, byte for byte: Envoy leaves connections on unchanged chains alone, so that a change between the two does not
# touch them. STRICT adds a chain for mesh certificates that come without the mesh's words, and takes away plain text.
WIRES: dict[TlsMode, dict[str, tuple[Wire, ...]]] = {
    TlsMode.PERMISSIVE: {
        "auto": (*_AUTO_MESH, *_AUTO_PLAIN, _OWN_TLS),
        "http": (Wire(True, "tls", _ANY_MESH, True), Wire(True, "raw_buffer")),
        "tcp": (Wire(False, "tls", _ANY_MESH, True), Wire(False, "raw_buffer"), _OWN_TLS),
    },
    TlsMode.STRICT: {
        "auto": (*_AUTO_MESH, Wire(False, "tls", (), True)),
        "http": (Wire(True, "tls", _ANY_MESH, True), Wire(True, "tls", (), True)),
        "tcp": (Wire(False, "tls", _ANY_MESH, True), Wire(False, "tls", (), True)),
    },
    TlsMode.DISABLE: {
        "auto": (*_AUTO_PLAIN, _OWN_TLS),
        "http": (Wire(True),),
        "tcp": (Wire(False),),
    },
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
            additional_addresses=everywhere(mesh.proxy_inbound_listen_port, scope.ipv6),
            traffic_direction="INBOUND",
            max_connections_to_accept_per_socket_event=optional(1),
            access_log=[*listener_access_log(mesh), unencrypted.refusals()],
            listener_filters=[
                original_dst(),
                tls_inspector(_on_ports(_plain_ports(scope))),
                http_inspector(_on_ports(_declared_ports(scope))),
            ],
            listener_filters_timeout=mesh.protocol_detection_timeout,
            continue_on_listener_filters_timeout=True,
            filter_chains=[
                loop_guard("virtualInbound-blackhole", mesh.proxy_inbound_listen_port),
                *_passthrough_chains(mesh, scope.tls, scope.drained, scope.foreign_certificates),
                *(
                    chain
                    for port, mode in scope.other_ports
                    for chain in _passthrough_chains(mesh, mode, scope.drained, scope.foreign_certificates, port)
                ),
                *(
                    chain
                    for inbound in scope.ports
                    for chain in _port_chains(inbound, mesh, scope.drained, scope.foreign_certificates)
                ),
            ],
        )
    )


def _declared_ports(scope: InboundScope) -> list[int]:
    """Ports whose protocol is known are not sniffed: a server that speaks first would never get to. Nor is our own."""
    known = (each.port for each in scope.ports if each.protocol is not Protocol.AUTO)
    return [*known, scope.mesh.proxy_inbound_listen_port]


def _plain_ports(scope: InboundScope) -> list[int]:
    """Where no TLS is expected and none is told apart, so that nobody need speak first."""
    declared = (each for each in scope.ports if each.protocol is not Protocol.AUTO and each.tls is TlsMode.DISABLE)
    return [*(each.port for each in declared), scope.mesh.proxy_inbound_listen_port]


def _on_ports(ports: list[int]) -> dict[str, Any]:
    ranges = [{"destination_port_range": {"start": port, "end": port + 1}} for port in ports]
    return ranges[0] if len(ranges) == 1 else {"or_match": {"rules": ranges}}


@kept
def _port_chains(inbound: Inbound, mesh: MeshConfig, drained: str, foreign: bool) -> list[Message]:
    name = f"{WILDCARD}_{inbound.port}"
    routes = inbound_route_configuration(inbound, mesh)
    return [
        FilterChain(
            name=name,
            filter_chain_match=_look(wire, inbound.port),
            filters=[
                inbound_http(
                    f"inbound_{name}",
                    routes,
                    mesh,
                    http2=inbound.protocol.is_http2,
                    foreign_certificates=foreign,
                    counters=_counters(wire),
                )
            ]
            if wire.http
            else [*GUARDS, _bytes(wire, inbound.cluster, mesh)],
            **_encryption(wire, mesh),
            **drain_marked(drained),
        )
        for wire in WIRES[inbound.tls][_kind(inbound.protocol)]
    ]


@kept
def _passthrough_chains(
    mesh: MeshConfig, mode: TlsMode, drained: str, foreign: bool, port: int | None = None
) -> list[Message]:
    """Of ports that no Service names: all of them, or one that has a mode of its own."""
    routes = inbound_passthrough_route_configuration(mesh)
    return [
        FilterChain(
            name="virtualInbound-catchall-http" if wire.http else VIRTUAL_INBOUND,
            filter_chain_match=_look(wire, port),
            filters=[
                inbound_http(INBOUND_PASSTHROUGH, routes, mesh, foreign_certificates=foreign, counters=_counters(wire))
            ]
            if wire.http
            else [*GUARDS, _bytes(wire, INBOUND_PASSTHROUGH, mesh)],
            **_encryption(wire, mesh),
            **drain_marked(drained),
        )
        for wire in WIRES[mode]["auto"]
    ]


def _counters(wire: Wire) -> tuple[Message, ...]:
    return () if wire.terminates else (unencrypted.requests(unencrypted.PLAIN),)


def _bytes(wire: Wire, cluster: str, mesh: MeshConfig) -> Message:
    if wire.terminates:
        return to_cluster(cluster, mesh)
    seen = unencrypted.OWN_TLS if wire.transport_protocol == "tls" else unencrypted.PLAIN
    return counted(cluster, mesh, unencrypted.connections(seen))


def _encryption(wire: Wire, mesh: MeshConfig) -> dict[str, Any]:
    return inbound_tls(mesh, http=wire.http) if wire.terminates else {}


def _look(wire: Wire, port: int | None) -> dict[str, Any]:
    return {
        "destination_port": optional(port),
        "transport_protocol": wire.transport_protocol,
        "application_protocols": wire.application_protocols,
    }
