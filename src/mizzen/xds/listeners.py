"""What a sidecar accepts from its application.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener.proto
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import FilterChain, Listener, Message, optional, serialized
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Fallthrough, Outbound
from mizzen.xds.access_logs import listener_access_log
from mizzen.xds.addresses import additional, address
from mizzen.xds.filter_chains import SNIFFED_HTTP, fallthrough_chain, http_inspector, tcp_chains, tls_inspector
from mizzen.xds.http_connection_manager import outbound_http
from mizzen.xds.kept import kept
from mizzen.xds.names import VIRTUAL_OUTBOUND
from mizzen.xds.tcp_proxy import black_hole

WILDCARD, IPV6_WILDCARD = "0.0.0.0", "::"


@kept
def virtual_outbound(mesh: MeshConfig, fallthrough: Fallthrough, ipv6: bool = False) -> Resource:
    """Where captured connections arrive. It hands each to the listener of its original destination, if there is one."""
    return listener_resource(
        Listener(
            name=VIRTUAL_OUTBOUND,
            address=address(WILDCARD, mesh.proxy_listen_port),
            additional_addresses=everywhere(mesh.proxy_listen_port, ipv6),
            traffic_direction="OUTBOUND",
            use_original_dst=optional(True),
            max_connections_to_accept_per_socket_event=optional(1),
            access_log=listener_access_log(mesh),
            filter_chains=[
                loop_guard("virtualOutbound-blackhole", mesh.proxy_listen_port),
                fallthrough_chain(fallthrough, mesh, "virtualOutbound-catchall-tcp"),
            ],
        )
    )


def everywhere(port: int, ipv6: bool) -> list[dict[str, Any]]:
    """What joins the wildcard of IPv4. A proxy without IPv6 could not bind it."""
    return additional((IPV6_WILDCARD,) if ipv6 else (), port)


def loop_guard(name: str, port: int) -> Message:
    """A connection made to Envoy's own port would come back to it for ever."""
    return FilterChain(name=name, filter_chain_match={"destination_port": optional(port)}, filters=[black_hole()])


@kept
def outbound_listener(outbound: Outbound, mesh: MeshConfig, fallthrough: Fallthrough, ipv6: bool = False) -> Resource:
    """One port that the application calls. It does not bind: `virtualOutbound` hands connections over."""
    name = f"{outbound.bind}_{outbound.port}"
    conditional, rest = tcp_chains(outbound.tcp, mesh)
    http = _http_chains(outbound, f"outbound_{name}", mesh)
    return listener_resource(
        Listener(
            name=name,
            address=address(outbound.bind, outbound.port),
            additional_addresses=everywhere(outbound.port, ipv6)
            if outbound.bind == WILDCARD
            else additional(outbound.more_binds, outbound.port),
            traffic_direction="OUTBOUND",
            bind_to_port=optional(False),
            **_inspection(outbound, sniffs=_sniffs(outbound), mesh=mesh),
            **_chains([*conditional, *http], rest, fallthrough, mesh),
        )
    )


def _sniffs(outbound: Outbound) -> bool:
    """Whether HTTP must be told from the rest: on every wildcard port, because anything may be called there."""
    return outbound.route is not None and (bool(outbound.tcp) or outbound.bind == WILDCARD)


def _http_chains(outbound: Outbound, stat_prefix: str, mesh: MeshConfig) -> list[Message]:
    if outbound.route is None:
        return []
    plain_http = {"transport_protocol": "raw_buffer", "application_protocols": SNIFFED_HTTP}
    return [
        FilterChain(
            filter_chain_match=plain_http if _sniffs(outbound) else None,
            filters=[outbound_http(stat_prefix, outbound.route, mesh)],
        )
    ]


def _inspection(outbound: Outbound, sniffs: bool, mesh: MeshConfig) -> dict[str, Any]:
    """Whoever says nothing within the detection timeout is not HTTP; 0 waits for ever."""
    by_name = any(rule.sni_hosts for rule in outbound.tcp)
    return {
        "listener_filters": [*([tls_inspector()] if by_name else []), *([http_inspector()] if sniffs else [])],
        "listener_filters_timeout": mesh.protocol_detection_timeout if sniffs else timedelta(0),
        "continue_on_listener_filters_timeout": True,
    }


def _chains(chains: list[Message], rest: Message | None, fallthrough: Fallthrough, mesh: MeshConfig) -> dict[str, Any]:
    """A chain without a condition is the default one; a listener needs at least one other."""
    unconditional = [chain for chain in chains if not _has_condition(chain)]
    if unconditional or not chains:
        only = [*unconditional, *([rest] if rest else [])][:1]
        return {"filter_chains": only or [fallthrough_chain(fallthrough, mesh, "PassthroughFilterChain")]}
    return {
        "filter_chains": chains,
        "default_filter_chain": rest or fallthrough_chain(fallthrough, mesh, "PassthroughFilterChain"),
    }


def _has_condition(chain: Any) -> bool:
    return bool(chain.HasField("filter_chain_match"))


def listener_resource(listener: Any) -> Resource:
    return Resource.of(listener.name, serialized(listener))
