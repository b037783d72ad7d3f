"""Verdicts, their paths and their cures."""

from __future__ import annotations

from typing import Any

import pytest

from mizzen.api.base import Problem
from mizzen.api.documents import load
from mizzen.api.validate import NOT_HONOURED, UNKNOWN_FIELD, legality, validate
from worlds import cases

BUILT = ("Gateway", "VirtualService", "DestinationRule")
SECURITY = ("AuthorizationPolicy", "RequestAuthentication")


def document(kind: str, spec: str, version: str = "networking.istio.io/v1", **meta: Any) -> dict[str, Any]:
    (found,) = load(f"spec: {spec}")
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "ns", **meta}, **found.value}


def errors(problems: tuple[Problem, ...]) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in problems if problem.level == "error"]


@pytest.mark.parametrize("case", cases("validation"))
def test_verdicts_as_in_istio(case: dict[str, Any]) -> None:
    if case["kind"] not in (*BUILT, *SECURITY):
        pytest.skip("a kind that is refused as a whole")
    found = legality(case["manifest"])
    assert (not errors(found)) == case["expect"]["valid"], errors(found)
    if not errors(found):
        assert bool(found) == case["expect"]["warning"], [problem.message for problem in found]


@pytest.mark.parametrize("case", cases("crd-rules"))
def test_schema_verdicts_as_in_istio(case: dict[str, Any]) -> None:
    if case["manifest"]["kind"] not in (*BUILT, *SECURITY):
        pytest.skip("a kind that is refused as a whole")
    assert (not errors(legality(case["manifest"]))) == (case["expect"] == "accept")


VALID = {
    "VirtualService": "{hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}",
    "DestinationRule": "{host: reviews}",
    "Gateway": "{servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}",
}


@pytest.mark.parametrize("kind", BUILT)
@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_every_version_is_accepted(kind: str, version: str) -> None:
    assert validate(document(kind, VALID[kind], f"networking.istio.io/{version}")) == ()


def http(rule: str) -> dict[str, Any]:
    return document("VirtualService", f"{{hosts: [a.com], http: [{rule}]}}")


ROUTE = "route: [{destination: {host: a}}]"


@pytest.mark.parametrize(
    ("rule", "path", "says"),
    [
        (f"{{retires: {{attempts: 3}}, {ROUTE}}}", "spec.http[0].retires", "did you mean `retries`?"),
        (f"{{timeout: 10, {ROUTE}}}", "spec.http[0].timeout", "for example 10s"),
        (f"{{timeout: 0s, {ROUTE}}}", "spec.http[0].timeout", "at least 1ms"),
        (f"{{timeout: 1500us, {ROUTE}}}", "spec.http[0].timeout", "millisecond"),
        ("{}", "spec.http[0]", "route, redirect or directResponse is required"),
        (f"{{redirect: {{uri: /b}}, {ROUTE}}}", "spec.http[0].route", "redirect"),
        (f"{{directResponse: {{status: 99}}, {ROUTE}}}", "spec.http[0].directResponse.status", "99"),
        ("{redirect: {}}", "spec.http[0].redirect", "must change something"),
        ("{redirect: {uri: /b, redirectCode: 404}}", "spec.http[0].redirect.redirectCode", "404"),
        ("{redirect: {port: 80, derivePort: FROM_REQUEST_PORT}}", "spec.http[0].redirect", "only one of"),
        (f"{{retries: {{attempts: 0, perTryTimeout: 2s}}, {ROUTE}}}", "spec.http[0].retries", "turns retries off"),
        (
            f"{{retries: {{attempts: 1, retryOn: '5xx, reset'}}, {ROUTE}}}",
            "spec.http[0].retries.retryOn",
            "without spaces",
        ),
        (f"{{match: [{{uri: {{regex: '('}}}}], {ROUTE}}}", "spec.http[0].match[0].uri.regex", "RE2"),
        (f"{{match: [{{uri: {{regex: 'a(?=b)'}}}}], {ROUTE}}}", "spec.http[0].match[0].uri.regex", "lookaround"),
        (f"{{match: [{{uri: {{exact: a, prefix: b}}}}], {ROUTE}}}", "spec.http[0].match[0].uri", "only one of"),
        (
            f"{{match: [{{headers: {{'a b': {{}}}}}}], {ROUTE}}}",
            'spec.http[0].match[0].headers["a b"]',
            "not a header name",
        ),
        (f"{{match: [{{method: {{prefix: ''}}}}], {ROUTE}}}", "spec.http[0].match[0].method.prefix", "empty prefix"),
        (f"{{match: [{{port: 70000}}], {ROUTE}}}", "spec.http[0].match[0].port", "1..65535"),
        (
            f"{{headers: {{response: {{set: {{host: a}}}}}}, {ROUTE}}}",
            "spec.http[0].headers.response.set.host",
            "only requests",
        ),
        (f"{{headers: {{request: {{add: {{a: 'x%y'}}}}}}, {ROUTE}}}", "spec.http[0].headers.request.add.a", "%%"),
        (f"{{rewrite: {{}}, {ROUTE}}}", "spec.http[0].rewrite", "must change something"),
        (f"{{mirror: {{host: '*'}}, {ROUTE}}}", "spec.http[0].mirror.host", "not a destination"),
        (f"{{fault: {{}}, {ROUTE}}}", "spec.http[0].fault", "abort, delay or both"),
        (
            f"{{fault: {{abort: {{grpcStatus: unavailable}}}}, {ROUTE}}}",
            "spec.http[0].fault.abort.grpcStatus",
            "NOT_FOUND",
        ),
        (
            "{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]}",
            "spec.http[0].route",
            "total destination weight = 0",
        ),
        ("{route: [{destination: {host: a}, weight: -1}]}", "spec.http[0].route[0].weight", "below 0"),
        ("{route: [{destination: {host: a, subset: A_1}}]}", "spec.http[0].route[0].destination.subset", "DNS label"),
    ],
)
def test_http_rules_that_cannot_be(rule: str, path: str, says: str) -> None:
    found = errors(validate(http(rule)))
    assert any(where == path and says in message for where, message in found), found


