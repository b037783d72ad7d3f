"""One rule of `spec.http` of a VirtualService."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from mizzen.api.legality.destinations import destination, total_weight
from mizzen.api.legality.faults import fault_injection
from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.legality.gateway_names import gateway_names
from mizzen.api.legality.names import (
    changed_header_problem,
    header_value_problem,
    is_authority,
    is_label,
    labels,
    matched_header_problem,
    port,
    regex_problem,
)
from mizzen.api.networking import (
    CorsPolicy,
    HeaderOperations,
    Headers,
    HTTPDirectResponse,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    Percent,
    StringMatch,
)
from mizzen.api.paths import join

RETRY_CONDITIONS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
CORS_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})
_STATUS_CODES = frozenset(str(status.value) for status in HTTPStatus)
_LARGE_BODY, _LARGEST_BODY = 100 * 1024, 1024 * 1024


def http_route(path: str, rule: HTTPRoute, is_delegate: bool) -> Findings:
    yield from _one_action(path, rule, is_delegate)
    for index, match in enumerate(rule.match):
        yield from _match(f"{path}.match[{index}]", match)
    yield from _headers(f"{path}.headers", rule.headers)
    yield from _cors(f"{path}.corsPolicy", rule.cors_policy)
    yield from fault_injection(f"{path}.fault", rule.fault)
    yield from _mirrors(path, rule)
    yield from _redirect(f"{path}.redirect", rule.redirect, rule.match)
    yield from _direct_response(f"{path}.directResponse", rule.direct_response)
    yield from retries(f"{path}.retries", rule.retries)
    yield from _rewrite(f"{path}.rewrite", rule.rewrite)
    yield from _authority_once(path, rule)
    for index, route in enumerate(rule.route):
        yield from destination(f"{path}.route[{index}].destination", route.destination)
        yield from _headers(f"{path}.route[{index}].headers", route.headers)
    yield from total_weight(f"{path}.route", [route.weight for route in rule.route])


def _one_action(path: str, rule: HTTPRoute, is_delegate: bool) -> Findings:
    """route, redirect, directResponse and delegate exclude each other."""
    if rule.delegate is not None and is_delegate:
        yield Finding(f"{path}.delegate", "a delegate cannot delegate further")
    elif rule.delegate is not None:
        for name, given in (("redirect", rule.redirect), ("route", rule.route)):
            if given:
                yield Finding(f"{path}.{name}", f"a rule that delegates cannot have a {name} of its own")
        return
    if rule.redirect is not None:
        yield from _excluded(path, "redirect", rule, rule.direct_response is not None)
    elif rule.direct_response is not None:
        yield from _excluded(path, "directResponse", rule, False)
    elif not rule.route:
        yield Finding(path, "HTTP route, redirect or directResponse is required: say where the requests shall go")
    if rule.mirror is not None and rule.mirrors:
        yield Finding(f"{path}.mirrors", "write either mirror or mirrors, not both")


def _excluded(path: str, action: str, rule: HTTPRoute, direct_response: bool) -> Findings:
    others = {
        "route": bool(rule.route),
        "fault": rule.fault is not None,
        "rewrite": rule.rewrite is not None,
        "directResponse": direct_response,
    }
    for name, given in others.items():
        if given:
            yield Finding(f"{path}.{name}", f"a rule with {action} cannot have {name} as well: it sends nothing on")


def _match(path: str, match: HTTPMatchRequest) -> Findings:
    for name, wanted in match.headers.items():
        yield from _matched_header(f"{path}.headers", name, wanted)
    for name, wanted in match.without_headers.items():
        presence = wanted.regex == "*"
        yield from _matched_header(f"{path}.withoutHeaders", name, StringMatch() if presence else wanted)
    if match.uri is not None and match.uri.prefix != "":
        yield from string_match(f"{path}.uri", match.uri)
    for name, one in (("scheme", match.scheme), ("method", match.method), ("authority", match.authority)):
        if one is not None:
            yield from string_match(f"{path}.{name}", one)
    for name, one in match.query_params.items():
        yield from string_match(join(f"{path}.queryParams", name), one)
    yield from _static_conditions(path, match)


def _static_conditions(path: str, match: HTTPMatchRequest) -> Findings:
    if match.port:
        yield from port(f"{path}.port", match.port)
    yield from labels(f"{path}.sourceLabels", match.source_labels)
    yield from gateway_names(f"{path}.gateways", match.gateways)
    if match.source_namespace and not is_label(match.source_namespace):
        yield Finding(f"{path}.sourceNamespace", f"{match.source_namespace!r} is not a namespace")


def _matched_header(path: str, name: str, wanted: StringMatch) -> Findings:
    if problem := matched_header_problem(name):
        yield Finding(join(path, name), problem)
    yield from string_match(join(path, name), wanted)


def string_match(path: str, wanted: StringMatch) -> Findings:
    if wanted.prefix == "":
        yield Finding(f"{path}.prefix", "an empty prefix matches everything; leave the condition out, or write {}")
    if wanted.regex is not None and (problem := regex_problem(wanted.regex)):
        yield Finding(f"{path}.regex", problem)


def _headers(path: str, headers: Headers | None) -> Findings:
    if headers is not None and headers.request is not None:
        yield from _operations(f"{path}.request", headers.request, may_set_authority=True)
    if headers is not None and headers.response is not None:
        yield from _operations(f"{path}.response", headers.response, may_set_authority=False)


def _operations(path: str, operations: HeaderOperations, may_set_authority: bool) -> Findings:
    for kind, values in (("add", operations.add), ("set", operations.set)):
        for name, value in values.items():
            for problem in (changed_header_problem(name, may_set_authority), header_value_problem(value)):
                if problem:
                    yield Finding(join(f"{path}.{kind}", name), problem)
    for index, name in enumerate(operations.remove):
        if problem := changed_header_problem(name, may_set_authority=False):
            yield Finding(f"{path}.remove[{index}]", problem)


def _cors(path: str, policy: CorsPolicy | None) -> Findings:
    if policy is None:
        return
    for index, origin in enumerate(policy.allow_origins):
        if not (origin.exact or origin.prefix or origin.regex):
            yield Finding(
                f"{path}.allowOrigins[{index}]", "an origin must say exact, prefix or regex, and not be empty"
            )
        elif origin.regex is not None:
            yield from string_match(f"{path}.allowOrigins[{index}]", origin)
    for index, method in enumerate(policy.allow_methods):
        if method not in CORS_METHODS:
            yield Finding(f"{path}.allowMethods[{index}]", f"{method!r} is not an HTTP method")
    for kind, names in (("allowHeaders", policy.allow_headers), ("exposeHeaders", policy.expose_headers)):
        for index, name in enumerate(names):
            if problem := matched_header_problem(name) or ("not a header name" if name[0] in ":@" else ""):
                yield Finding(f"{path}.{kind}[{index}]", problem)
    if policy.max_age is not None and policy.max_age.microseconds:
        yield Finding(f"{path}.maxAge", "maxAge counts whole seconds")


def _mirrors(path: str, rule: HTTPRoute) -> Findings:
    if rule.mirror_percent is not None or rule.mirror_percent_legacy is not None:
        yield warning(f"{path}.mirrorPercent", "mirrorPercent is the old form; write mirrorPercentage: {value: …}")
        if max(rule.mirror_percent or 0, rule.mirror_percent_legacy or 0) > 100:
            yield Finding(f"{path}.mirrorPercent", "a share cannot be above 100 percent")
    yield from _share(f"{path}.mirrorPercentage", rule.mirror_percentage)
    if rule.mirror is not None:
        yield from destination(f"{path}.mirror", rule.mirror)
    for index, mirror in enumerate(rule.mirrors):
        yield from destination(f"{path}.mirrors[{index}].destination", mirror.destination)
        yield from _share(f"{path}.mirrors[{index}].percentage", mirror.percentage)


def _share(path: str, percentage: Percent | None) -> Findings:
    if percentage is not None and not 0 <= percentage.value <= 100:
        yield Finding(f"{path}.value", f"{percentage.value} is not a percentage from 0 to 100")


def _redirect(path: str, redirect: HTTPRedirect | None, matches: tuple[HTTPMatchRequest, ...]) -> Findings:
    if redirect is None:
        return
    if redirect.uri and redirect.prefix_rewrite:
        yield Finding(path, "write either uri or prefixRewrite")
    if redirect.prefix_rewrite and any(match.uri is not None and match.uri.prefix is None for match in matches):
        yield Finding(f"{path}.prefixRewrite", "prefixRewrite needs every uri match of the rule to be a prefix")
    ported = redirect.port is not None or redirect.derive_port is not None
    if not (redirect.uri or redirect.prefix_rewrite or redirect.authority or redirect.scheme or ported):
        yield Finding(path, "a redirect must change something: uri, prefixRewrite, authority, scheme or port")
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        yield Finding(
            f"{path}.redirectCode", f"{redirect.redirect_code} is not a redirect; write 301, 302, 303, 307 or 308"
        )
    if redirect.scheme not in ("", "http", "https"):
        yield Finding(f"{path}.scheme", f"{redirect.scheme!r} is not a scheme to redirect to; write http or https")
    if redirect.port:
        yield from port(f"{path}.port", redirect.port)


def _direct_response(path: str, response: HTTPDirectResponse | None) -> Findings:
    if response is None:
        return
    if not 200 <= response.status <= 600:
        yield Finding(f"{path}.status", f"{response.status} is not an HTTP status from 200 to 599")
    size = len((response.body.string or response.body.bytes or "").encode()) if response.body else 0
    if size > _LARGEST_BODY:
        yield Finding(f"{path}.body", "a body above 1 MB cannot be part of the configuration")
    elif size > _LARGE_BODY:
        yield warning(f"{path}.body", "a body above 100 kB slows the control plane down; serve it from an app")


def retries(path: str, retry: HTTPRetry | None) -> Findings:
    if retry is None:
        return
    if retry.attempts < 0:
        yield Finding(f"{path}.attempts", "attempts cannot be below 0")
    if not retry.attempts and (retry.per_try_timeout or retry.retry_on or retry.retry_remote_localities is not None):
        yield Finding(path, "attempts is 0, which turns retries off; set attempts, or remove the other settings")
    for condition in retry.retry_on.split(",") if retry.retry_on else ():
        if condition not in RETRY_CONDITIONS and condition not in _STATUS_CODES:
            hint = "; write the list without spaces" if condition != condition.strip() else ""
            yield Finding(f"{path}.retryOn", f"{condition!r} is not a valid retryOn policy{hint}")


def _rewrite(path: str, rewrite: HTTPRewrite | None) -> Findings:
    if rewrite is None:
        return
    regex = rewrite.uri_regex_rewrite
    if rewrite.uri and regex is not None:
        yield Finding(path, "write either uri or uriRegexRewrite")
    if not (rewrite.uri or rewrite.authority or regex):
        yield Finding(path, "a rewrite must change something: uri, uriRegexRewrite or authority")
    if regex is not None and not (regex.match and regex.rewrite):
        yield Finding(f"{path}.uriRegexRewrite", "uriRegexRewrite needs both match and rewrite")
    elif regex is not None and (problem := regex_problem(regex.match)):
        yield Finding(f"{path}.uriRegexRewrite.match", problem)


def _authority_once(path: str, rule: HTTPRoute) -> Findings:
    request = rule.headers.request if rule.headers else None
    operations: list[Mapping[str, str]] = [request.set, request.add] if request else []
    places = [name for values in operations for name, value in values.items() if is_authority(name) and value]
    if rule.rewrite is not None and rule.rewrite.authority:
        places.insert(0, "rewrite.authority")
    if len(places) > 1:
        yield Finding(path, f"the authority is set more than once, by {' and '.join(places)}; keep one of them")
