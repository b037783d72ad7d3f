"""What Istio asks of every HTTP connection.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import (
    EarlyHeaderMutation,
    HttpConnectionManager,
    Message,
    NetworkFilter,
    optional,
    typed,
)
from mizzen.xds import http_filters
from mizzen.xds.access_logs import access_log
from mizzen.xds.addresses import ADS

NAME = "envoy.filters.network.http_connection_manager"
SERVER_NAME = "istio-envoy"

_PATHS: dict[str, dict[str, Any]] = {
    "NONE": {"normalize_path": optional(False)},
    "BASE": {"normalize_path": optional(True)},
    "MERGE_SLASHES": {"normalize_path": optional(True), "merge_slashes": True},
    "DECODE_AND_MERGE_SLASHES": {
        "normalize_path": optional(True),
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}
_PATHS["DEFAULT"] = _PATHS["BASE"]

_SAID_INSIDE_THE_MESH = ("x-envoy-peer-metadata", "x-envoy-peer-metadata-id", "x-envoy-original-dst-host")
"""What sidecars tell each other and Envoy itself believes of a header: nobody outside may say it."""

_PEER_DETAILS = {"subject": optional(True), "uri": True, "dns": True}
_WRITTEN_BY_ISTIOD = {**_PEER_DETAILS, "dns": False}
"""Certificates of istiod name no hosts. Envoy looks at the certificate anew with every request where there are none."""


def outbound_http(stat_prefix: str, route: str, mesh: MeshConfig) -> Message:
    """From the application. The answering server's own `server` header is overwritten with Envoy's."""
    return _filter(stat_prefix, mesh, http_filters.outbound(mesh), rds=_rds(route), use_remote_address=optional(False))


def inbound_http(
    stat_prefix: str,
    route_config: Message,
    mesh: MeshConfig,
    *,
    http2: bool = False,
    foreign_certificates: bool = False,
    counters: tuple[Message, ...] = (),
) -> Message:
    """To the application; callers' certificates are told to it in x-forwarded-client-cert.

    `foreign_certificates`: some may be written by others than istiod. `counters` are loggers of each request, besides
    the mesh's own.
    """
    return _filter(
        stat_prefix,
        mesh,
        http_filters.inbound(mesh),
        counters,
        route_config=route_config,
        use_remote_address=optional(False),
        server_name=SERVER_NAME,
        forward_client_cert_details="APPEND_FORWARD",
        set_current_client_cert_details=_PEER_DETAILS if foreign_certificates else _WRITTEN_BY_ISTIOD,
        http2_protocol_options={} if http2 else None,
    )


def gateway_http(stat_prefix: str, route: str, mesh: MeshConfig) -> Message:
    """From outside: who connects is who asks, but for as many proxies in front as the mesh trusts."""
    topology = mesh.default_config.gateway_topology
    details = (topology and topology.forward_client_cert_details) or "SANITIZE_SET"
    appends = details in ("APPEND_FORWARD", "SANITIZE_SET")
    return _filter(
        stat_prefix,
        mesh,
        http_filters.gateway(mesh),
        rds=_rds(route),
        use_remote_address=optional(True),
        xff_num_trusted_hops=topology.num_trusted_proxies if topology else 0,
        server_name=SERVER_NAME,
        early_header_mutation_extensions=[_forgets(_SAID_INSIDE_THE_MESH)],
        forward_client_cert_details="SANITIZE" if details == "UNDEFINED" else details,
        set_current_client_cert_details={**_PEER_DETAILS, "cert": True} if appends else None,
    )


def _forgets(names: tuple[str, ...]) -> dict[str, Any]:
    """Before anything reads a request. Envoy drops most of its own `x-envoy-*` by itself where a request comes in."""
    mutations = [{"remove": name} for name in names]
    return typed("envoy.http.early_header_mutation.header_mutation", EarlyHeaderMutation(mutations=mutations))


def _rds(route: str) -> dict[str, Any]:
    return {"route_config_name": route, "config_source": ADS}


def _filter(
    stat_prefix: str,
    mesh: MeshConfig,
    filters: tuple[Message, ...],
    loggers: tuple[Message, ...] = (),
    **fields: Any,
) -> Message:
    manager = HttpConnectionManager(
        stat_prefix=stat_prefix,
        **fields,
        **_PATHS[mesh.path_normalization.normalization],
        http_filters=filters,
        access_log=[*access_log(mesh), *loggers],
        stream_idle_timeout=timedelta(0),  # Envoy's five minutes would end quiet streams
        upgrade_configs=[{"upgrade_type": "websocket"}],
        proxy_100_continue=True,
    )
    return NetworkFilter(**typed(NAME, manager))
