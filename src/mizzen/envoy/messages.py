"""Envoy's messages, as many as Mizzen writes or reads: classes made of the descriptors inside the Envoy binary.

Constructors take None (unset), `timedelta` for Duration, enum names as strings, dicts for messages, any iterable for
repeated fields, and refuse an unknown keyword with ValueError. `Foo.FromString(bytes)` parses.
https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/api
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, cast

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mizzen.envoy.descriptors import api

__all__ = ["Message", "MessageClass", "optional", "pack", "serialized", "struct", "typed", "unpack"]

V = TypeVar("V")


class MessageClass(Protocol):
    """A class of messages, as far as mypy needs to know it. What is parsed is read attribute by attribute: Any."""

    DESCRIPTOR: Any

    def __call__(self, **fields: Any) -> Message: ...

    def FromString(self, data: bytes, /) -> Any: ...


def message(name: str, file: str) -> MessageClass:
    """The class of a message by its full name. Raises KeyError when this Envoy does not have it."""
    source = api()
    source.load(file)
    return cast(MessageClass, GetMessageClass(source.pool.FindMessageTypeByName(name)))


def _of(package: str, file: str) -> Any:
    """`_of("envoy.config.cluster.v3", "cluster")("Cluster")`: files lie in folders named as their packages."""
    path = f"{package.replace('.', '/')}/{file}.proto"
    return lambda name: message(f"{package}.{name}", path)


def optional(value: V | None) -> dict[str, V] | None:
    """For fields of type UInt32Value, BoolValue …: None stays unset, any other value, 0 and False too, is sent."""
    return None if value is None else {"value": value}


def pack(content: Message) -> Message:
    """A `google.protobuf.Any`, its value serialised deterministically."""
    return Any_(type_url=f"type.googleapis.com/{content.DESCRIPTOR.full_name}", value=serialized(content))


def unpack(content: Any) -> Any:
    """The message inside a `google.protobuf.Any`. Raises KeyError for a type that this module does not name."""
    found = api().pool.FindMessageTypeByName(content.type_url.rpartition("/")[2])
    return cast(MessageClass, GetMessageClass(found)).FromString(content.value)


def typed(name: str, content: Message) -> dict[str, Any]:
    """The pair that every extension point takes: `{name, typed_config}`."""
    return {"name": name, "typed_config": pack(content)}


def struct(fields: Mapping[str, Any]) -> Message:
    """A `google.protobuf.Struct` of JSON-like values. Its map is not ordered: `serialized` makes that irrelevant."""
    found: Any = Struct()
    found.update(fields)
    return cast(Message, found)


def serialized(content: Message) -> bytes:
    """The bytes that versions are hashes of: equal messages give equal bytes, however their maps were filled."""
    return content.SerializeToString(deterministic=True)


def _google(name: str, file: str) -> MessageClass:
    return message(f"google.protobuf.{name}", f"google/protobuf/{file}.proto")


Any_ = _google("Any", "any")
Struct = _google("Struct", "struct")

_cluster = _of("envoy.config.cluster.v3", "cluster")
Cluster: MessageClass = _cluster("Cluster")

_endpoint = _of("envoy.config.endpoint.v3", "endpoint")
ClusterLoadAssignment: MessageClass = _endpoint("ClusterLoadAssignment")
_endpoint_components = _of("envoy.config.endpoint.v3", "endpoint_components")
LbEndpoint: MessageClass = _endpoint_components("LbEndpoint")
LocalityLbEndpoints: MessageClass = _endpoint_components("LocalityLbEndpoints")

_listener = _of("envoy.config.listener.v3", "listener")
Listener: MessageClass = _listener("Listener")
_listener_components = _of("envoy.config.listener.v3", "listener_components")
FilterChain: MessageClass = _listener_components("FilterChain")
FilterChainMatch: MessageClass = _listener_components("FilterChainMatch")
ListenerFilter: MessageClass = _listener_components("ListenerFilter")
NetworkFilter: MessageClass = _listener_components("Filter")

_route = _of("envoy.config.route.v3", "route")
RouteConfiguration: MessageClass = _route("RouteConfiguration")
_route_components = _of("envoy.config.route.v3", "route_components")
VirtualHost: MessageClass = _route_components("VirtualHost")
Route: MessageClass = _route_components("Route")
RouteMatch: MessageClass = _route_components("RouteMatch")
RouteAction: MessageClass = _route_components("RouteAction")
RedirectAction: MessageClass = _route_components("RedirectAction")
DirectResponseAction: MessageClass = _route_components("DirectResponseAction")
RetryPolicy: MessageClass = _route_components("RetryPolicy")
WeightedCluster: MessageClass = _route_components("WeightedCluster")
HeaderMatcher: MessageClass = _route_components("HeaderMatcher")
QueryParameterMatcher: MessageClass = _route_components("QueryParameterMatcher")

_base = _of("envoy.config.core.v3", "base")
HeaderValueOption: MessageClass = _base("HeaderValueOption")
Metadata: MessageClass = _base("Metadata")
Node: MessageClass = _base("Node")
AccessLog: MessageClass = _of("envoy.config.accesslog.v3", "accesslog")("AccessLog")
TypedExtensionConfig: MessageClass = _of("envoy.config.core.v3", "extension")("TypedExtensionConfig")
StringMatcher: MessageClass = _of("envoy.type.matcher.v3", "string")("StringMatcher")
RegexMatcher: MessageClass = _of("envoy.type.matcher.v3", "regex")("RegexMatcher")

# Network and listener filters
HttpConnectionManager: MessageClass = _of(
    "envoy.extensions.filters.network.http_connection_manager.v3", "http_connection_manager"
)("HttpConnectionManager")
EarlyHeaderMutation: MessageClass = _of(
    "envoy.extensions.http.early_header_mutation.header_mutation.v3", "header_mutation"
)("HeaderMutation")
HttpFilter: MessageClass = _of(
    "envoy.extensions.filters.network.http_connection_manager.v3", "http_connection_manager"
)("HttpFilter")
TcpProxy: MessageClass = _of("envoy.extensions.filters.network.tcp_proxy.v3", "tcp_proxy")("TcpProxy")
HttpInspector: MessageClass = _of("envoy.extensions.filters.listener.http_inspector.v3", "http_inspector")(
    "HttpInspector"
)
TlsInspector: MessageClass = _of("envoy.extensions.filters.listener.tls_inspector.v3", "tls_inspector")("TlsInspector")
ProxyProtocol: MessageClass = _of("envoy.extensions.filters.listener.proxy_protocol.v3", "proxy_protocol")(
    "ProxyProtocol"
)
OriginalDst: MessageClass = _of("envoy.extensions.filters.listener.original_dst.v3", "original_dst")("OriginalDst")

# HTTP filters and what routes say to them
Router: MessageClass = _of("envoy.extensions.filters.http.router.v3", "router")("Router")
Cors: MessageClass = _of("envoy.extensions.filters.http.cors.v3", "cors")("Cors")
CorsPolicy: MessageClass = _of("envoy.extensions.filters.http.cors.v3", "cors")("CorsPolicy")
HTTPFault: MessageClass = _of("envoy.extensions.filters.http.fault.v3", "fault")("HTTPFault")
GrpcStats: MessageClass = _of("envoy.extensions.filters.http.grpc_stats.v3", "config")("FilterConfig")

# Who may call, and whose tokens are believed
RbacPolicy: MessageClass = _of("envoy.config.rbac.v3", "rbac")("Policy")
HttpRbac: MessageClass = _of("envoy.extensions.filters.http.rbac.v3", "rbac")("RBAC")
NetworkRbac: MessageClass = _of("envoy.extensions.filters.network.rbac.v3", "rbac")("RBAC")
JwtAuthentication: MessageClass = _of("envoy.extensions.filters.http.jwt_authn.v3", "config")("JwtAuthentication")
HttpExtAuthz: MessageClass = _of("envoy.extensions.filters.http.ext_authz.v3", "ext_authz")("ExtAuthz")
NetworkExtAuthz: MessageClass = _of("envoy.extensions.filters.network.ext_authz.v3", "ext_authz")("ExtAuthz")

# Clusters' extensions
HttpProtocolOptions: MessageClass = _of("envoy.extensions.upstreams.http.v3", "http_protocol_options")(
    "HttpProtocolOptions"
)
PreviousHostsPredicate: MessageClass = _of("envoy.extensions.retry.host.previous_hosts.v3", "previous_hosts")(
    "PreviousHostsPredicate"
)
PreviousPrioritiesConfig: MessageClass = _of(
    "envoy.extensions.retry.priority.previous_priorities.v3", "previous_priorities_config"
)("PreviousPrioritiesConfig")

FileAccessLog: MessageClass = _of("envoy.extensions.access_loggers.file.v3", "file")("FileAccessLog")
StatsAccessLog: MessageClass = _of("envoy.extensions.access_loggers.stats.v3", "stats")("Config")

# TLS
DownstreamTlsContext: MessageClass = _of("envoy.extensions.transport_sockets.tls.v3", "tls")("DownstreamTlsContext")
UpstreamTlsContext: MessageClass = _of("envoy.extensions.transport_sockets.tls.v3", "tls")("UpstreamTlsContext")
Secret: MessageClass = _of("envoy.extensions.transport_sockets.tls.v3", "secret")("Secret")
RawBuffer: MessageClass = _of("envoy.extensions.transport_sockets.raw_buffer.v3", "raw_buffer")("RawBuffer")
SetConnectionState: MessageClass = _of("envoy.extensions.filters.network.set_filter_state.v3", "set_filter_state")(
    "Config"
)

# Discovery
_discovery = _of("envoy.service.discovery.v3", "discovery")
DiscoveryRequest: MessageClass = _discovery("DiscoveryRequest")
DiscoveryResponse: MessageClass = _discovery("DiscoveryResponse")
DeltaDiscoveryRequest: MessageClass = _discovery("DeltaDiscoveryRequest")
DeltaDiscoveryResponse: MessageClass = _discovery("DeltaDiscoveryResponse")
DiscoveredResource: MessageClass = _discovery("Resource")

# The bootstrap that the agent hands to Envoy
Bootstrap: MessageClass = _of("envoy.config.bootstrap.v3", "bootstrap")("Bootstrap")
