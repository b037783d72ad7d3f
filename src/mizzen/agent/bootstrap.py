"""Envoy's bootstrap: what a proxy must know before istiod has told it anything. Pure.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/bootstrap/v3/bootstrap.proto

Three choices were measured. `initial_fetch_timeout: 0s`, or `/ready` says LIVE without any listener. The retry policy
stands *inside* `envoy_grpc`; beside it, it is ignored. TLS 1.3 is minimum and maximum, because a client's default
maximum is 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mizzen import __version__
from mizzen.agent.settings import ADMIN_PORT, CAPTURE_MARK, STATUS_PORT, Settings

HEALTH_PORT = 15021
PROMETHEUS_PORT = 15090

_TYPE = "type.googleapis.com/"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP2 = {
    _HTTP_OPTIONS: {
        "@type": _TYPE + _HTTP_OPTIONS,
        "explicit_http_config": {
            # A control plane that vanished without a word is noticed by its silence.
            "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
        },
    }
}
_RETRY = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}}

# What `/stats` keeps beside `istio_*`: the proxy's own state and its way to istiod. Every listener and cluster of a
# mesh would cost megabytes in every sidecar. The list is Istio's (`proxyStatsMatcher` adds to it).
_KEPT_PREFIXES = (
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "wasm",
    "listener.admin",
    "tls_inspector",
    "http.inbound",
    "http.outbound",
    "istio",
    "mizzen",
    "control_plane",
)
_KEPT_PATTERNS = (
    r".*downstream_[rc][qx](_tx_reset|_total|_active)?",
    r"cluster\..*(upstream_cx_active|upstream_rq_pending_overflow|upstream_cx_overflow|ejections_active)",
)


def bootstrap(settings: Settings) -> dict[str, Any]:
    """The whole document, ready for JSON. Raises ValueError for durations in proxyConfig that are none."""
    return {
        "node": _node(settings),
        "admin": {
            "profile_path": "/dev/null",
            "address": _socket_address("127.0.0.1", ADMIN_PORT),
        },
        "layered_runtime": _layered_runtime(settings),
        "dynamic_resources": _dynamic_resources(),
        "static_resources": {
            "clusters": [_sds_cluster(settings), _xds_cluster(settings), _agent_cluster(), _admin_cluster()],
            "listeners": [
                _static_listener(settings, "health", HEALTH_PORT, "/healthz/ready", "agent"),
                _static_listener(settings, "prometheus", PROMETHEUS_PORT, "/stats/prometheus", "prometheus_stats"),
            ],
        },
        "stats_config": stats_config(settings.proxy_config.get("proxyStatsMatcher") or {}),
        "stats_flush_interval": "5s",
        "stats_eviction_interval": "300s",
        "overload_manager": _overload_manager(),
        **_marked(settings),
    }


def node_metadata(settings: Settings) -> dict[str, Any]:
    """What istiod learns about the Pod in the first message of each stream: Istio's names."""
    return {
        **settings.metadata,
        "NAME": settings.pod,
        "NAMESPACE": settings.namespace,
        "SERVICE_ACCOUNT": settings.service_account,
        "INSTANCE_IPS": ",".join(settings.addresses),
        "LABELS": dict(settings.labels),
        "ANNOTATIONS": dict(settings.annotations),
        "CLUSTER_ID": settings.metadata.get("CLUSTER_ID", "Kubernetes"),
        "MESH_ID": settings.metadata.get("MESH_ID") or settings.trust_domain,
        "INTERCEPTION_MODE": settings.metadata.get("INTERCEPTION_MODE", "REDIRECT"),
        "ISTIO_VERSION": __version__,
        "ENVOY_STATUS_PORT": HEALTH_PORT,
        "ENVOY_PROMETHEUS_PORT": PROMETHEUS_PORT,
        "PILOT_SAN": [settings.istiod],
        "PROXY_CONFIG": dict(settings.proxy_config),
        **({"EXTERNAL_SECRETS": True} if settings.external_sds else {}),
    }


def service_cluster(settings: Settings) -> str:
    """`--service-cluster` as APP_LABEL_AND_NAMESPACE says: the name that tracing shows."""
    app = settings.labels.get("app") or settings.metadata.get("WORKLOAD_NAME") or "istio-proxy"
    return f"{app}.{settings.namespace}"


def _node(settings: Settings) -> dict[str, Any]:
    metadata = node_metadata(settings)
    return {"id": settings.node_id, "cluster": service_cluster(settings), "metadata": metadata}


def _layered_runtime(settings: Settings) -> dict[str, Any]:
    values = {
        "re2.max_program_size.error_level": "32768",
        **_strings(settings.proxy_config.get("runtimeValues")),
    }
    return {"layers": [{"name": "global config", "static_layer": values}, {"name": "admin", "admin_layer": {}}]}


def _strings(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: str(value) for key, value in (values or {}).items()}


def _dynamic_resources() -> dict[str, Any]:
    over_ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc", "retry_policy": _RETRY}}],
        },
        "cds_config": over_ads,
        "lds_config": over_ads,
    }


