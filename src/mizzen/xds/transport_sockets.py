"""How connections are encrypted, and by which names the two sides know each other.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/tls.proto
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import ClientTLSSettings, HTTPSettings
from mizzen.envoy.messages import DownstreamTlsContext, Message, RawBuffer, UpstreamTlsContext, optional, typed
from mizzen.scope.model import Protocol, Resolution, Subset
from mizzen.xds.http_protocol_options import upgraded

NAME, PLAIN_NAME = "envoy.transport_sockets.tls", "envoy.transport_sockets.raw_buffer"

WORKLOAD_CERTIFICATE, ROOTS = "default", "ROOTCA"
"""What the agent calls them."""

MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_TCP = ("istio-peer-exchange", "istio")
"""ALPN words by which a sidecar tells mesh TLS from an application's own."""

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
_HANDSHAKE_WITHIN = timedelta(seconds=15)
_HTTP_ALPN = ("h2", "http/1.1")
_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)

# From the agent's socket, word for word as in the bootstrap: Envoy then shares the subscription that is already there.
_FROM_AGENT: dict[str, Any] = {
    "resource_api_version": "V3",
    "initial_fetch_timeout": timedelta(0),
    "api_config_source": {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [
            {
                "envoy_grpc": {
                    "cluster_name": "sds-grpc",
                    "retry_policy": {
                        "retry_back_off": {
                            "base_interval": timedelta(milliseconds=100),
                            "max_interval": timedelta(milliseconds=500),
                        }
                    },
                }
            }
        ],
    },
}


def inbound_tls(mesh: MeshConfig, *, http: bool) -> dict[str, Any]:
    """For a filter chain that takes mesh TLS: the caller shows a certificate of this mesh."""
    context = DownstreamTlsContext(
        require_client_certificate=optional(True),
        common_tls_context=_by_mesh_certificates(
            _prefixes(f"spiffe://{domain}/" for domain in _trust_domains(mesh)),
            mesh,
            _HTTP_ALPN if http else ("istio-peer-exchange", *_HTTP_ALPN),
        ),
    )
    return {
        "transport_socket": typed(NAME, context),
        "transport_socket_connect_timeout": _HANDSHAKE_WITHIN,
    }


def _by_mesh_certificates(names: list[dict[str, Any]], mesh: MeshConfig, alpn: Iterable[str]) -> dict[str, Any]:
    """Both sides show mesh certificates: the same versions and ciphers, the Pod's own key, the mesh's roots."""
    return {
        "alpn_protocols": alpn,
        "tls_params": _mesh_parameters(mesh),
        "tls_certificate_sds_secret_configs": [{"name": WORKLOAD_CERTIFICATE, "sds_config": _FROM_AGENT}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": {"name": ROOTS, "sds_config": _FROM_AGENT},
        },
    }


def _mesh_parameters(mesh: MeshConfig) -> dict[str, Any]:
    wanted = mesh.mesh_mtls
    newest_only = wanted is not None and wanted.min_protocol_version == "TLSV1_3"
    return {
        "tls_minimum_protocol_version": "TLSv1_3" if newest_only else "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        "cipher_suites": (wanted and wanted.cipher_suites) or _CIPHERS,
        "ecdh_curves": wanted.ecdh_curves if wanted else (),
    }


def _trust_domains(mesh: MeshConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys((mesh.trust_domain, *mesh.trust_domain_aliases)))


def _prefixes(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"san_type": "URI", "matcher": {"prefix": name}} for name in names]


