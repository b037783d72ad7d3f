"""DestinationRule (https://istio.io/latest/docs/reference/config/networking/destination-rule/)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from mizzen.api.base import Duration, Model, Object
from mizzen.api.values import ClientTlsMode, Int32, MatchLabels, PortSelector, SimpleLb, UInt32


class CookieAttribute(Model):
    name: str
    value: str = ""


class HTTPCookie(Model):
    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class RingHash(Model):
    minimum_ring_size: Annotated[int, Meta(ge=0)] = 0


class Maglev(Model):
    table_size: Annotated[int, Meta(ge=0)] = 0


class ConsistentHashLB(Model):
    ONE_OF: ClassVar = (
        ("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name"),
        ("ring_hash", "maglev"),
    )

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: Annotated[int, Meta(ge=0)] = 0


class BackendUtilization(Model):
    error_utilization_penalty_percent: UInt32 = 0
    metric_names_for_computing_utilization: tuple[str, ...] = ()
    weight_expiration_period: Duration | None = None
    weight_stabilization_period: Duration | None = None
    weight_update_period: Duration | None = None


class LocalityDistribute(Model):
    from_: str = field(default="", name="from")
    to: dict[str, UInt32] = {}


class LocalityFailover(Model):
    from_: str = field(default="", name="from")
    to: str = ""


class LocalityLoadBalancerSetting(Model):
    distribute: tuple[LocalityDistribute, ...] = ()
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class ZoneAwareLbSetting(Model):
    enabled: bool | None = None
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: Annotated[int, Meta(ge=1, le=4294967295)] | None = None


class Warmup(Model):
    duration: Duration
    minimum_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    aggression: Annotated[float, Meta(ge=0)] | None = None


class LoadBalancerSettings(Model):
    ONE_OF: ClassVar = (("simple", "consistent_hash", "backend_utilization"),)

    simple: SimpleLb | None = None
    consistent_hash: ConsistentHashLB | None = None
    backend_utilization: BackendUtilization | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    warmup: Warmup | None = None
    warmup_duration_secs: Duration | None = None


class TcpKeepalive(Model):
    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Model):
    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class Http2KeepAlive(Model):
    interval: Duration | None = None
    timeout: Duration | None = None


class HTTPSettings(Model):
    """Limits: 0 is unset, which is no limit."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] | None = None
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: Http2KeepAlive | None = None


class ConnectionPoolSettings(Model):
    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Model):
    consecutive_5xx_errors: UInt32 | None = field(default=None, name="consecutive5xxErrors")
    """None: 5; 0: off."""
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_errors: Int32 = 0
    consecutive_local_origin_failures: UInt32 | None = None
    split_external_local_origin_errors: bool = False
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0
    outlier_detection_http_error_codes: tuple[Annotated[int, Meta(ge=100, le=599)], ...] = ()


class ClientTLSSettings(Model):
    mode: ClientTlsMode | None = None
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None


class PortTrafficPolicy(Model):
    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Model):
    protocol: str = ""
    target_host: str
    target_port: UInt32


class ProxyProtocol(Model):
    version: Literal["V1", "V2"] | None = None


class RetryBudget(Model):
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class TrafficPolicy(Model):
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: Annotated[tuple[PortTrafficPolicy, ...], Meta(max_length=4096)] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class SubsetSpec(Model):
    """A named part of a service's endpoints: those whose Pods carry all of `labels`."""

    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Model):
    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[SubsetSpec, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: MatchLabels | None = None


class DestinationRule(Object[DestinationRuleSpec]):
    """How callers treat a host after routing: its subsets, load balancing, limits, TLS."""
