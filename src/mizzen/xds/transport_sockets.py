"""How connections are encrypted, and by which names the two sides know each other.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/tls.proto
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from mizzen.api.mesh import MeshConfig, TLSConfig
from mizzen.api.networking import ClientTLSSettings, HTTPSettings, ServerTLSSettings
from mizzen.envoy.messages import DownstreamTlsContext, Message, RawBuffer, UpstreamTlsContext, optional, typed
from mizzen.scope.model import Originated, Protocol, Resolution, Subset, TlsServer
from mizzen.xds.addresses import ADS
from mizzen.xds.http_protocol_options import upgraded
from mizzen.xds.secrets import authorities_in_files, certificate_files, pairs

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
        "api_type": "GRPC",
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
            _of_this_mesh(mesh),
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


def _of_this_mesh(mesh: MeshConfig) -> list[dict[str, Any]]:
    return _prefixes(f"spiffe://{domain}/" for domain in _trust_domains(mesh))


def _trust_domains(mesh: MeshConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys((mesh.trust_domain, *mesh.trust_domain_aliases)))


def _prefixes(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"san_type": "URI", "matcher": {"prefix": name}} for name in names]


_VERSIONS = {"TLSV1_0": "TLSv1_0", "TLSV1_1": "TLSv1_1", "TLSV1_2": "TLSv1_2", "TLSV1_3": "TLSv1_3"}


def gateway_tls(server: TlsServer, mesh: MeshConfig) -> dict[str, Any]:
    """For the filter chain of a gateway server that decrypts."""
    tls = server.settings
    alpn = _HTTP_ALPN if server.route else ()
    if tls.mode == "ISTIO_MUTUAL":
        common = _by_mesh_certificates(_of_this_mesh(mesh), mesh, alpn)
    else:
        common = {
            "alpn_protocols": alpn,
            "tls_params": _gateway_parameters(tls, mesh),
            "tls_certificate_sds_secret_configs": [_over_ads(name) for name in _certificates(server)],
            **_client_validation(server),
        }
    context = DownstreamTlsContext(
        require_client_certificate=optional(tls.mode in ("MUTUAL", "ISTIO_MUTUAL")), common_tls_context=common
    )
    return {"transport_socket": typed(NAME, context), "transport_socket_connect_timeout": _HANDSHAKE_WITHIN}


def _over_ads(name: str) -> dict[str, Any]:
    return {"name": name, "sds_config": ADS}


def _gateway_parameters(tls: ServerTLSSettings, mesh: MeshConfig) -> dict[str, Any]:
    defaults = mesh.tls_defaults or TLSConfig()
    lowest = tls.min_protocol_version or defaults.min_protocol_version or "TLS_AUTO"
    return {
        "tls_minimum_protocol_version": _VERSIONS.get(lowest, "TLSv1_2"),
        "tls_maximum_protocol_version": _VERSIONS.get(tls.max_protocol_version or "", "TLSv1_3"),
        "cipher_suites": tls.cipher_suites or defaults.cipher_suites,
        "ecdh_curves": tls.ecdh_curves or defaults.ecdh_curves,
    }


def _certificates(server: TlsServer) -> tuple[str, ...]:
    return server.certificates or tuple(certificate_files(*pair) for pair in pairs(server.settings))


def _client_validation(server: TlsServer) -> dict[str, Any]:
    """Empty: clients are not asked for a certificate."""
    tls = server.settings
    if tls.mode not in ("MUTUAL", "OPTIONAL_MUTUAL"):
        return {}
    checks = {
        "match_typed_subject_alt_names": _any_kind(tls.subject_alt_names),
        "verify_certificate_spki": tls.verify_certificate_spki,
        "verify_certificate_hash": tls.verify_certificate_hash,
        "trust_chain_verification": "ACCEPT_UNTRUSTED" if tls.insecure_skip_verify else None,
    }
    taken = _over_ads(server.roots or authorities_in_files(tls))
    return {
        "combined_validation_context": {
            "default_validation_context": checks,
            "validation_context_sds_secret_config": taken,
        }
    }


def _any_kind(names: Iterable[str]) -> list[dict[str, Any]]:
    """These names, whatever kind of name a certificate calls them."""
    return [{"san_type": kind, "matcher": {"exact": name}} for name in names for kind in ("DNS", "URI")]


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
        case "SIMPLE" | "MUTUAL" if subset.originated is not None and subset.originated.refused:
            return {}  # it has no endpoints
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
            **(
                _from_secrets(tls, subset.originated)
                if subset.originated is not None
                else {"tls_certificates": _own_certificate(tls), "validation_context": _validation(tls)}
            ),
        },
    )


def _from_secrets(tls: ClientTLSSettings, taken: Originated) -> dict[str, Any]:
    shown = [_over_ads(taken.certificate)] if taken.certificate else []
    if not taken.roots:
        return {"tls_certificate_sds_secret_configs": shown}
    checks = {"match_typed_subject_alt_names": _any_kind(tls.subject_alt_names)}
    both = {"default_validation_context": checks, "validation_context_sds_secret_config": _over_ads(taken.roots)}
    return {"tls_certificate_sds_secret_configs": shown, "combined_validation_context": both}


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
        "match_typed_subject_alt_names": _any_kind(tls.subject_alt_names),
    }


def _file(path: str) -> dict[str, Any]:
    return {"filename": path}


def names_itself(tls: ClientTLSSettings | None) -> dict[str, bool]:
    """`upstream_http_protocol_options` of a cluster that calls hosts by the name that the request has."""
    if tls is None or tls.mode not in ("SIMPLE", "MUTUAL") or tls.sni:
        return {}
    unchecked = tls.insecure_skip_verify or tls.subject_alt_names
    return {"auto_sni": True, "auto_san_validation": not unchecked}