@pytest.mark.parametrize(
    ("kind", "spec", "path", "says"),
    [
        ("VirtualService", "{hosts: [a.com]}", "spec", "http, tls or tcp"),
        ("VirtualService", "{hosts: ['a_b'], http: [{redirect: {uri: /}}]}", "spec.hosts[0]", "DNS label"),
        ("VirtualService", "{hosts: ['*.com', a.com], http: [{redirect: {uri: /}}]}", "spec.hosts[1]", "overlap"),
        ("VirtualService", "{gateways: [g], http: [{redirect: {uri: /}}]}", "spec.gateways", "delegate"),
        (
            "VirtualService",
            "{hosts: [a], exportTo: ['*', b], http: [{redirect: {uri: /}}]}",
            "spec.exportTo",
            "everyone",
        ),
        ("VirtualService", "{hosts: [a], exportTo: [., ns], http: [{redirect: {uri: /}}]}", "spec.exportTo[1]", "same"),
        ("VirtualService", "{hosts: [a], tcp: [{}]}", "spec.tcp[0].route", "needs a route"),
        (
            "VirtualService",
            "{hosts: [a.com], tls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: a}}]}]}",
            "spec.tls[0].match[0].sniHosts[0]",
            "none of the hosts",
        ),
        ("DestinationRule", "{}", "spec", "host"),
        ("DestinationRule", "{host: a, trafficPolicy: {}}", "spec.trafficPolicy", "at least one setting"),
        ("DestinationRule", "{host: a, subsets: [{name: v1}, {name: v1}]}", "spec.subsets[1].name", "duplicate"),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {loadBalancer: {simple: FASTEST}}}",
            "spec.trafficPolicy.loadBalancer.simple",
            "FASTEST",
        ),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 150}}}",
            "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
            "0 to 100",
        ),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}}",
            "spec.trafficPolicy.connectionPool.tcp.maxConnections",
            "below 0",
        ),
        (
            "DestinationRule",
            "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 10}}}}}",
            "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
            "prime",
        ),
        (
            "DestinationRule",
            "{host: a, workloadSelector: {matchLabels: {a: b}}, exportTo: ['*']}",
            "spec.exportTo",
            "own",
        ),
        (
            "Gateway",
            "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [b]}]}",
            "spec.servers[0].hosts[0]",
            "short",
        ),
        (
            "Gateway",
            "{servers: [{port: {number: 80, name: a, protocol: SPDY}, hosts: ['*']}]}",
            "spec.servers[0].port.protocol",
            "SPDY",
        ),
        (
            "Gateway",
            "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*']}]}",
            "spec.servers[0].tls",
            "TLS",
        ),
        (
            "Gateway",
            "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE}}]}",
            "spec.servers[0].tls",
            "credentialName",
        ),
    ],
)
def test_objects_that_cannot_be(kind: str, spec: str, path: str, says: str) -> None:
    found = errors(validate(document(kind, spec)))
    assert any(where == path and says in message for where, message in found), found


@pytest.mark.parametrize(
    "regex",
    [r"(?i)v\d+", r"^/[[:alpha:]]+\z", r"\Qa.b\E", r"\p{Greek}+", "(?P<n>a)", "a{1,1000}", "[a&&b]", r"(?s:.)*?"],
)
def test_regular_expressions_of_re2(regex: str) -> None:
    found = document("VirtualService", "{hosts: [a.com], http: [{redirect: {uri: /}}]}")
    found["spec"]["http"][0]["match"] = [{"uri": {"regex": regex}}]
    assert validate(found) == ()


