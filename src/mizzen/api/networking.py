"""networking.istio.io, first part: Gateway, VirtualService, DestinationRule.

Fields are those of Istio's CRDs, in snake_case; a oneof is a set of optional fields of which at most one may be set
(`mizzen.api.legality` says so). Reference: https://istio.io/latest/docs/reference/config/networking/
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from mizzen.api.base import Duration, Model, Object
from mizzen.api.destination_rule import (
    BackendUtilization,
    ClientTLSSettings,
    ConnectionPoolSettings,
    ConsistentHashLB,
    CookieAttribute,
    DestinationRule,
    DestinationRuleSpec,
    Http2KeepAlive,
    HTTPCookie,
    HTTPSettings,
    LoadBalancerSettings,
    LocalityDistribute,
    LocalityFailover,
    LocalityLoadBalancerSetting,
    Maglev,
    OutlierDetection,
    PortTrafficPolicy,
    ProxyProtocol,
    RetryBudget,
    RingHash,
    SubsetSpec,
    TcpKeepalive,
    TCPSettings,
    TrafficPolicy,
    TunnelSettings,
    Warmup,
    ZoneAwareLbSetting,
)
from mizzen.api.values import (
    Destination,
    HeaderOperations,
    Headers,
    HTTPRetry,
    Int32,
    MatchLabels,
    Percent,
    Port,
    PortSelector,
    ServerTlsMode,
    StringMatch,
    TlsVersion,
    UInt32,
)

__all__ = [
    "BackendUtilization",
    "ClientTLSSettings",
    "ConnectionPoolSettings",
    "ConsistentHashLB",
    "CookieAttribute",
    "CorsPolicy",
    "Delegate",
    "Destination",
    "DestinationRule",
    "DestinationRuleSpec",
    "FaultAbort",
    "FaultDelay",
    "Gateway",
    "GatewaySpec",
    "HTTPBody",
    "HTTPCookie",
    "HTTPDirectResponse",
    "HTTPFaultInjection",
    "HTTPMatchRequest",
    "HTTPMirrorPolicy",
    "HTTPRedirect",
    "HTTPRetry",
    "HTTPRewrite",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HTTPSettings",
    "HeaderOperations",
    "Headers",
    "Http2KeepAlive",
    "L4MatchAttributes",
    "LoadBalancerSettings",
    "LocalityDistribute",
    "LocalityFailover",
    "LocalityLoadBalancerSetting",
    "Maglev",
    "MatchLabels",
    "OutlierDetection",
    "Percent",
    "Port",
    "PortSelector",
    "PortTrafficPolicy",
    "ProxyProtocol",
    "RegexRewrite",
    "RetryBudget",
    "RingHash",
    "RouteDestination",
    "Server",
    "ServerTLSSettings",
    "StringMatch",
    "SubsetSpec",
    "TCPRoute",
    "TCPSettings",
    "TLSCertificate",
    "TLSMatchAttributes",
    "TLSRoute",
    "TcpKeepalive",
    "TrafficPolicy",
    "TunnelSettings",
    "VirtualService",
    "VirtualServiceSpec",
    "Warmup",
    "ZoneAwareLbSetting",
]

# Gateway


class TLSCertificate(Model):
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTLSSettings(Model):
    https_redirect: bool = False
    mode: ServerTlsMode | None = None
    """None is PASSTHROUGH, as in Istio."""
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: Annotated[tuple[str, ...], Meta(max_length=2)] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: Annotated[tuple[TLSCertificate, ...], Meta(max_length=2)] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TlsVersion | None = None
    max_protocol_version: TlsVersion | None = None
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    insecure_skip_verify: bool = False


class Server(Model):
    """One port that a gateway opens, and the hosts it serves there (`[namespace/]dnsName`)."""

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTLSSettings | None = None
    name: str = ""
    default_endpoint: str = ""


class GatewaySpec(Model):
    servers: tuple[Server, ...] = ()
    selector: dict[str, str] = {}
    """Labels of the gateway Pods, looked for in all namespaces; empty: every gateway."""


class Gateway(Object[GatewaySpec]):
    """What enters or leaves the mesh at a gateway's ports."""


# VirtualService


class HTTPMatchRequest(Model):
    """All set conditions must hold; several blocks of one rule are alternatives."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    without_headers: dict[str, StringMatch] = {}
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    stat_prefix: str = ""


class HTTPRouteDestination(Model):
    destination: Destination
    weight: Int32 = 0
    headers: Headers | None = None


class HTTPRedirect(Model):
    ONE_OF: ClassVar = (("port", "derive_port"),)

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0
    """0 is 301."""


class HTTPBody(Model):
    ONE_OF: ClassVar = (("string", "bytes"),)

    string: str | None = None
    bytes: str | None = None
    """Base64."""


class HTTPDirectResponse(Model):
    status: UInt32
    body: HTTPBody | None = None


class Delegate(Model):
    name: str = ""
    namespace: str = ""


class RegexRewrite(Model):
    match: str = ""
    rewrite: str = ""


class HTTPRewrite(Model):
    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class FaultDelay(Model):
    ONE_OF: ClassVar = (("fixed_delay", "exponential_delay"),)

    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None
    percent: Int32 = 0


class FaultAbort(Model):
    ONE_OF: ClassVar = (("http_status", "grpc_status", "http2_error"),)

    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


class HTTPFaultInjection(Model):
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HTTPMirrorPolicy(Model):
    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Model):
    allow_origins: tuple[StringMatch, ...] = ()
    allow_origin: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] | None = None


class HTTPRoute(Model):
    """One rule of `spec.http`: the first whose match holds decides."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    """None: no timeout."""
    retries: HTTPRetry | None = None
    """None: the mesh's default retries."""
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    mirror_percent_legacy: UInt32 | None = field(default=None, name="mirror_percent")
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class RouteDestination(Model):
    destination: Destination
    weight: Int32 = 0


class TLSMatchAttributes(Model):
    sni_hosts: tuple[str, ...]
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TLSRoute(Model):
    match: tuple[TLSMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()


class L4MatchAttributes(Model):
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TCPRoute(Model):
    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualServiceSpec(Model):
    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    """Empty: `mesh`, that is all sidecars."""
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()


class VirtualService(Object[VirtualServiceSpec]):
    """Where requests for its hosts go."""
