"""Which request goes to which cluster.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/route/v3/route.proto
"""

from __future__ import annotations

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import Message, Route, RouteConfiguration, VirtualHost, optional, serialized
from mizzen.envoy.resources import Resource
from mizzen.envoy.wire import nested, repeated
from mizzen.scope.model import Fallthrough, Host, Inbound, Protocol, RouteTable, Rule
from mizzen.xds.kept import kept
from mizzen.xds.names import ALLOW_ANY, BLOCK_ALL, INBOUND_PASSTHROUGH, PASSTHROUGH, port_of
from mizzen.xds.retries import inbound_retry_policy
from mizzen.xds.route_actions import NO_TIMEOUT, default_route, route

MAX_DIRECT_RESPONSE_BODY = 1024 * 1024
_VIRTUAL_HOSTS = RouteConfiguration.DESCRIPTOR.fields_by_name["virtual_hosts"].number


_FEW_HOSTS = 8


def route_configuration(table: RouteTable, mesh: MeshConfig) -> Resource:
    """Composed of virtual hosts that are serialised already: one that changes does not cost the others.

    Only small tables are remembered as a whole: large ones change with every edit, and memory of what they were would
    cost more than composing them again.
    """
    return _small_table(table, mesh) if len(table.hosts) <= _FEW_HOSTS else _table(table, mesh)


@kept
def _small_table(table: RouteTable, mesh: MeshConfig) -> Resource:
    return _table(table, mesh)


def _table(table: RouteTable, mesh: MeshConfig) -> Resource:
    head = RouteConfiguration(
        name=table.name,
        validate_clusters=optional(False),
        max_direct_response_body_size_bytes=optional(MAX_DIRECT_RESPONSE_BODY),
        ignore_port_in_host_matching=True,
    )
    port = port_of(table.name)
    hosts = [_virtual_host_field(host, port, mesh) for host in table.hosts]
    last = repeated(_VIRTUAL_HOSTS, _catch_all(table.fallthrough, port, bool(hosts)))
    return Resource.of(table.name, b"".join((serialized(head), *hosts, last)))


@kept
def _virtual_host_field(host: Host, port: int, mesh: MeshConfig) -> bytes:
    return nested(_VIRTUAL_HOSTS, serialized(virtual_host(host, port, mesh)))


def virtual_host(host: Host, port: int, mesh: MeshConfig) -> Message:
    """`port` is where the table listens; redirects and span names speak of it."""
    return VirtualHost(
        name=host.name,
        domains=host.domains,
        routes=[_route(rule, port, mesh) for rule in host.rules],
        require_tls="ALL" if host.require_tls else None,
        include_request_attempt_count=True,
    )


def _route(rule: Rule, port: int, mesh: MeshConfig) -> Message:
    return default_route(rule, mesh) if rule.http is None else route(rule, rule.http, port, mesh)


def _catch_all(fallthrough: Fallthrough | None, port: int, any_host: bool) -> list[bytes]:
    """Any other Host. A gateway with hosts answers 404 by itself; one without needs a virtual host to exist at all."""
    match fallthrough:
        case Fallthrough.ALLOW_ANY:
            return [serialized(_any_host(ALLOW_ANY, route={"cluster": PASSTHROUGH, **NO_TIMEOUT}))]
        case Fallthrough.REGISTRY_ONLY:
            return [serialized(_any_host(BLOCK_ALL, direct_response={"status": 502}))]
        case None:
            return [] if any_host else [serialized(VirtualHost(name=f"blackhole:{port}", domains=["*"]))]


def _any_host(name: str, **action: object) -> Message:
    return VirtualHost(
        name=name,
        domains=["*"],
        routes=[Route(name=name, match={"prefix": "/"}, **action)],
        include_request_attempt_count=True,
    )


def inbound_route_configuration(inbound: Inbound, mesh: MeshConfig) -> Message:
    """Inline in the listener: what a workload serves depends on nothing else."""
    return _to_application(
        inbound.cluster,
        f"inbound|http|{inbound.service_port}",
        operation=f"{inbound.host}:{inbound.service_port}/*",
        retry_policy=None
        if inbound.protocol in (Protocol.GRPC, Protocol.GRPC_WEB)
        else inbound_retry_policy(mesh.default_inbound_http_retry_policy),
    )


def inbound_passthrough_route_configuration(mesh: MeshConfig) -> Message:
    """A port that no Service names."""
    return _to_application(
        INBOUND_PASSTHROUGH,
        "inbound|http|0",
        operation=":0/*",
        retry_policy=inbound_retry_policy(mesh.default_inbound_http_retry_policy),
    )


def _to_application(cluster: str, host: str, operation: str, retry_policy: Message | None) -> Message:
    action = {
        "cluster": cluster,
        "timeout": NO_TIMEOUT["timeout"],
        "max_stream_duration": {
            "max_stream_duration": NO_TIMEOUT["timeout"],
            "grpc_timeout_header_max": NO_TIMEOUT["timeout"],
        },
        "retry_policy": retry_policy,
    }
    default = Route(name="default", match={"prefix": "/"}, route=action, decorator={"operation": operation})
    return RouteConfiguration(
        name=cluster,
        validate_clusters=optional(False),
        virtual_hosts=[VirtualHost(name=host, domains=["*"], routes=[default])],
    )
