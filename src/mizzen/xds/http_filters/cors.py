"""https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/cors_filter"""

from __future__ import annotations

from mizzen.api.networking import CorsPolicy as IstioCorsPolicy
from mizzen.api.networking import Percent, StringMatch
from mizzen.envoy.messages import Cors, CorsPolicy, HttpFilter, Message, optional, typed
from mizzen.xds.matchers import string_matcher
from mizzen.xds.percentages import runtime_fractional_percent

NAME = "envoy.filters.http.cors"


def http_filter(*, disabled: bool = False) -> Message:
    """Idle until a route says something; `disabled`: not even made until then."""
    return HttpFilter(**typed(NAME, Cors()), disabled=disabled)


def cors_policy(policy: IstioCorsPolicy) -> Message:
    origins = policy.allow_origins or tuple(StringMatch(exact=origin) for origin in policy.allow_origin)
    return CorsPolicy(
        allow_origin_string_match=[string_matcher(origin) for origin in origins],
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        max_age=None if policy.max_age is None else str(int(policy.max_age.total_seconds())),
        allow_credentials=optional(policy.allow_credentials),
        filter_enabled=runtime_fractional_percent(Percent(value=100)),
        forward_not_matching_preflights=optional(policy.unmatched_preflights != "IGNORE"),
    )
