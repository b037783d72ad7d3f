"""Which HTTP a cluster speaks, and how long its connections live.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/upstreams/http/v3/http_protocol_options.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from mizzen.api.networking import ConnectionPoolSettings, Http2KeepAlive, HTTPSettings, TCPSettings
from mizzen.envoy.messages import HttpProtocolOptions, Message, optional, pack
from mizzen.scope.model import Protocol

KEY = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def http_protocol_options(
    protocol: Protocol,
    pool: ConnectionPoolSettings | None,
    *,
    upgrade: bool | None,
    sniffing: bool,
    error_codes: Sequence[int] = (),
    upstream: Mapping[str, bool] = {},
) -> dict[str, Message]:
    """`upgrade`: whether the mesh wants HTTP/2 where HTTP is spoken; None: nobody may ask for it (inbound).
    `sniffing`: an undeclared port is called as the caller called. `upstream`: which names TLS asks for.
    """
    http = (pool and pool.http) or HTTPSettings()
    common = _common_http_protocol_options(pool)
    version = _version(protocol, http, upgrade, sniffing)
    if not (common or version or error_codes or upstream):
        return {}
    options = HttpProtocolOptions(
        common_http_protocol_options=common,
        **(version or {"explicit_http_config": {"http_protocol_options": {}}}),
        upstream_http_protocol_options=upstream or None,
        outlier_detection={"error_matcher": _any_status(error_codes)} if error_codes else None,
    )
    return {KEY: pack(options)}


def follows_downstream(idle_timeout: timedelta) -> dict[str, Message]:
    """HTTP/1 for who speaks HTTP/1, HTTP/2 for who speaks HTTP/2."""
    common = {"idle_timeout": idle_timeout}
    return {KEY: pack(HttpProtocolOptions(common_http_protocol_options=common, **_DOWNSTREAM))}


_DOWNSTREAM: dict[str, Any] = {
    "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}
}


def _version(protocol: Protocol, http: HTTPSettings, upgrade: bool | None, sniffing: bool) -> dict[str, Any]:
    """Empty: HTTP/1.1, Envoy's default."""
    if http.use_client_protocol:
        return _DOWNSTREAM
    if protocol.is_http2 or upgraded(protocol, http, upgrade):
        return {"explicit_http_config": {"http2_protocol_options": _http2_protocol_options(http)}}
    return _DOWNSTREAM if sniffing and protocol is Protocol.AUTO else {}


def upgraded(protocol: Protocol, http: HTTPSettings, mesh_wants: bool | None) -> bool:
    """Whether a port that says HTTP/1.1 is called with HTTP/2 all the same."""
    if mesh_wants is None:
        return False
    if http.h2_upgrade_policy in ("UPGRADE", "DO_NOT_UPGRADE"):
        return http.h2_upgrade_policy == "UPGRADE"
    return mesh_wants and protocol.is_http


def _http2_protocol_options(http: HTTPSettings) -> dict[str, Any]:
    return {
        "max_concurrent_streams": optional(http.max_concurrent_streams or None),
        "connection_keepalive": http.http2_keep_alive and _keepalive_settings(http.http2_keep_alive),
    }


def _keepalive_settings(keepalive: Http2KeepAlive) -> dict[str, Any]:
    return {"interval": keepalive.interval, "timeout": keepalive.timeout}


def _common_http_protocol_options(pool: ConnectionPoolSettings | None) -> dict[str, Any] | None:
    http = (pool and pool.http) or HTTPSettings()
    tcp = (pool and pool.tcp) or TCPSettings()
    options = {
        "idle_timeout": http.idle_timeout if http.idle_timeout is not None else tcp.idle_timeout,
        "max_requests_per_connection": optional(http.max_requests_per_connection or None),
        "max_connection_duration": tcp.max_connection_duration,
    }
    return options if any(value is not None for value in options.values()) else None


def _any_status(codes: Sequence[int]) -> dict[str, Any]:
    rules = [_status(code) for code in codes]
    return rules[0] if len(rules) == 1 else {"or_match": {"rules": rules}}


def _status(code: int) -> dict[str, Any]:
    header = {"name": ":status", "string_match": {"exact": str(code)}}
    return {"http_response_headers_match": {"headers": [header]}}
