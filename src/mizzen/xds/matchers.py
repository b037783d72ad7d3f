"""What a request must look like.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/route/v3/route_components.proto#config-route-v3-routematch
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mizzen.api.conditions import claim_path
from mizzen.api.networking import HTTPMatchRequest, StringMatch
from mizzen.envoy.messages import (
    HeaderMatcher,
    Message,
    QueryParameterMatcher,
    RegexMatcher,
    RouteMatch,
    StringMatcher,
    optional,
)
from mizzen.xds.names import JWT_METADATA, PAYLOAD

_ANYTHING: dict[str, Any] = {"prefix": "/"}


def route_match(match: HTTPMatchRequest | None) -> Message:
    """Port, gateways and source labels are decided already. Headers come sorted: their order means nothing."""
    if match is None:
        return RouteMatch(**_ANYTHING)
    return RouteMatch(
        **_path_specifier(match.uri),
        case_sensitive=optional(False if match.ignore_uri_case else None),
        headers=(*_headers(match.headers), *_without(match.without_headers), *_pseudo_headers(match)),
        dynamic_metadata=[*_claims(match.headers), *_claims(match.without_headers, invert=True)],
        query_parameters=[query_parameter_matcher(*entry) for entry in sorted(match.query_params.items())],
    )


def _path_specifier(uri: StringMatch | None) -> dict[str, Any]:
    match uri:
        case StringMatch(exact=str(path)):
            return {"path": path}
        case StringMatch(prefix=str(prefix)):
            return {"prefix": prefix}
        case StringMatch(regex=str(regex)):
            return {"safe_regex": regex_matcher(regex)}
        case _:
            return _ANYTHING


def _headers(headers: Mapping[str, StringMatch]) -> list[Message]:
    return [header_matcher(name, match) for name, match in sorted(headers.items()) if not claim_path(name)]


def _without(headers: Mapping[str, StringMatch]) -> list[Message]:
    """A missing header counts as an empty one, unless presence is what was asked."""
    return [
        header_matcher(name, match, invert_match=True, treat_missing_header_as_empty=not asks_presence(match))
        for name, match in sorted(headers.items())
        if not claim_path(name)
    ]


def _claims(headers: Mapping[str, StringMatch], *, invert: bool = False) -> list[dict[str, Any]]:
    """What a valid token must say: the filter that checks tokens leaves it where routes can look.

    https://istio.io/latest/docs/tasks/security/authentication/jwt-route/
    """
    asked = [(claim_path(name), match) for name, match in sorted(headers.items())]
    return [
        {
            "filter": JWT_METADATA,
            "path": [{"key": step} for step in (PAYLOAD, *path)],
            "value": _claim_value(match),
            "invert": invert,
        }
        for path, match in asked
        if path
    ]


def _claim_value(match: StringMatch) -> dict[str, Any]:
    """A text, or a list that holds it."""
    if asks_presence(match):
        return {"present_match": True}
    value = {"string_match": string_matcher(match)}
    return {"or_match": {"value_matchers": [value, {"list_match": {"one_of": value}}]}}


def _pseudo_headers(match: HTTPMatchRequest) -> list[Message]:
    asked = ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme))
    return [header_matcher(name, wanted) for name, wanted in asked if wanted is not None]


def header_matcher(name: str, match: StringMatch, **flags: bool) -> Message:
    if asks_presence(match):
        return HeaderMatcher(name=name, present_match=True, **flags)
    return HeaderMatcher(name=name, string_match=string_matcher(match), **flags)


def query_parameter_matcher(name: str, match: StringMatch) -> Message:
    if asks_presence(match):
        return QueryParameterMatcher(name=name, present_match=True)
    return QueryParameterMatcher(name=name, string_match=string_matcher(match))


def asks_presence(match: StringMatch) -> bool:
    """Nothing set, or the regex `*`, which is none but was always read so."""
    return match.regex == "*" or (match.exact is None and match.prefix is None and match.regex is None)


def string_matcher(match: StringMatch) -> Message:
    return StringMatcher(
        exact=match.exact,
        prefix=match.prefix,
        safe_regex=None if match.regex is None else regex_matcher(match.regex),
    )


def regex_matcher(regex: str) -> Message:
    return RegexMatcher(regex=regex)
