"""Which filter chain, virtual host and route Envoy chooses, worked out from its configuration.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch
https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/route/v3/route_components.proto
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias
from urllib.parse import parse_qsl


@dataclass(frozen=True, slots=True)
class Connection:
    """What Envoy knows about a connection when it chooses a filter chain."""

    address: str
    port: int
    server_name: str
    transport_protocol: str
    application_protocol: str


Asked: TypeAlias = Callable[[Any], bool]
Rank: TypeAlias = Callable[[Any, Connection], int]
"""0: does not fit."""


@dataclass(frozen=True, slots=True)
class Request:
    """What Envoy knows about a request when it chooses a route. Pseudo-headers are among the headers."""

    host: str
    path: str
    headers: Mapping[str, str]


def filter_chains(chains: Iterable[Any], connection: Connection) -> list[Any]:
    """What remains after the sieve, criterion by criterion: who asks and fits best, else who does not ask."""
    rest = list(chains)
    for asked, rank in _CRITERIA:
        rest = _best(rest, asked, rank, connection)
    return rest


def _best(chains: list[Any], asked: Asked, rank: Rank, connection: Connection) -> list[Any]:
    asking = [(rank(each.filter_chain_match, connection), each) for each in chains if asked(each.filter_chain_match)]
    highest = max((found for found, _ in asking), default=0)
    if highest > 0:
        return [chain for found, chain in asking if found == highest]
    return [chain for chain in chains if not asked(chain.filter_chain_match)]


def _port_rank(match: Any, connection: Connection) -> int:
    return int(match.destination_port.value == connection.port)


def _prefix_rank(match: Any, connection: Connection) -> int:
    """Longer prefixes are better; a prefix of length 0 still fits."""
    address = ip_address(connection.address)
    ranges = [ip_network(f"{each.address_prefix}/{each.prefix_len.value}") for each in match.prefix_ranges]
    return max((each.prefixlen + 1 for each in ranges if address in each), default=0)


def _name_rank(match: Any, connection: Connection) -> int:
    return max((_server_name_rank(name, connection.server_name) for name in match.server_names), default=0)


def _server_name_rank(pattern: str, name: str) -> int:
    """The name itself, then the longest wildcard that covers it."""
    if pattern == name:
        return 1_000
    return len(pattern) if pattern.startswith("*.") and name.endswith(pattern[1:]) else 0


def _transport_rank(match: Any, connection: Connection) -> int:
    return int(match.transport_protocol == connection.transport_protocol)


def _application_rank(match: Any, connection: Connection) -> int:
    return int(connection.application_protocol in match.application_protocols)


_CRITERIA: tuple[tuple[Asked, Rank], ...] = (
    (lambda match: match.HasField("destination_port"), _port_rank),
    (lambda match: bool(match.prefix_ranges), _prefix_rank),
    (lambda match: bool(match.server_names), _name_rank),
    (lambda match: bool(match.transport_protocol), _transport_rank),
    (lambda match: bool(match.application_protocols), _application_rank),
)


def inspects(listener: Any, inspector: str, port: int) -> bool:
    """Whether a listener filter looks at connections to that port."""
    found = [each for each in listener.listener_filters if each.name == inspector]
    return bool(found) and not (found[0].HasField("filter_disabled") and _holds(found[0].filter_disabled, port))


def _holds(predicate: Any, port: int) -> bool:
    match predicate.WhichOneof("rule"):
        case "or_match":
            return any(_holds(rule, port) for rule in predicate.or_match.rules)
        case "and_match":
            return all(_holds(rule, port) for rule in predicate.and_match.rules)
        case "not_match":
            return not _holds(predicate.not_match, port)
        case "destination_port_range":
            return bool(predicate.destination_port_range.start <= port < predicate.destination_port_range.end)
        case _:
            return bool(predicate.any_match)


def virtual_host(table: Any, host: str) -> Any | None:
    """Exact names, then the longest `*suffix`, then the longest `prefix*`, then `*`."""
    wanted = _without_port(host) if table.ignore_port_in_host_matching else host.lower()
    found = [(_domain_rank(domain.lower(), wanted), each) for each in table.virtual_hosts for domain in each.domains]
    best, chosen = max(found, key=lambda one: one[0], default=((0, 0), None))
    return chosen if best > (0, 0) else None


def _without_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _domain_rank(domain: str, host: str) -> tuple[int, int]:
    if domain == host:
        return (4, 0)
    if domain == "*":
        return (1, 0)
    if domain.startswith("*") and host.endswith(domain[1:]) and len(host) >= len(domain):
        return (3, len(domain))
    if domain.endswith("*") and host.startswith(domain[:-1]) and len(host) >= len(domain):
        return (2, len(domain))
    return (0, 0)


def route(host: Any, request: Request) -> Any | None:
    """The first whose conditions all hold."""
    return next((each for each in host.routes if _route_holds(each.match, request)), None)


def _route_holds(match: Any, request: Request) -> bool:
    path, _, query = request.path.partition("?")
    parameters = dict(reversed(parse_qsl(query, keep_blank_values=True)))
    return (
        _path_holds(match, path)
        and all(_value_holds(each, request.headers.get(each.name.lower())) for each in match.headers)
        and all(_value_holds(each, parameters.get(each.name)) for each in match.query_parameters)
        and all(each.invert for each in match.dynamic_metadata)  # of claims: a request here has no token
    )


def _path_holds(match: Any, path: str) -> bool:
    fold = str.lower if match.HasField("case_sensitive") and not match.case_sensitive.value else str
    match match.WhichOneof("path_specifier"):
        case "prefix":
            return fold(path).startswith(fold(match.prefix))
        case "path":
            return fold(path) == fold(match.path)
        case "path_separated_prefix":
            prefix = fold(match.path_separated_prefix)
            return fold(path) == prefix or fold(path).startswith(f"{prefix}/")
        case "safe_regex":
            return re.fullmatch(match.safe_regex.regex, path) is not None
        case other:
            raise ValueError(f"a path matcher that is never written: {other}")


def _value_holds(matcher: Any, value: str | None) -> bool:
    """Of a header or a query parameter."""
    inverted = getattr(matcher, "invert_match", False)
    if matcher.HasField("string_match"):
        if value is None and not getattr(matcher, "treat_missing_header_as_empty", False):
            return False
        return bool(_text_holds(matcher.string_match, value or "") != inverted)
    return bool((value is not None) != inverted)


def _text_holds(matcher: Any, text: str) -> bool:
    match matcher.WhichOneof("match_pattern"):
        case "exact":
            return bool(text == matcher.exact)
        case "prefix":
            return text.startswith(matcher.prefix)
        case "safe_regex":
            return re.fullmatch(matcher.safe_regex.regex, text) is not None
        case other:
            raise ValueError(f"a text matcher that is never written: {other}")


def weighted_clusters(action: Any) -> Sequence[tuple[str, int]]:
    """Of a route action or a TCP proxy: clusters and their weights."""
    if action.WhichOneof("cluster_specifier") == "weighted_clusters":
        shares = action.weighted_clusters.clusters
        return tuple((each.name, getattr(each.weight, "value", each.weight)) for each in shares)
    return ((action.cluster, 1),)
