"""https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/grpc_stats_filter"""

from __future__ import annotations

from mizzen.envoy.messages import GrpcStats, HttpFilter, Message, optional, typed

NAME = "envoy.filters.http.grpc_stats"


def http_filter() -> Message:
    return HttpFilter(**typed(NAME, GrpcStats(emit_filter_state=True, stats_for_all_methods=optional(False))))
