"""Asking an authorizer of the user's own about what CUSTOM policies match.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/filters/http/ext_authz/v3/ext_authz.proto
https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-ExtensionProvider
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from mizzen.api.base import Duration
from mizzen.envoy.messages import HttpExtAuthz, Message, NetworkExtAuthz
from mizzen.scope.model import Authorizer
from mizzen.xds.rbac import string_matcher

SHADOW_PREFIX = "istio_ext_authz_"
POLICY_PREFIX = "istio-ext-authz-"
_LONGEST = timedelta(seconds=600)


def matched(filter: str) -> dict[str, Any]:
    """That a CUSTOM policy matched: the RBAC filter before this one left the policy's name."""
    return {
        "filter": filter,
        "path": [{"key": f"{SHADOW_PREFIX}shadow_effective_policy_id"}],
        "value": {"string_match": {"prefix": POLICY_PREFIX}},
    }


def http_ext_authz(authorizer: Authorizer) -> Message:
    given = authorizer.settings
    reach = (
        {"grpc_service": _grpc_service(authorizer)}
        if authorizer.kind == "grpc"
        else {
            "http_service": _http_service(authorizer),
            "allowed_headers": _patterns(given.get("includeRequestHeadersInCheck", ())),
        }
    )
    return HttpExtAuthz(
        **reach,
        transport_api_version="V3",
        failure_mode_allow=bool(given.get("failOpen")),
        clear_route_cache=bool(given.get("clearRouteCache")),
        status_on_error={"code": int(given.get("statusOnError") or 403)},
        with_request_body=_body(given.get("includeRequestBodyInCheck")),
        filter_enabled_metadata=matched("envoy.filters.http.rbac"),
    )


def network_ext_authz(authorizer: Authorizer) -> Message | None:
    """None for an authorizer that speaks HTTP: it cannot be asked about a connection."""
    if authorizer.kind != "grpc":
        return None
    return NetworkExtAuthz(
        stat_prefix="tcp.",
        grpc_service=_grpc_service(authorizer),
        transport_api_version="V3",
        failure_mode_allow=bool(authorizer.settings.get("failOpen")),
        filter_enabled_metadata=matched("envoy.filters.network.rbac"),
    )


def _timeout(authorizer: Authorizer) -> timedelta:
    text = authorizer.settings.get("timeout")
    return Duration.parse(text) if text else _LONGEST


def _grpc_service(authorizer: Authorizer) -> dict[str, Any]:
    port = authorizer.cluster.split("|")[1]
    return {
        "envoy_grpc": {"cluster_name": authorizer.cluster, "authority": f"{authorizer.host}:{port}"},
        "timeout": _timeout(authorizer),
    }


def _http_service(authorizer: Authorizer) -> dict[str, Any]:
    given = authorizer.settings
    return {
        "server_uri": {
            "uri": f"http://{authorizer.host}",
            "cluster": authorizer.cluster,
            "timeout": _timeout(authorizer),
        },
        "path_prefix": given.get("pathPrefix", ""),
        "authorization_request": {"headers_to_add": _values(given.get("includeAdditionalHeadersInCheck") or {})},
        "authorization_response": {
            "allowed_upstream_headers": _patterns(given.get("headersToUpstreamOnAllow", ())),
            "allowed_client_headers": _patterns(given.get("headersToDownstreamOnDeny", ())),
            "allowed_client_headers_on_success": _patterns(given.get("headersToDownstreamOnAllow", ())),
        },
    }


def _values(headers: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": name, "value": value} for name, value in sorted(headers.items())]


def _patterns(names: Iterable[str]) -> dict[str, Any] | None:
    found = [{**string_matcher(name), "ignore_case": name != "*"} for name in names]
    return {"patterns": found} if found else None


def _body(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if not given:
        return None
    return {
        "max_request_bytes": int(given.get("maxRequestBytes", 0)),
        "allow_partial_message": bool(given.get("allowPartialMessage")),
        "pack_as_bytes": bool(given.get("packAsBytes")),
    }
