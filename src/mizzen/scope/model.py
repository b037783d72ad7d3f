"""The answers to Istio's questions, ready to be written as Envoy messages.

A scope holds everything one class of proxies may see, with every precedence decided. It *wraps* the user's own frozen
resources (`mizzen.api.networking`) and never copies their fields: `xds` reads `rule.http.timeout` from the
VirtualService itself. Names in here are Istio's wire names (clusters, routes, virtual hosts), because tools read them.

Three shapes, because they are shared differently:
* `OutboundScope`: what a sidecar may call; shared by the sidecars of a namespace (and of equal labels, where rules ask)
* `InboundScope`: what a workload serves; shared by its replicas.
* `GatewayScope`: what a gateway serves and calls; shared by the replicas of a gateway.
Endpoints are not in here: a Pod that comes or goes touches `endpoints.py` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from mizzen.api.authorization import AuthorizationPolicy, RequestAuthentication
from mizzen.api.base import Model, Problem
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import (
    ConsistentHashLB,
    Headers,
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    ServerTLSSettings,
    TrafficPolicy,
)


class Protocol(StrEnum):
    """Istio's protocol words after selection.

    https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
    """

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTP_PROXY = "http_proxy"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    MONGO = "mongo"
    MYSQL = "mysql"
    REDIS = "redis"
    UDP = "udp"
    AUTO = "auto"
    """Not said: Envoy looks at the first bytes."""

    @property
    def is_http(self) -> bool:
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.HTTP_PROXY)

    @property
    def is_http2(self) -> bool:
        return self in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_tls(self) -> bool:
        return self in (Protocol.HTTPS, Protocol.TLS)


class TlsMode(StrEnum):
    """What a workload asks of those who call a port: PeerAuthentication, decided."""

    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    """Mesh TLS and plain text."""
    STRICT = "STRICT"
    """Mesh TLS alone."""


class Source(Model):
    """The line of the user's YAML that decided something. `rule` is an index into `spec.http`, `tls` or `tcp`."""

    kind: str
    namespace: str
    name: str
    rule: int | None = None

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"

    @property
    def whole(self) -> Source:
        """The object, whichever of its rules it was."""
        return Source(kind=self.kind, namespace=self.namespace, name=self.name)


class Destination(Model):
    """Where a share of the traffic goes: an outbound cluster by name, and the route destination that asked for it."""

    cluster: str
    """`outbound|PORT|SUBSET|HOST`"""
    host: str
    port: int
    weight: int = 0
    headers: Headers | None = None


class Mirror(Model):
    """A copy of a share of the requests, whose answers no one waits for."""

    destination: Destination
    percentage: float = 100.0


class Rule(Model):
    """One entry of a virtual host: one match block of one `spec.http[]`, or a default route (http and match None).

    `match.port`, `gateways`, `sourceLabels`, `sourceNamespace` are already decided and must be ignored by the reader.
    """

    match: HTTPMatchRequest | None = None
    http: HTTPRoute | None = None
    destinations: tuple[Destination, ...] = ()
    source: Source | None = None
    consistent_hash: tuple[ConsistentHashLB, ...] = ()
    """The hash policies of the destinations' DestinationRules: they live on the route in Envoy."""
    mirrors: tuple[Mirror, ...] = ()


class Host(Model):
    """One virtual host: the domains that lead to it and its rules in order."""

    name: str
    """`reviews.default.svc.cluster.local:9080`; or `allow_any`, `block_all`, `blackhole:PORT`."""
    domains: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    require_tls: bool = False
    """`httpsRedirect`"""


class Fallthrough(StrEnum):
    """outboundTrafficPolicy.mode"""

    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


class RouteTable(Model):
    """One RouteConfiguration: `9080`, `FQDN:PORT` (sniffed), `http.8080` (gateway)."""

    name: str
    hosts: tuple[Host, ...]
    fallthrough: Fallthrough | None = None
    """What a sidecar does with an unknown Host: its `allow_any` or `block_all`. Gateways: None, 404."""


