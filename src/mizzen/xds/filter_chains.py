"""Which filters take a connection.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from types import MappingProxyType
from typing import Any

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import (
    FilterChain,
    HttpInspector,
    ListenerFilter,
    Message,
    OriginalDst,
    ProxyProtocol,
    TlsInspector,
    optional,
    struct,
    typed,
)
from mizzen.scope.model import Fallthrough, TcpRule
from mizzen.xds.addresses import cidr_range
from mizzen.xds.names import fallthrough_cluster
from mizzen.xds.tcp_proxy import bytes_in_mesh_tls, to_cluster, to_destinations
from mizzen.xds.transport_sockets import MESH_HTTP, MESH_TCP

SNIFFED_HTTP = ("http/1.1", "h2c")
"""What the HTTP inspector calls plain HTTP/1.1 and HTTP/2. Istio refuses HTTP/1.0, so it goes the way of bytes."""


def proxy_protocol() -> Message:
    """Connections begin with a header that says whose they are; those without one are closed."""
    return ListenerFilter(**typed("envoy.filters.listener.proxy_protocol", ProxyProtocol()))


def tls_inspector(filter_disabled: dict[str, Any] | None = None) -> Message:
    """The first bytes that it reads hold most ClientHellos; it reads on when they do not."""
    inspector = TlsInspector(initial_read_buffer_size=optional(512))
    return ListenerFilter(**typed("envoy.filters.listener.tls_inspector", inspector), filter_disabled=filter_disabled)


def http_inspector(filter_disabled: dict[str, Any] | None = None) -> Message:
    """Waits for the first bytes of a request, so it must not see connections on which the server speaks first."""
    return ListenerFilter(
        **typed("envoy.filters.listener.http_inspector", HttpInspector()), filter_disabled=filter_disabled
    )


def original_dst() -> Message:
    return ListenerFilter(**typed("envoy.filters.listener.original_dst", OriginalDst()))


def drain_marked(mark: str) -> dict[str, Any]:
    """A chain with another mark is another chain: Envoy ends what runs on the old one within its drain time."""
    return {"metadata": {"filter_metadata": {"mizzen": struct({"drained": mark})}}} if mark else {}


def fallthrough_chain(fallthrough: Fallthrough, mesh: MeshConfig, name: str) -> Message:
    """What is not known here goes where it was going, or nowhere."""
    return FilterChain(name=name, filters=[to_cluster(fallthrough_cluster(fallthrough), mesh)])


def tcp_chains(
    rules: Iterable[TcpRule],
    mesh: MeshConfig,
    guards: tuple[Message, ...] = (),
    fields: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[list[Message], Message | None]:
    """The chains with a condition, and the one without. The first rule wins where two ask for the same connections.

    `guards` are filters in front, `fields` what every chain has besides.
    """
    chains: list[Message] = []
    rest: Message | None = None
    for rule, names in _distinct(rules):
        said = [bytes_in_mesh_tls()] if rule.says_bytes else []
        match = _filter_chain_match(rule, names)
        filters = [*guards, *said, to_destinations(rule, mesh)]
        chain = FilterChain(filters=filters, filter_chain_match=match, **fields)
        if match is not None:
            chains.append(chain)
        else:
            rest = rest or chain
    return chains, rest


def _filter_chain_match(rule: TcpRule, names: tuple[str, ...]) -> dict[str, Any] | None:
    """None when it would ask for nothing."""
    subnets = rule.match.destination_subnets if rule.match else ()
    sources = (rule.match.source_subnet,) if rule.match and rule.match.source_subnet else ()
    if not (names or subnets or sources):
        return None
    return {
        **({"transport_protocol": "tls", "application_protocols": (*MESH_HTTP, *MESH_TCP)} if rule.only_mtls else {}),
        "server_names": names,
        "prefix_ranges": [cidr_range(subnet) for subnet in subnets],
        "source_prefix_ranges": [cidr_range(subnet) for subnet in sources],
    }


def _distinct(rules: Iterable[TcpRule]) -> Iterator[tuple[TcpRule, tuple[str, ...]]]:
    """Each rule with the SNI names that no earlier one took: Envoy refuses a listener with two equal conditions."""
    taken: set[tuple[str, str, str]] = set()
    for rule in rules:
        names = () if "*" in rule.sni_hosts else rule.sni_hosts
        subnets = (rule.match.destination_subnets if rule.match else ()) or ("",)
        source = rule.match.source_subnet if rule.match else ""
        free = [name for name in (names or ("",)) if not any((name, subnet, source) in taken for subnet in subnets)]
        taken.update((name, subnet, source) for name, subnet in product(free, subnets))
        if free:
            yield rule, tuple(name for name in dict.fromkeys(free) if name)
