"""The HTTP filter chain, one file per filter.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/http_filters
"""

from __future__ import annotations

from mizzen.envoy.messages import Message
from mizzen.xds.http_filters import cors, fault, grpc_stats, router

# As a request meets them. What decides whether a request may enter at all (tokens, authorization, rate limits) will sit
# above these, in slots whose contents travel by ECDS, so that an edit never touches a listener.
ORDER: tuple[Message, ...] = (
    grpc_stats.http_filter(),  # sees every request, refused or not, and tells the access log about gRPC
    fault.http_filter(),  # before routing: a delay is not cut by the route's timeout, an abort is not retried
    cors.http_filter(),  # answers preflights itself, so that they need no destination
    router.http_filter(),  # ends the chain
)