class TcpRule(Model):
    """One filter chain of a TCP or TLS listener. No destinations: refused (reset)."""

    destinations: tuple[Destination, ...] = ()
    match: L4MatchAttributes | None = None
    sni_hosts: tuple[str, ...] = ()
    """Not empty: only TLS connections that name one of these."""
    policy: TrafficPolicy | None = None
    """Effective for the first destination: idle timeout, longest connection and source hashing live on the listener."""
    source: Source | None = None
    only_mtls: bool = False
    """Only connections that offer mesh TLS; they are passed on undecrypted."""
    says_bytes: bool = False
    """It leads to ports whose protocol nobody declared: mesh TLS must tell the other side that this is not HTTP."""


class Outbound(Model):
    """One outbound listener of a sidecar: `0.0.0.0_PORT` for HTTP, `VIP_PORT` for TCP and sniffed ports."""

    bind: str
    port: int
    protocol: Protocol
    """HTTP: only `route`. TCP, HTTPS, TLS: only `tcp`. AUTO: both, told apart by the first bytes."""
    route: str | None = None
    """Name of the RouteTable."""
    tcp: tuple[TcpRule, ...] = ()
    more_binds: tuple[str, ...] = ()
    """The service's address of the other IP family."""


class Resolution(StrEnum):
    """How a cluster finds its endpoints."""

    EDS = "EDS"
    ORIGINAL_DST = "ORIGINAL_DST"
    """Headless services and LoadBalancer PASSTHROUGH."""
    STRICT_DNS = "STRICT_DNS"
    LOGICAL_DNS = "LOGICAL_DNS"


class Originated(Model):
    """Credentials that TLS towards a destination is begun with."""

    certificate: str = ""
    """Name of a credential; empty: none is shown."""
    roots: str = ""
    """Name of the credential that the server is checked against; empty: it is not."""
    refused: bool = False
    """A credential is missing or broken, or may not be used: nothing is sent."""


class Subset(Model):
    """One outbound cluster: a port of a host, whole or one subset of it, with the DestinationRule policy in force."""

    cluster: str
    host: str
    port: int
    protocol: Protocol
    resolution: Resolution = Resolution.EDS
    subset: str = ""
    policy: TrafficPolicy | None = None
    """Effective: subset over top level per block, port-level entry instead of those blocks. Its `port_level_settings`
    is spent and must be ignored."""
    source: Source | None = None
    """The DestinationRule."""
    service: str = ""
    namespace: str = ""
    address: str = ""
    """For STRICT_DNS and LOGICAL_DNS: the name to resolve."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels that an endpoint's Pod must carry, sorted: those of the DestinationRule's subset."""
    mtls: bool = False
    """Nothing forbids mesh TLS to those endpoints that take it (auto mTLS); `policy.tls` beats it. Without endpoints
    that we tell (ORIGINAL_DST): all of them take it."""
    accounts: tuple[str, ...] = ()
    """Service accounts of the Pods behind the host, sorted: whom the certificates must name."""
    only_mtls: bool = False
    """Only endpoints that take mesh TLS; what is sent there is encrypted already."""
    originated: Originated | None = None
    """What `policy.tls.credentialName` comes to."""


class Inbound(Model):
    """One port that a workload serves through its sidecar."""

    port: int
    """The container's port (targetPort)."""
    service_port: int
    protocol: Protocol
    host: str
    """FQDN of the Service (the oldest one, if several meet here)."""
    policy: TrafficPolicy | None = None
    """The DestinationRule's connectionPool also sizes the server's own pool (9.7)."""
    tls: TlsMode = TlsMode.PERMISSIVE

    @property
    def cluster(self) -> str:
        return f"inbound|{self.port}||"


class Credential(Model):
    """A Secret's certificate, or the authorities that clients are checked against: all PEM."""

    name: str
    """`kubernetes://SECRET`, and `kubernetes://SECRET-cacert` for authorities."""
    certificate: str = ""
    key: str = ""
    roots: str = ""
    crl: str = ""


