"""What an Envoy runs with, as rows: clusters, listeners, routes, endpoints, read from its admin interface.

Columns and their contents are those of `istioctl proxy-config`. Every function takes the parsed answer of
`/config_dump` (endpoints: of `/clusters?format=json`), so that a saved file serves as well as a running proxy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from mizzen.api.base import Model
from mizzen.explain.reach import ENVOY_ADMIN_PORT, http_get
from mizzen.kube.http import HttpApi

JSON: TypeAlias = dict[str, Any]

_APPLICATION_PROTOCOLS = {
    ("http/1.1", "h2c"): "App: HTTP",
    ("http/1.0", "http/1.1", "h2c"): "App: HTTP",
    ("istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: HTTP TLS",
    ("istio-peer-exchange", "istio"): "App: TCP TLS",
    ("istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"): "App: Istio HTTP Plain",
}
_HTTP_MANAGER = "http_connection_manager.v3.HttpConnectionManager"
_TCP_PROXY = "tcp_proxy.v3.TcpProxy"
_SHOWN_DOMAINS = 2


class ClusterRow(Model):
    fqdn: str
    port: int | None = None
    subset: str = ""
    direction: str = ""
    type: str = ""
    destination_rule: str = ""
    """`NAME.NAMESPACE`"""


class ListenerRow(Model):
    addresses: str
    port: int
    match: str
    destination: str
    type: str
    """HTTP, TCP, HTTP+TCP or UNKNOWN: of the listener as a whole."""


class RouteRow(Model):
    name: str
    virtual_host: str
    domains: str
    match: str
    virtual_service: str = ""
    """`NAME.NAMESPACE`"""


class EndpointRow(Model):
    endpoint: str
    status: str
    outlier_check: str
    cluster: str


async def config_dump(api: HttpApi, namespace: str, pod: str) -> JSON:
    """Of a running proxy. Raises ApiError."""
    return dict(json.loads(await http_get(api, namespace, pod, ENVOY_ADMIN_PORT, "/config_dump")))


async def cluster_statuses(api: HttpApi, namespace: str, pod: str) -> JSON:
    """`/clusters?format=json` of a running proxy. Raises ApiError."""
    return dict(json.loads(await http_get(api, namespace, pod, ENVOY_ADMIN_PORT, "/clusters?format=json")))


def section(dump: JSON, name: str) -> JSON:
    """One part of a config dump: `Bootstrap`, `Clusters`, `Listeners`, `Routes`, `Secrets`, `Ecds`. {} when absent."""
    wanted = f".{name}ConfigDump"
    return next((one for one in dump.get("configs", ()) if one.get("@type", "").endswith(wanted)), {})


def bootstrap(dump: JSON) -> JSON:
    return dict(section(dump, "Bootstrap").get("bootstrap", {}))


def clusters(dump: JSON) -> list[ClusterRow]:
    """Services first by name, subset, port and direction."""
    rows = [cluster_row(cluster) for cluster in cluster_messages(dump)]
    return sorted(rows, key=lambda row: (row.fqdn, row.subset, row.port or 0, row.direction))


def cluster_messages(dump: JSON) -> list[JSON]:
    """Envoy's own words, for `-o json`."""
    found = section(dump, "Clusters")
    entries = [*found.get("static_clusters", ()), *found.get("dynamic_active_clusters", ())]
    return [entry["cluster"] for entry in entries]


def cluster_row(cluster: JSON) -> ClusterRow:
    kind = cluster.get("type") or cluster.get("cluster_type", {}).get("name", "STATIC")
    match cluster["name"].split("|"):
        case [direction, port, subset, fqdn]:
            return ClusterRow(
                fqdn=fqdn,
                port=int(port),
                subset=subset,
                direction=direction,
                type=kind,
                destination_rule=_source(cluster.get("metadata", {})),
            )
    return ClusterRow(fqdn=cluster["name"], type=kind)


def _source(metadata: JSON) -> str:
    """`reviews.default` of `/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews`."""
    config = metadata.get("filter_metadata", {}).get("istio", {}).get("config", "")
    parts = config.split("/")
    return f"{parts[-1]}.{parts[-3]}" if len(parts) > 3 else ""


def listeners(dump: JSON) -> list[ListenerRow]:
    """One row per filter chain, sorted by port, address and type."""
    rows = [row for listener in listener_messages(dump) for row in listener_rows(listener)]
    return sorted(rows, key=lambda row: (row.port, row.addresses, row.type))


def listener_messages(dump: JSON) -> list[JSON]:
    """Envoy's own words: those it has taken up."""
    found = section(dump, "Listeners")
    active = [
        entry["active_state"]["listener"] for entry in found.get("dynamic_listeners", ()) if "active_state" in entry
    ]
    return [*(entry["listener"] for entry in found.get("static_listeners", ())), *active]


def listener_rows(listener: JSON) -> Iterator[ListenerRow]:
    places = [listener.get("address", {}), *(one["address"] for one in listener.get("additional_addresses", ()))]
    sockets = [place.get("socket_address", {}) for place in places]
    chains = [*listener.get("filter_chains", ())]
    if "default_filter_chain" in listener:
        chains.append(listener["default_filter_chain"])
    kind = _listener_type(chains)
    for chain in chains:
        yield ListenerRow(
            addresses=",".join(socket.get("address", "") for socket in sockets),
            port=sockets[0].get("port_value", 0),
            match=_chain_match(chain.get("filter_chain_match", {})),
            destination=_destination(chain.get("filters", ())),
            type=kind,
        )


def _listener_type(chains: Iterable[JSON]) -> str:
    types = [_type(one) for chain in chains for one in chain.get("filters", ())]
    words = [
        word for word, end in (("HTTP", _HTTP_MANAGER), ("TCP", _TCP_PROXY)) if any(t.endswith(end) for t in types)
    ]
    return "+".join(words) or "UNKNOWN"


