"""Where does a call land, or why is it refused? Placed on the configuration that Envoy is told, without an Envoy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from mizzen.envoy.messages import DownstreamTlsContext, Listener, RouteConfiguration, unpack
from mizzen.envoy.resources import LISTENER, ROUTES, Resources
from mizzen.explain.envoy_matching import (
    Connection,
    Request,
    filter_chains,
    inspects,
    route,
    virtual_host,
    weighted_clusters,
)

NO_LISTENER = "no listener matched"
NO_FILTER_CHAIN = "no filter chains matched"
SEVERAL_FILTER_CHAINS = "multiple filter chains matched"
NO_VIRTUAL_HOST = "no virtual host matched"
NO_ROUTE = "no route matched"
TLS_REDIRECT = "tls required, sending 301"
PROTOCOL_ERROR = "protocol error"
INVALID_TLS = "invalid TLS"
INVALID_MTLS = "invalid mTLS"

Tls: TypeAlias = Literal["plaintext", "tls", "mtls"]

_TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
_HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
_HTTP_MANAGER = "envoy.filters.network.http_connection_manager"
_SNIFFED = {"http": "http/1.1", "http2": "h2c"}
_OFFERED = {
    "tls": {"http": "http/1.1", "http2": "h2"},
    "mtls": {"http": "istio-http/1.1", "http2": "istio-h2", "tcp": "istio"},
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call, as it arrives at a proxy."""

    port: int
    address: str = "1.1.1.1"
    protocol: Literal["http", "http2", "tcp"] = "http"
    tls: Tls = "plaintext"
    host: str = ""
    """The Host header."""
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    sni: str = ""
    """Empty: `host`, when TLS is spoken."""
    alpn: str = ""
    """Empty: what a client of that protocol offers."""
    inbound: bool = False
    """Captured on its way to the workload (15006), not from it."""


@dataclass(frozen=True, slots=True)
class Landing:
    """How far a call came. `error` is empty when it reached a cluster or an answer that Envoy gives by itself."""

    error: str = ""
    listener: str = ""
    filter_chain: str = ""
    route_table: str = ""
    virtual_host: str = ""
    route: str = ""
    clusters: tuple[tuple[str, int], ...] = ()
    """Where it goes, with weights; one of them unless the traffic is split."""
    status: int = 0
    """The answer of a direct response or redirect; 0: there is none."""

    @property
    def cluster(self) -> str:
        """The only cluster, or empty."""
        return self.clusters[0][0] if len(self.clusters) == 1 else ""


def place(call: Call, told: Resources) -> Landing:
    """`told`: everything that one proxy holds."""
    listener = _listener(call, [Listener.FromString(each.body) for each in told.get(LISTENER, {}).values()])
    if listener is None:
        return Landing(error=NO_LISTENER)
    landing = Landing(listener=listener.name)
    chains = filter_chains(listener.filter_chains, _connection(call, listener))
    if len(chains) > 1:
        return replace(landing, error=SEVERAL_FILTER_CHAINS)
    if not chains and not listener.HasField("default_filter_chain"):
        return replace(landing, error=NO_FILTER_CHAIN)
    chain = chains[0] if chains else listener.default_filter_chain
    return _into(chain, call, told, replace(landing, filter_chain=chain.name))


def _listener(call: Call, listeners: list[Any]) -> Any | None:
    """By original destination, then by port on any address, then whatever takes the rest."""
    if call.inbound:
        return next((each for each in listeners if each.name == "virtualInbound"), None)
    by_address = {
        (one.socket_address.address, one.socket_address.port_value): each
        for each in listeners
        for one in (each.address, *(more.address for more in each.additional_addresses))
    }
    wanted = ((call.address, call.port), ("::" if ":" in call.address else "0.0.0.0", call.port))
    found = next((by_address[each] for each in wanted if each in by_address), None)
    return found or next((each for each in listeners if each.name == "virtualOutbound"), None)


def _connection(call: Call, listener: Any) -> Connection:
    """What the listener's inspectors find out; without them a connection is just bytes."""
    sees_tls = inspects(listener, _TLS_INSPECTOR, call.port) and call.tls != "plaintext"
    sniffs = inspects(listener, _HTTP_INSPECTOR, call.port) and call.tls == "plaintext"
    offered = call.alpn or _OFFERED.get(call.tls, {}).get(call.protocol, "")
    return Connection(
        address=call.address,
        port=call.port,
        server_name=(call.sni or call.host) if sees_tls else "",
        transport_protocol="tls" if sees_tls else "raw_buffer",
        application_protocol=offered if sees_tls else _SNIFFED.get(call.protocol, "") if sniffs else "",
    )


def _into(chain: Any, call: Call, told: Resources, landing: Landing) -> Landing:
    if error := _tls_error(chain, call):
        return replace(landing, error=error)
    last = chain.filters[-1]
    config = unpack(last.typed_config)
    if last.name != _HTTP_MANAGER:
        return replace(landing, clusters=tuple(weighted_clusters(config)))
    encrypted = call.tls != "plaintext" and not chain.HasField("transport_socket")
    if encrypted or call.protocol == "tcp":
        return replace(landing, error=PROTOCOL_ERROR)
    if config.HasField("rds"):
        landing = replace(landing, route_table=config.rds.route_config_name)
        known = told.get(ROUTES, {}).get(landing.route_table)
        return _through(RouteConfiguration.FromString(known.body if known else b""), call, landing)
    return _through(config.route_config, call, landing)


def _tls_error(chain: Any, call: Call) -> str:
    if not chain.HasField("transport_socket"):
        return ""
    if call.tls == "plaintext":
        return INVALID_TLS
    context = DownstreamTlsContext.FromString(chain.transport_socket.typed_config.value)
    return INVALID_MTLS if context.require_client_certificate.value != (call.tls == "mtls") else ""


def _through(table: Any, call: Call, landing: Landing) -> Landing:
    host = virtual_host(table, call.host)
    if host is None:
        return replace(landing, error=NO_VIRTUAL_HOST)
    landing = replace(landing, virtual_host=host.name)
    if host.require_tls and call.tls == "plaintext":
        return replace(landing, error=TLS_REDIRECT)
    found = route(host, _request(call))
    return _to(found, replace(landing, route=found.name)) if found else replace(landing, error=NO_ROUTE)


def _request(call: Call) -> Request:
    scheme = "http" if call.tls == "plaintext" else "https"
    pseudo = {":authority": call.host, ":method": call.method, ":scheme": scheme, ":path": call.path}
    return Request(call.host, call.path, {**{name.lower(): value for name, value in call.headers.items()}, **pseudo})


_REDIRECTS = (301, 302, 303, 307, 308)


def _to(found: Any, landing: Landing) -> Landing:
    match found.WhichOneof("action"):
        case "redirect":
            return replace(landing, status=_REDIRECTS[found.redirect.response_code])
        case "direct_response":
            return replace(landing, status=found.direct_response.status)
        case _:
            return replace(landing, clusters=tuple(weighted_clusters(found.route)))
