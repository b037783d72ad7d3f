"""MeshConfig and ProxyConfig: the mesh's own settings (ConfigMap `istio`, key `mesh`), with Istio's defaults.

https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import field

from mizzen.api.base import Duration, Model
from mizzen.api.destination_rule import (
    ConnectionPoolSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TcpKeepalive,
)
from mizzen.api.values import HTTPRetry, Int32, UInt32

OutboundMode: TypeAlias = Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"]
Everyone: TypeAlias = tuple[str, ...]


class OutboundTrafficPolicy(Model):
    mode: OutboundMode = "ALLOW_ANY"


class InboundTrafficPolicy(Model):
    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class DefaultProviders(Model):
    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()


class TLSConfig(Model):
    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] | None = None
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class PathNormalization(Model):
    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class DefaultTrafficPolicy(Model):
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


class GatewayTopology(Model):
    num_trusted_proxies: UInt32 = 0
    forward_client_cert_details: (
        Literal["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"] | None
    ) = None
    proxy_protocol: dict[str, Any] | None = None


class Tracing(Model):
    sampling: float | None = None
    zipkin: dict[str, Any] | None = None
    datadog: dict[str, Any] | None = None
    stackdriver: dict[str, Any] | None = None
    custom_tags: dict[str, Any] = {}
    max_path_tag_length: UInt32 = 256
    tls_settings: dict[str, Any] | None = None
    enable_istio_tags: bool | None = None


class ProxyStatsMatcher(Model):
    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


class ProxyConfig(Model):
    """Of one proxy: `meshConfig.defaultConfig`, overridden by the Pod annotation `proxy.istio.io/config`."""

    concurrency: Int32 | None = None
    """None: by the CPU limit; 0: all cores."""
    drain_duration: Duration = Duration(seconds=45)
    termination_drain_duration: Duration = Duration(seconds=5)
    hold_application_until_proxy_starts: bool = False
    discovery_address: str = "istiod.istio-system.svc:15012"
    proxy_admin_port: Int32 = 15000
    status_port: Int32 = 15020
    control_plane_auth_policy: Literal["NONE", "MUTUAL_TLS", "INHERIT"] = "MUTUAL_TLS"
    service_cluster: str = "istio-proxy"
    config_path: str = "./etc/istio/proxy"
    binary_path: str = "/usr/local/bin/envoy"
    stat_name_length: Int32 = 189
    interception_mode: Literal["REDIRECT", "TPROXY", "NONE"] = "REDIRECT"
    image: dict[str, Any] | None = None
    proxy_metadata: dict[str, str] = {}
    runtime_values: dict[str, str] = {}
    tracing: Tracing | None = None
    tracing_service_name: Literal["APP_LABEL_AND_NAMESPACE", "CANONICAL_NAME_ONLY", "CANONICAL_NAME_AND_NAMESPACE"] = (
        "APP_LABEL_AND_NAMESPACE"
    )
    gateway_topology: GatewayTopology | None = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    readiness_probe: dict[str, Any] | None = None
    proxy_headers: dict[str, Any] | None = None
    private_key_provider: dict[str, Any] | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    envoy_access_log_service: dict[str, Any] | None = None
    envoy_metrics_service: dict[str, Any] | None = None
    statsd_udp_address: str = ""
    custom_config_file: str = ""
    proxy_bootstrap_template_path: str = ""
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: UInt32 | None = None
    stats_compression: bool | None = None
    extra_stat_tags: tuple[str, ...] = ()
    mesh_id: str = ""
    connection_settings: dict[str, Any] | None = None


class MeshConfig(Model):
    """Of the whole mesh."""

    access_log_file: str = ""
    """"": off; `/dev/stdout` in the demo profile."""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    enable_envoy_access_log_service: bool = False
    disable_envoy_listener_log: bool = False
    enable_tracing: bool = True
    default_providers: DefaultProviders | None = None
    extension_providers: tuple[dict[str, Any], ...] = ()
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    inbound_traffic_policy: InboundTrafficPolicy = InboundTrafficPolicy()
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    enable_auto_mtls: bool = True
    mesh_mtls: TLSConfig | None = field(default=None, name="meshMTLS")
    tls_defaults: TLSConfig | None = None
    ca_certificates: tuple[dict[str, Any], ...] = ()
    ca: dict[str, Any] | None = None
    root_namespace: str = "istio-system"
    discovery_selectors: tuple[dict[str, Any], ...] = ()
    config_sources: tuple[dict[str, Any], ...] = ()
    default_service_export_to: Everyone = ("*",)
    default_virtual_service_export_to: Everyone = ("*",)
    default_destination_rule_export_to: Everyone = ("*",)
    connect_timeout: Duration = Duration(seconds=10)
    tcp_keepalive: TcpKeepalive | None = None
    default_http_retry_policy: HTTPRetry | None = None
    default_inbound_http_retry_policy: HTTPRetry | None = None
    default_traffic_policy: DefaultTrafficPolicy | None = None
    protocol_detection_timeout: Duration = Duration(0)
    """0: wait for ever."""
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    dns_refresh_rate: Duration = Duration(seconds=60)
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: dict[str, Any] | None = None
    path_normalization: PathNormalization = PathNormalization()
    proxy_listen_port: Int32 = 15001
    proxy_inbound_listen_port: Int32 = 15006
    proxy_http_port: Int32 = 0
    enable_prometheus_merge: bool = True
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    ingress_class: str = "istio"
    ingress_service: str = "istio-ingressgateway"
    ingress_selector: str = "ingressgateway"
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    service_settings: tuple[dict[str, Any], ...] = ()
    service_scope_configs: tuple[dict[str, Any], ...] = ()
    service_entry_visibility: Any = None
    hbone_idle_timeout: Duration | None = None
    default_config: ProxyConfig = ProxyConfig()