class TlsServer(Model):
    """What a gateway decrypts for one Gateway server: connections that name one of its hosts."""

    hosts: tuple[str, ...]
    """Empty: any, and those that name none."""
    settings: ServerTLSSettings
    certificates: tuple[str, ...] = ()
    """Names of credentials; empty: the settings name files, or the Pod's own certificate serves (ISTIO_MUTUAL)."""
    roots: str = ""
    """Name of the credential that clients are checked against."""
    refused: bool = False
    """A credential is missing or broken: no handshake succeeds."""
    route: str | None = None
    """HTTPS: RouteTable `https.PORT.PORTNAME.GATEWAY.NAMESPACE`."""
    tcp: tuple[TcpRule, ...] = ()


class Server(Model):
    """One listener of a gateway: all Gateway servers that meet on a port and are served by one protocol."""

    bind: str
    port: int
    """Where the gateway Pod listens (targetPort of its Service, for example 8080)."""
    protocol: Protocol
    route: str | None = None
    """HTTP: RouteTable `http.PORT`."""
    tcp: tuple[TcpRule, ...] = ()
    tls: tuple[TlsServer, ...] = ()
    sources: tuple[Source, ...] = ()


class Authorizer(Model):
    """An extensionProvider that CUSTOM policies ask, and how it is reached."""

    name: str
    kind: Literal["http", "grpc"]
    cluster: str
    """`outbound|PORT||HOST`"""
    host: str
    settings: Mapping[str, Any]
    """The provider's own, as the mesh's configuration has them."""


class Guards(Model):
    """What decides whether a request may enter a workload."""

    policies: tuple[AuthorizationPolicy, ...] = ()
    """All that apply, those of the root namespace first, oldest first."""
    authentications: tuple[RequestAuthentication, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()
    """Fetched JSON Web Key Sets by their URL; "" for what could not be had."""
    authorizer: Authorizer | None = None
    """Whom CUSTOM policies ask; None: they deny what they match."""
    trust_domains: tuple[str, ...] = ("cluster.local",)
    """The mesh's own, and those that mean the same."""
    problems: tuple[Problem, ...] = ()


NO_GUARDS = Guards()


class OutboundScope(Model):
    listeners: tuple[Outbound, ...]
    routes: tuple[RouteTable, ...]
    subsets: tuple[Subset, ...]
    fallthrough: Fallthrough
    mesh: MeshConfig
    credentials: tuple[Credential, ...] = ()
    problems: tuple[Problem, ...] = ()
    ipv6: bool = False
    """Its proxies have IPv6 addresses, too."""


class InboundScope(Model):
    ports: tuple[Inbound, ...]
    mesh: MeshConfig
    tls: TlsMode = TlsMode.PERMISSIVE
    """Of ports that no Service leads to."""
    other_ports: tuple[tuple[int, TlsMode], ...] = ()
    """Those of them that have a mode of their own."""
    guards: Guards = NO_GUARDS
    drained: str = ""
    """Connections that began under another mark are to end."""
    problems: tuple[Problem, ...] = ()
    ipv6: bool = False
    """Its proxies have IPv6 addresses, too."""
    foreign_certificates: bool = False
    """Callers may show certificates that istiod did not write."""


class GatewayScope(Model):
    servers: tuple[Server, ...]
    routes: tuple[RouteTable, ...]
    subsets: tuple[Subset, ...]
    mesh: MeshConfig
    credentials: tuple[Credential, ...] = ()
    guards: Guards = NO_GUARDS
    drained: str = ""
    problems: tuple[Problem, ...] = ()
    ipv6: bool = False
    """Its proxies have IPv6 addresses, too."""


class Endpoint(Model):
    """One workload behind an outbound cluster."""

    address: str
    port: int
    more: tuple[str, ...] = ()
    """Its address of the other IP family, tried when the first does not answer."""
    ready: bool = True
    weight: int = 1
    region: str = ""
    zone: str = ""
    subzone: str = ""
    tls_mode: str = ""
    """`istio` when the Pod has a sidecar that takes mesh mTLS."""
    workload: str = ""
    """`NAME;NAMESPACE;CANONICAL_NAME;CANONICAL_REVISION;CLUSTER`, Istio's endpoint metadata."""
