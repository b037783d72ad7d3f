"""https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/grpc_stats_filter"""

from __future__ import annotations

from mizzen.api.mesh import MeshConfig
from mizzen.envoy.messages import GrpcStats, HttpFilter, Message, optional, typed

NAME = "envoy.filters.http.grpc_stats"
_FILTER = HttpFilter(**typed(NAME, GrpcStats(emit_filter_state=True, stats_for_all_methods=optional(False))))


def http_filters(mesh: MeshConfig) -> tuple[Message, ...]:
    """None where nothing reads what it finds: it counts messages of every request, of those without gRPC, too.

    Readers are an access log whose format names the filter, and the counters of clusters, which proxies only keep
    where a `proxyStatsMatcher` asks for them.
    """
    read = NAME in mesh.access_log_format or mesh.default_config.proxy_stats_matcher is not None
    return (_FILTER,) if read else ()