def outbound_tls(subset: Subset, tls: ClientTLSSettings | None, mesh: MeshConfig) -> dict[str, Any]:
    """The transport of a cluster. What a DestinationRule says holds for all of it; else each endpoint gets what it
    takes, where endpoints are told apart."""
    if tls is not None:
        return _as_asked(subset, tls, mesh)
    if not subset.mtls:
        return {}
    mutual = mesh_tls(subset, ClientTLSSettings(), mesh)
    if subset.resolution is Resolution.ORIGINAL_DST:
        return {"transport_socket": mutual}
    return {
        "transport_socket_matches": [
            {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": mutual},
            {"name": "tlsMode-disabled", "match": {}, "transport_socket": typed(PLAIN_NAME, RawBuffer())},
        ]
    }


def _as_asked(subset: Subset, tls: ClientTLSSettings, mesh: MeshConfig) -> dict[str, Any]:
    match tls.mode:
        case "ISTIO_MUTUAL":
            return {"transport_socket": mesh_tls(subset, tls, mesh)}
        case "SIMPLE" | "MUTUAL":
            return {"transport_socket": typed(NAME, _origination(subset, tls, mesh))}
        case _:
            return {}


def mesh_tls(subset: Subset, tls: ClientTLSSettings, mesh: MeshConfig) -> dict[str, Any]:
    """The server must be one of the host's service accounts, unless the rule names others."""
    context = UpstreamTlsContext(
        sni=tls.sni or f"outbound_.{subset.port}_.{subset.subset}_.{subset.host}",
        common_tls_context=_by_mesh_certificates(_servers(subset, tls, mesh), mesh, _mesh_alpn(subset, mesh)),
    )
    return typed(NAME, context)


def _servers(subset: Subset, tls: ClientTLSSettings, mesh: MeshConfig) -> list[dict[str, Any]]:
    """While no Pod is known, at least the namespace must be the service's."""
    if tls.subject_alt_names:
        return [{"san_type": "URI", "matcher": {"exact": name}} for name in tls.subject_alt_names]
    places = [f"spiffe://{domain}/ns/{subset.namespace}/sa/" for domain in _trust_domains(mesh)]
    if not subset.accounts:
        return _prefixes(places)
    return [
        {"san_type": "URI", "matcher": {"exact": f"{place}{account}"}}
        for place in places
        for account in subset.accounts
    ]


def _mesh_alpn(subset: Subset, mesh: MeshConfig) -> tuple[str, ...]:
    """By the protocol of the port. Where that is only known per connection, no word is offered that the server could
    agree to: it looks at the first bytes; connections that are not HTTP say so themselves (`bytes_in_mesh_tls`)."""
    if _follows_caller(subset):
        return ("istio-http/1.1",)
    if _speaks_http2(subset, mesh):
        return ("istio-h2", "istio", "h2")
    if subset.protocol.is_http:
        return ("istio-http/1.1", "istio", "http/1.1")
    return MESH_TCP


def _follows_caller(subset: Subset) -> bool:
    return subset.protocol is Protocol.AUTO or _http(subset).use_client_protocol


def _speaks_http2(subset: Subset, mesh: MeshConfig) -> bool:
    return subset.protocol.is_http2 or upgraded(subset.protocol, _http(subset), mesh.h2_upgrade_policy == "UPGRADE")


def _http(subset: Subset) -> HTTPSettings:
    pool = subset.policy.connection_pool if subset.policy else None
    return (pool and pool.http) or HTTPSettings()


def _origination(subset: Subset, tls: ClientTLSSettings, mesh: MeshConfig) -> Message:
    """TLS towards whoever is not of the mesh. Without `sni` the name of the request serves (`names_itself`)."""
    return UpstreamTlsContext(
        sni=tls.sni or None,
        common_tls_context={
            "alpn_protocols": _origination_alpn(subset, mesh),
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": _own_certificate(tls),
            "validation_context": _validation(tls),
        },
    )


def _origination_alpn(subset: Subset, mesh: MeshConfig) -> tuple[str, ...]:
    if not subset.protocol.is_http:
        return ()
    return ("h2",) if _speaks_http2(subset, mesh) else ("http/1.1",)


def _own_certificate(tls: ClientTLSSettings) -> list[dict[str, Any]]:
    if tls.mode != "MUTUAL":
        return []
    return [{"certificate_chain": _file(tls.client_certificate), "private_key": _file(tls.private_key)}]


def _validation(tls: ClientTLSSettings) -> dict[str, Any] | None:
    """None: anybody's certificate will do."""
    if tls.insecure_skip_verify:
        return None
    return {
        "trusted_ca": _file(tls.ca_certificates or SYSTEM_ROOTS),
        "crl": _file(tls.ca_crl) if tls.ca_crl else None,
        "match_typed_subject_alt_names": [
            {"san_type": kind, "matcher": {"exact": name}} for name in tls.subject_alt_names for kind in ("DNS", "URI")
        ],
    }


def _file(path: str) -> dict[str, Any]:
    return {"filename": path}


def names_itself(tls: ClientTLSSettings | None) -> dict[str, bool]:
    """`upstream_http_protocol_options` of a cluster that calls hosts by the name that the request has."""
    if tls is None or tls.mode not in ("SIMPLE", "MUTUAL") or tls.sni:
        return {}
    unchecked = tls.insecure_skip_verify or tls.subject_alt_names
    return {"auto_sni": True, "auto_san_validation": not unchecked}