def _type(one: JSON) -> str:
    return str(one.get("typed_config", {}).get("@type", ""))


def _chain_match(match: JSON) -> str:
    parts = []
    if names := match.get("server_names"):
        parts.append(f"SNI: {','.join(names)}")
    if transport := match.get("transport_protocol"):
        parts.append(f"Trans: {transport}")
    if protocols := match.get("application_protocols"):
        parts.append(_APPLICATION_PROTOCOLS.get(tuple(protocols), f"App: {','.join(protocols)}"))
    port = f":{match['destination_port']}" if match.get("destination_port") else ""
    ranges = [f"{one['address_prefix']}/{one.get('prefix_len', 0)}" for one in match.get("prefix_ranges", ())]
    if ranges or port:
        parts.append(f"Addr: {','.join(ranges) or '*'}{port}")
    return "; ".join(parts) or "ALL"


def _destination(filters: Iterable[JSON]) -> str:
    for one in filters:
        config = one.get("typed_config", {})
        if _type(one).endswith(_HTTP_MANAGER):
            if "rds" in config:
                return f"Route: {config['rds'].get('route_config_name', '')}"
            return f"Inline Route: {_inline_matches(config.get('route_config', {}))}"
        if _type(one).endswith(_TCP_PROXY):
            return _tcp_destination(config)
    return "Non-HTTP/Non-TCP"


def _inline_matches(table: JSON) -> str:
    routes = [route for host in table.get("virtual_hosts", ()) for route in host.get("routes", ())]
    return ", ".join(_route_match(route.get("match", {})) for route in routes)


def _tcp_destination(config: JSON) -> str:
    weighted = config.get("weighted_clusters", {}).get("clusters", ())
    name = config.get("cluster", "") or ", ".join(f"{one['name']} ({one['weight']})" for one in weighted)
    return name if "Cluster" in name else f"Cluster: {name}"


def routes(dump: JSON) -> list[RouteRow]:
    """One row per route, in the order in which Envoy tries them."""
    return [row for table in route_messages(dump) for row in route_rows(table)]


def route_messages(dump: JSON) -> list[JSON]:
    """Envoy's own words: route tables, sorted by name."""
    found = section(dump, "Routes")
    entries = [*found.get("dynamic_route_configs", ()), *found.get("static_route_configs", ())]
    return sorted((entry["route_config"] for entry in entries), key=lambda table: _natural(table.get("name", "")))


def _natural(name: str) -> tuple[bool, int, str]:
    return (not name.isdigit(), int(name) if name.isdigit() else 0, name)


def route_rows(table: JSON) -> Iterator[RouteRow]:
    for host in table.get("virtual_hosts", ()):
        name, domains = table.get("name", ""), _domains(host.get("domains", ()))
        for route in host.get("routes", ()):
            yield RouteRow(
                name=name,
                virtual_host=host.get("name", ""),
                domains=domains,
                match=_route_match(route.get("match", {})),
                virtual_service=_decided_by(route),
            )
        if not host.get("routes"):
            yield RouteRow(
                name=name, virtual_host=host.get("name", ""), domains=domains, match="/*", virtual_service="404"
            )


def _decided_by(route: JSON) -> str:
    if route.get("direct_response", {}).get("status") == 404 or route.get("name") == "blackhole":
        return "404"
    return _source(route.get("metadata", {}))


def _domains(domains: Iterable[str]) -> str:
    """The first two without a port, and how many more there are."""
    every = list(domains)
    plain = [one for one in every if ":" not in one] or every
    more = f" + {len(plain) - _SHOWN_DOMAINS} more..." if len(plain) > _SHOWN_DOMAINS else ""
    return ", ".join(plain[:_SHOWN_DOMAINS]) + more


def _route_match(match: JSON) -> str:
    if "path" in match:
        path = match["path"]
    elif "safe_regex" in match:
        path = f"regex {match['safe_regex'].get('regex', '')}"
    else:
        path = f"{match.get('path_separated_prefix') or match.get('prefix', '')}*"
    conditions = [_header_match(one) for one in match.get("headers", ())]
    return " ".join((str(path), *conditions))


def _header_match(header: JSON) -> str:
    """`end-user=jason`, `x-a~v.*`, `!x-b`, `x-c` for presence."""
    given = header.get("string_match", {})
    sign, value = next(
        ((sign, given[key]) for key, sign in (("exact", "="), ("prefix", "^"), ("suffix", "$")) if key in given),
        ("~", given.get("safe_regex", {}).get("regex", "")) if "safe_regex" in given else ("", ""),
    )
    return f"{'!' if header.get('invert_match') else ''}{header.get('name', '')}{sign}{value}"


def endpoints(statuses: JSON) -> list[EndpointRow]:
    """From `/clusters?format=json`, sorted by cluster and address."""
    rows = [row for cluster in statuses.get("cluster_statuses", ()) for row in endpoint_rows(cluster)]
    return sorted(rows, key=lambda row: (row.endpoint, row.cluster))


def endpoint_rows(cluster: JSON) -> Iterator[EndpointRow]:
    for host in cluster.get("host_statuses", ()):
        health = host.get("health_status", {})
        yield EndpointRow(
            endpoint=_address(host.get("address", {})),
            status=health.get("eds_health_status", "HEALTHY"),
            outlier_check="FAILED" if health.get("failed_outlier_check") else "OK",
            cluster=cluster["name"],
        )


def _address(address: JSON) -> str:
    if "pipe" in address:
        return f"unix://{address['pipe'].get('path', '')}"
    socket = address.get("socket_address", {})
    return f"{socket.get('address', '')}:{socket.get('port_value', 0)}"
