"""https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/router_filter"""

from __future__ import annotations

from mizzen.envoy.messages import HttpFilter, Message, Router, typed

NAME = "envoy.filters.http.router"


def http_filter() -> Message:
    return HttpFilter(**typed(NAME, Router()))