@pytest.mark.parametrize("regex", ["a*+", "(a)\\1", "a{1001}", "[z-a]", "(?<=a)b", "a" * 1025])
def test_regular_expressions_that_re2_refuses(regex: str) -> None:
    found = document("VirtualService", "{hosts: [a.com], http: [{redirect: {uri: /}}]}")
    found["spec"]["http"][0]["match"] = [{"uri": {"regex": regex.replace("\\\\", "\\")}}]
    assert errors(validate(found))


def test_unreachable_rules_are_warned_of() -> None:
    rules = f"{{{ROUTE}}}, {{match: [{{uri: {{exact: /a}}}}], {ROUTE}}}"
    found = validate(document("VirtualService", f"{{hosts: [a.com], http: [{rules}]}}"))
    assert [(problem.code, problem.level, problem.path) for problem in found] == [
        ("IST0130", "warning", "spec.http[1]")
    ]


@pytest.mark.parametrize("kind", SECURITY)
def test_targets_other_than_gateways_are_refused_with_the_reason(kind: str) -> None:
    assert validate(document(kind, "{}", "security.istio.io/v1")) == ()
    target = "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}]}"
    assert validate(document(kind, target, "security.istio.io/v1")) == ()
    (found,) = validate(document(kind, "{targetRef: {kind: Service, name: a}}", "security.istio.io/v1"))
    assert (found.code, found.path) == (NOT_HONOURED, "spec.targetRef.kind") and "waypoint" in found.message


@pytest.mark.parametrize(
    "spec, path",
    [
        ("{mtls: {mode: STRICKT}}", "spec.mtls.mode"),
        ("{portLevelMtls: {'80': {mode: STRICT}}}", "spec.portLevelMtls"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {'0': {mode: STRICT}}}", "spec.portLevelMtls"),
        ("{selector: {matchLabels: {a: '*'}}}", "spec.selector.matchLabels.a"),
        ("{mtls: {mode: STRICT}}", ""),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {'80': {mode: DISABLE}}}", ""),
    ],
)
def test_peer_authentications(spec: str, path: str) -> None:
    found = errors(validate(document("PeerAuthentication", spec, "security.istio.io/v1")))
    assert [where for where, _ in found if where.startswith(path)] if path else found == []


def test_what_has_no_effect_is_refused_or_told_with_its_path() -> None:
    policy = "{host: a, subsets: [{name: v1, trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}}}}]}"
    (found,) = validate(document("DestinationRule", policy))
    assert (found.code, found.level) == (NOT_HONOURED, "error")
    assert found.path == "spec.subsets[0].trafficPolicy.loadBalancer.localityLbSetting"
    assert legality(document("DestinationRule", policy)) == ()


def test_tls_of_callers() -> None:
    assert validate(document("DestinationRule", "{host: a, trafficPolicy: {tls: {mode: DISABLE}}}")) == ()
    assert validate(document("DestinationRule", "{host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}")) == ()


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        ("mode: SIMPLE, credentialName: configmap://a/roots", ""),
        ("mode: SIMPLE, credentialName: configmap://roots", "configmap://NAMESPACE/NAME"),
        ("mode: SIMPLE, credentialName: configmap://a/b/c", "configmap://NAMESPACE/NAME"),
        ("mode: MUTUAL, credentialName: configmap://a/roots", "authorities alone"),
    ],
)
def test_authorities_in_config_maps(tls: str, says: str) -> None:
    found = errors(validate(document("DestinationRule", f"{{host: a, trafficPolicy: {{tls: {{{tls}}}}}}}")))
    assert [path for path, _ in found] == (["spec.trafficPolicy.tls.credentialName"] if says else [])
    assert all(says in message for _, message in found)


def test_https_servers_are_accepted() -> None:
    server = "{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}"
    assert validate(document("Gateway", f"{{servers: [{server}]}}")) == ()
    server = "{port: {number: 443, name: a, protocol: TLS}, hosts: ['*'], tls: {mode: AUTO_PASSTHROUGH}}"
    assert validate(document("Gateway", f"{{servers: [{server}]}}")) == ()


def test_metadata() -> None:
    assert errors(validate(document("Gateway", VALID["Gateway"], name="a.b")))[0][0] == "metadata.name"
    marked = document("DestinationRule", VALID["DestinationRule"], annotations={"istio.io/dry-run": "true"})
    assert errors(validate(marked))[0][0] == 'metadata.annotations["istio.io/dry-run"]'


def test_unknown_kinds_and_fields() -> None:
    assert errors(validate(document("Gatway", "{}")))[0][1] == "there is no kind Gatway in networking.istio.io/v1"
    assert validate(document("Service", "{}", "v1")) == ()
    found = validate({**document("DestinationRule", VALID["DestinationRule"]), "specs": 1})
    assert [(problem.code, problem.path) for problem in found] == [(UNKNOWN_FIELD, "specs")]
