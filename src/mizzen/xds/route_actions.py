"""One rule of a virtual host: what matches and what then happens.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/route/v3/route_components.proto#config-route-v3-route
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import (
    ConsistentHashLB,
    HTTPBody,
    HTTPDirectResponse,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRewrite,
    HTTPRoute,
    Percent,
)
from mizzen.envoy.messages import (
    DirectResponseAction,
    Message,
    RedirectAction,
    Route,
    RouteAction,
    WeightedCluster,
    optional,
    pack,
    struct,
)
from mizzen.scope.model import Destination, Mirror, Rule, Source
from mizzen.xds.headers import authority, header_mutations
from mizzen.xds.http_filters import cors, fault
from mizzen.xds.matchers import regex_matcher, route_match
from mizzen.xds.names import config_path
from mizzen.xds.percentages import runtime_fractional_percent
from mizzen.xds.retries import retry_policy

NO_TIMEOUT: dict[str, Any] = {"timeout": timedelta(0), "max_grpc_timeout": timedelta(0)}
"""Envoy's own default is 15 s, Istio's is none: a route must say so."""
_LARGEST_TOTAL_WEIGHT = 2**32 - 1
_REDIRECT_CODES = {
    0: "MOVED_PERMANENTLY",
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def default_route(rule: Rule, mesh: MeshConfig) -> Message:
    """A service that no VirtualService names: everything goes to it."""
    (destination,) = rule.destinations
    return Route(
        name="default",
        match=route_match(None),
        route=RouteAction(
            cluster=destination.cluster,
            **NO_TIMEOUT,
            retry_policy=retry_policy(mesh.default_http_retry_policy, hashed=bool(rule.consistent_hash)),
            hash_policy=_hash_policies(rule.consistent_hash),
        ),
        decorator={"operation": f"{destination.host}:{destination.port}/*"},
        metadata=rule.source and route_metadata(rule.source),
    )


def route(rule: Rule, http: HTTPRoute, port: int, mesh: MeshConfig) -> Message:
    """`rule.http` is passed on its own because it is not None here."""
    single = rule.destinations[0].headers if len(rule.destinations) == 1 else None
    return Route(
        name=_route_name(http, rule.match),
        match=route_match(rule.match),
        **_action(rule, http, port, mesh),
        **header_mutations(http.headers, single),
        typed_per_filter_config=_typed_per_filter_config(http),
        stat_prefix=rule.match.stat_prefix if rule.match else None,
        decorator={"operation": _operation(rule, port)},
        metadata=rule.source and route_metadata(rule.source),
    )


def route_metadata(source: Source) -> dict[str, Any]:
    """Where the rule came from, for people who ask why; nothing that changes by itself."""
    at = {} if source.rule is None else {"rule": source.rule}
    return {"filter_metadata": {"istio": struct({"config": config_path(source), **at})}}


def _route_name(http: HTTPRoute, match: HTTPMatchRequest | None) -> str:
    return f"{http.name}.{match.name}" if match and match.name else http.name


def _action(rule: Rule, http: HTTPRoute, port: int, mesh: MeshConfig) -> dict[str, Message]:
    if http.redirect:
        return _redirection(http.redirect, port)
    if http.direct_response:
        return {"direct_response": direct_response_action(http.direct_response)}
    if not rule.destinations:
        return {"direct_response": DirectResponseAction(status=503)}
    return {"route": route_action(rule, http, mesh)}


def route_action(rule: Rule, http: HTTPRoute, mesh: MeshConfig) -> Message:
    hashed = len(rule.destinations) == 1 and bool(rule.consistent_hash)
    return RouteAction(
        **_cluster_specifier(rule.destinations),
        **(NO_TIMEOUT if http.timeout is None else {"timeout": http.timeout, "max_grpc_timeout": http.timeout}),
        **_rewrite(http.rewrite),
        host_rewrite_literal=_authority(rule, http),
        retry_policy=retry_policy(http.retries or mesh.default_http_retry_policy, hashed=hashed),
        hash_policy=_hash_policies(rule.consistent_hash),
        request_mirror_policies=[_request_mirror_policy(mirror) for mirror in rule.mirrors if mirror.percentage > 0],
    )


def _cluster_specifier(destinations: Sequence[Destination]) -> dict[str, Any]:
    """The weight of a single destination means nothing, even 0."""
    if len(destinations) == 1:
        return {"cluster": destinations[0].cluster}
    weights = proportional_weights(destinations)
    return {"weighted_clusters": WeightedCluster(clusters=[_cluster_weight(*share) for share in weights])}


def proportional_weights(destinations: Sequence[Destination]) -> list[tuple[Destination, int]]:
    """Without those of weight 0. Envoy's sum must fit 32 bits; larger ones are scaled down, and never to 0."""
    total = sum(destination.weight for destination in destinations)
    scale = max(1, -(-total // _LARGEST_TOTAL_WEIGHT))
    return [(each, max(1, each.weight // scale)) for each in destinations if each.weight > 0]


def _cluster_weight(destination: Destination, weight: int) -> dict[str, Any]:
    return {
        "name": destination.cluster,
        "weight": optional(weight),
        "host_rewrite_literal": authority(destination.headers),
        **header_mutations(destination.headers),
    }


def _authority(rule: Rule, http: HTTPRoute) -> str | None:
    """The rule's own word wins over its only destination's."""
    rewrite = http.rewrite.authority if http.rewrite else ""
    single = authority(rule.destinations[0].headers) if len(rule.destinations) == 1 else None
    return rewrite or authority(http.headers) or single


def _rewrite(rewrite: HTTPRewrite | None) -> dict[str, Any]:
    """With a prefix match `uri` replaces the prefix, with an exact or regex match the whole path: Envoy knows which."""
    if rewrite is None:
        return {}
    if regex := rewrite.uri_regex_rewrite:
        return {"regex_rewrite": {"pattern": regex_matcher(regex.match), "substitution": regex.rewrite}}
    return {"prefix_rewrite": rewrite.uri}


def _request_mirror_policy(mirror: Mirror) -> dict[str, Any]:
    """The copy keeps its Host: no `-shadow` is added."""
    return {
        "cluster": mirror.destination.cluster,
        "runtime_fraction": runtime_fractional_percent(Percent(value=mirror.percentage)),
        "trace_sampled": optional(False),
        "disable_shadow_host_suffix_append": True,
    }


def _hash_policies(hashes: Sequence[ConsistentHashLB]) -> list[dict[str, Any]]:
    return [policy for hash in hashes if (policy := _hash_policy(hash))]


def _hash_policy(hash: ConsistentHashLB) -> dict[str, Any] | None:
    if hash.http_header_name:
        return {"header": {"header_name": hash.http_header_name}}
    if cookie := hash.http_cookie:
        attributes = [{"name": each.name, "value": each.value} for each in cookie.attributes]
        return {"cookie": {"name": cookie.name, "path": cookie.path, "ttl": cookie.ttl, "attributes": attributes}}
    if hash.http_query_parameter_name:
        return {"query_parameter": {"name": hash.http_query_parameter_name}}
    return {"connection_properties": {"source_ip": True}} if hash.use_source_ip else None


def _redirection(redirect: HTTPRedirect, port: int) -> dict[str, Message]:
    """A code that Envoy cannot redirect with is answered as it is, without a Location."""
    if code := _REDIRECT_CODES.get(redirect.redirect_code):
        return {"redirect": redirect_action(redirect, code, port)}
    return {"direct_response": DirectResponseAction(status=redirect.redirect_code)}


def redirect_action(redirect: HTTPRedirect, code: str, port: int) -> Message:
    return RedirectAction(
        host_redirect=redirect.authority,
        path_redirect=None if redirect.prefix_rewrite else redirect.uri or None,
        prefix_rewrite=redirect.prefix_rewrite or None,
        scheme_redirect=redirect.scheme or None,
        port_redirect=_port_redirect(redirect, port),
        response_code=code,
    )


def _port_redirect(redirect: HTTPRedirect, port: int) -> int | None:
    """None where the scheme implies it. The port a request came in on is this table's."""
    wanted = port if redirect.derive_port == "FROM_REQUEST_PORT" else redirect.port
    return None if wanted == {"https": 443}.get(redirect.scheme, 80) else wanted


def direct_response_action(response: HTTPDirectResponse) -> Message:
    return DirectResponseAction(status=response.status, body=response.body and _data_source(response.body))


def _data_source(body: HTTPBody) -> dict[str, Any]:
    return {"inline_string": body.string} if body.bytes is None else {"inline_bytes": b64decode(body.bytes)}


def _typed_per_filter_config(http: HTTPRoute) -> dict[str, Message]:
    return {
        **({fault.NAME: pack(fault.http_fault(http.fault))} if http.fault else {}),
        **({cors.NAME: pack(cors.cors_policy(http.cors_policy))} if http.cors_policy else {}),
    }


def _operation(rule: Rule, port: int) -> str:
    """The name of the span: the only destination and the path's pattern, or the VirtualService and the pattern."""
    uri = rule.match.uri if rule.match else None
    path = (uri and (uri.exact or uri.regex)) or f"{(uri and uri.prefix) or '/'}*"
    if len(rule.destinations) == 1:
        return f"{rule.destinations[0].host}:{rule.destinations[0].port}{path}"
    return f"{rule.source.name if rule.source else ''}:{port}{path}"