def _sds_config() -> dict[str, Any]:
    """State of the world, which every server of secrets speaks: SPIRE's and Istio's have no delta."""
    return {
        "resource_api_version": "V3",
        "initial_fetch_timeout": "0s",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc", "retry_policy": _RETRY}}],
        },
    }


def _sds_cluster(settings: Settings) -> dict[str, Any]:
    return {
        "name": "sds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": _HTTP2,
        "load_assignment": _load_assignment("sds-grpc", {"pipe": {"path": settings.paths.sds_socket}}),
    }


def _xds_cluster(settings: Settings) -> dict[str, Any]:
    address = _socket_address(settings.istiod_host, settings.istiod_port)
    return {
        "name": "xds-grpc",
        "type": "STRICT_DNS",
        "respect_dns_ttl": True,
        "dns_refresh_rate": "5s",
        "dns_failure_refresh_rate": {"base_interval": "0.1s", "max_interval": "1s"},
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": _HTTP2,
        "load_assignment": _load_assignment("xds-grpc", address),
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": _mutual_tls(settings)},
    }


def _mutual_tls(settings: Settings) -> dict[str, Any]:
    istiod = {"san_type": "DNS", "matcher": {"exact": settings.istiod}}
    return {
        "@type": _TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": settings.istiod,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": _sds_config()}],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [istiod]},
                "validation_context_sds_secret_config": _roots_of_istiod(settings),
            },
        },
    }


_ISTIOD_ROOTS = "istiod-roots"


def _roots_of_istiod(settings: Settings) -> dict[str, Any]:
    """What istiod is checked against. Where somebody else serves the Pod's secrets, their roots are of peers alone."""
    if not settings.external_sds:
        return {"name": "ROOTCA", "sds_config": _sds_config()}
    source = {"path_config_source": {"path": settings.paths.istiod_roots}, "resource_api_version": "V3"}
    return {"name": _ISTIOD_ROOTS, "sds_config": source}


def istiod_roots(settings: Settings) -> dict[str, Any]:
    """The file that `bootstrap` leads to where somebody else serves the Pod's secrets: it follows the mounted roots."""
    path = settings.paths.root_certificate
    context = {"trusted_ca": {"filename": path}, "watched_directory": {"path": path.rpartition("/")[0]}}
    kind = _TYPE + "envoy.extensions.transport_sockets.tls.v3.Secret"
    return {"resources": [{"@type": kind, "name": _ISTIOD_ROOTS, "validation_context": context}]}


def _agent_cluster() -> dict[str, Any]:
    return _loopback_cluster("agent", STATUS_PORT)


def _admin_cluster() -> dict[str, Any]:
    return _loopback_cluster("prometheus_stats", ADMIN_PORT)


def _loopback_cluster(name: str, port: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _load_assignment(name, _socket_address("127.0.0.1", port)),
    }


def _static_listener(settings: Settings, name: str, port: int, path: str, cluster: str) -> dict[str, Any]:
    """A listener that lets one path through to one cluster."""
    route = {"match": {"prefix": path}, "route": {"cluster": cluster}}
    connection = {
        "@type": _TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}]
    return {
        "name": name,
        "address": _socket_address("0.0.0.0", port),
        "additional_addresses": [{"address": _socket_address("::", port)}] if settings.ipv6_addresses else [],
        "bypass_overload_manager": True,
        "filter_chains": [{"filters": filters}],
    }


def stats_config(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded: `asked` is a ProxyConfig's proxyStatsMatcher.
    https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig-ProxyStatsMatcher"""
    patterns = [
        *({"prefix": prefix} for prefix in (*_KEPT_PREFIXES, *asked.get("inclusionPrefixes", ()))),
        *({"suffix": suffix} for suffix in asked.get("inclusionSuffixes", ())),
        *({"safe_regex": {"regex": regex}} for regex in (*_KEPT_PATTERNS, *asked.get("inclusionRegexps", ()))),
    ]
    return {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in _STATS_TAGS],
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
    }


_STATS_TAGS = (
    ("cluster_name", r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)"),
    ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    (
        "http_conn_manager_listener_prefix",
        r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    ),
    ("http_conn_manager_prefix", r"^http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
    ("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
)


def _overload_manager() -> dict[str, Any]:
    """No limit, as in Istio, but said in the way that does not make Envoy warn of a missing one."""
    limit = {
        "@type": _TYPE + "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        "max_active_downstream_connections": 2147483647,
    }
    name = "envoy.resource_monitors.global_downstream_max_connections"
    return {"resource_monitors": [{"name": name, "typed_config": limit}]}


def _marked(settings: Settings) -> dict[str, Any]:
    """Where uid 1337 cannot exist, every socket that Envoy opens carries the mark that capture lets pass."""
    if not settings.mark_proxy_traffic:
        return {}
    so_mark = {"description": "SO_MARK", "level": 1, "name": 36, "int_value": CAPTURE_MARK, "state": "STATE_PREBIND"}
    return {"cluster_manager": {"upstream_bind_config": {"socket_options": [so_mark]}}}


def _socket_address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _load_assignment(cluster: str, address: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
