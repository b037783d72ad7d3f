"""What a sidecar may call."""

from __future__ import annotations

from typing import Any

import pytest

from mizzen.scope.model import Fallthrough, Protocol, Resolution
from mizzen.scope.resolve import outbound
from mizzen.scope.view import OutboundView, Proxy, outbound_view
from worlds import cases, clusters, host, world

BOOKINFO = """
kind: Service
metadata: {name: productpage}
spec: {clusterIP: 10.96.1.1, selector: {app: productpage}, ports: [{port: 9080, name: http}]}
---
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.1.2, selector: {app: reviews}, ports: [{port: 9080, name: http}]}
---
kind: Service
metadata: {name: elsewhere, namespace: other}
spec: {clusterIP: 10.96.1.3, ports: [{port: 9080, name: http}, {port: 9443, name: https}, {port: 53, protocol: UDP}]}
"""
ECHO = """
kind: Service
metadata: {name: echo}
spec: {clusterIP: 10.96.2.1, ports: [{port: 9000, name: tcp}, {port: 9001, name: web}]}
"""
HERE = OutboundView(namespace="default")


def virtual_service(
    spec: str, name: str = "vs", namespace: str = "default", created: str = "2026-01-01T00:00:00Z"
) -> str:
    meta = f"{{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}"
    return f"\n---\nkind: VirtualService\nmetadata: {meta}\nspec: {spec}"


def to(destination: str) -> str:
    return f"[{{route: [{{destination: {{host: {destination}}}}}]}}]"


def test_http_services_share_a_listener_and_a_table_per_port() -> None:
    scope = outbound(world(BOOKINFO), HERE)
    assert [(one.bind, one.port, one.protocol, one.route) for one in scope.listeners] == [
        ("0.0.0.0", 9080, Protocol.HTTP, "9080"),
        ("10.96.1.3", 9443, Protocol.HTTPS, None),
    ]
    assert [one.name for one in scope.routes] == ["9080"]
    assert scope.fallthrough is Fallthrough.ALLOW_ANY


def test_short_names_lead_only_to_services_of_the_own_namespace() -> None:
    scope = outbound(world(BOOKINFO), HERE)
    near, far = host(scope, "9080", "reviews"), host(scope, "9080", "elsewhere.other")
    assert near.name == "reviews.default.svc.cluster.local:9080" and "10.96.1.2" in near.domains
    assert "elsewhere" not in far.domains
    assert clusters(near.rules) == ["outbound|9080||reviews.default.svc.cluster.local"]


def test_a_port_without_protocol_gets_a_listener_and_a_table_of_its_own() -> None:
    scope = outbound(world(ECHO), HERE)
    sniffed = next(one for one in scope.listeners if one.port == 9001)
    assert (sniffed.bind, sniffed.protocol, sniffed.route) == (
        "10.96.2.1",
        Protocol.AUTO,
        "echo.default.svc.cluster.local:9001",
    )
    assert [one.cluster for one in sniffed.tcp[0].destinations] == ["outbound|9001||echo.default.svc.cluster.local"]
    assert next(one for one in scope.routes if one.name == sniffed.route).hosts[0].domains == ("*",)


def test_registry_only() -> None:
    mesh = """
---
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'}"""
    assert outbound(world(BOOKINFO + mesh), HERE).fallthrough is Fallthrough.REGISTRY_ONLY


def test_headless_tcp_is_listened_for_pod_by_pod_and_http_by_name() -> None:
    scope = outbound(
        world("""
kind: Service
metadata: {name: db}
spec: {clusterIP: None, ports: [{port: 3306}, {port: 80, name: http}]}
---
kind: EndpointSlice
metadata: {name: db-x, labels: {kubernetes.io/service-name: db}}
endpoints: [{addresses: [10.1.0.2]}, {addresses: [10.1.0.1]}]
"""),
        HERE,
    )
    assert [(one.bind, one.port) for one in scope.listeners] == [
        ("0.0.0.0", 80),
        ("10.1.0.1", 3306),
        ("10.1.0.2", 3306),
    ]
    assert "*.db.default.svc.cluster.local" in host(scope, "80", "db").domains
    assert {one.resolution for one in scope.subsets} == {Resolution.ORIGINAL_DST}


def test_an_external_name_is_another_name_of_its_target() -> None:
    alias = """
---
kind: Service
metadata: {name: opinions}
spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}"""
    routed = virtual_service(f"{{hosts: [productpage], http: {to('opinions')}}}")
    scope = outbound(world(BOOKINFO + alias + routed), HERE)
    assert "opinions" in host(scope, "9080", "reviews").domains
    assert clusters(host(scope, "9080", "productpage").rules) == ["outbound|9080||reviews.default.svc.cluster.local"]


def test_the_oldest_virtual_service_has_a_host_alone() -> None:
    young = virtual_service(f"{{hosts: [reviews], http: {to('productpage')}}}", "a", created="2026-02-01T00:00:00Z")
    old = virtual_service(
        f"{{hosts: [reviews.default.svc.cluster.local], http: {to('elsewhere.other.svc.cluster.local')}}}", "b", "other"
    )
    scope = outbound(world(BOOKINFO + young + old), HERE)
    assert clusters(host(scope, "9080", "reviews").rules) == ["outbound|9080||elsewhere.other.svc.cluster.local"]


def test_a_younger_one_steps_in_where_the_oldest_has_no_rule_for_the_port() -> None:
    old = virtual_service(
        "{hosts: [reviews], http: [{match: [{port: 1}], route: [{destination: {host: productpage}}]}]}", "a"
    )
    young = virtual_service(f"{{hosts: [reviews], http: {to('productpage')}}}", "b", created="2026-02-01T00:00:00Z")
    assert clusters(host(outbound(world(BOOKINFO + old), HERE), "9080", "reviews").rules) == [
        "outbound|9080||reviews.default.svc.cluster.local"
    ]
    assert clusters(host(outbound(world(BOOKINFO + old + young), HERE), "9080", "reviews").rules) == [
        "outbound|9080||productpage.default.svc.cluster.local"
    ]


def test_weights() -> None:
    shares = {"v1": 90, "v2": 10, "v3": 0}
    routes = [f"{{destination: {{host: reviews, subset: {name}}}, weight: {share}}}" for name, share in shares.items()]
    scope = outbound(
        world(BOOKINFO + virtual_service(f"{{hosts: [reviews], http: [{{route: [{', '.join(routes)}]}}]}}")), HERE
    )
    (rule,) = host(scope, "9080", "reviews").rules
    assert [(one.cluster, one.weight) for one in rule.destinations] == [
        ("outbound|9080|v1|reviews.default.svc.cluster.local", 90),
        ("outbound|9080|v2|reviews.default.svc.cluster.local", 10),
    ]


def test_nothing_is_emitted_after_a_rule_that_takes_everything() -> None:
    http = """[
        {match: [{uri: {prefix: /a}}, {uri: {prefix: /}}, {uri: {prefix: /b}}],
         route: [{destination: {host: reviews}}]},
        {route: [{destination: {host: productpage}}]}]"""
    scope = outbound(world(BOOKINFO + virtual_service(f"{{hosts: [reviews], http: {http}}}")), HERE)
    matches = [rule.match for rule in host(scope, "9080", "reviews").rules]
    assert [match.uri.prefix for match in matches if match and match.uri] == ["/a", "/"]


SOURCES = virtual_service(
    "{hosts: [reviews], http: [{match: [{sourceLabels: {app: a}}], route: [{destination: {host: productpage}}]},"
    " {match: [{sourceNamespace: other}], route: [{destination: {host: elsewhere.other.svc.cluster.local}}]},"
    " {route: [{destination: {host: reviews}}]}]}"
)


@pytest.mark.parametrize(
    ("namespace", "labels", "first"),
    [
        ("default", {"app": "a", "tier": "x"}, "outbound|9080||productpage.default.svc.cluster.local"),
        ("default", {"app": "b"}, "outbound|9080||reviews.default.svc.cluster.local"),
        ("other", {}, "outbound|9080||elsewhere.other.svc.cluster.local"),
    ],
)
def test_conditions_on_the_source_are_decided_here(namespace: str, labels: dict[str, str], first: str) -> None:
    snapshot = world(BOOKINFO + SOURCES)
    view = outbound_view(snapshot, Proxy(namespace=namespace, labels=labels))
    assert "tier" not in dict(view.labels)
    assert clusters(host(outbound(snapshot, view), "9080", "reviews.default").rules)[0] == first


def test_a_host_that_is_no_service_stands_on_port_80_or_beside_its_service() -> None:
    alone = virtual_service(f"{{hosts: [www.example.com], http: {to('reviews')}}}", "a")
    beside = virtual_service(f"{{hosts: [reviews, api.example.com], http: {to('reviews')}}}", "b")
    web = "\n---\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.3.1, ports: [{port: 80, name: http}]}"
    scope = outbound(world(BOOKINFO + web + alone + beside), HERE)
    assert host(scope, "80", "www.example.com").name == "www.example.com:80"
    assert host(scope, "9080", "api.example.com").name == "api.example.com:9080"


def test_every_domain_stands_once_in_a_table() -> None:
    literal = virtual_service(f"{{hosts: [reviews, elsewhere.other], http: {to('reviews')}}}")
    scope = outbound(world(BOOKINFO + literal), HERE)
    domains = [domain for one in scope.routes[0].hosts for domain in one.domains]
    assert len(domains) == len(set(domains))
    assert host(scope, "9080", "elsewhere.other").name == "elsewhere.other:9080"


def test_mirrors_and_their_shares() -> None:
    http = "[{route: [{destination: {host: reviews}}], mirror: {host: productpage}, mirrorPercentage: {value: 25.5}}]"
    (rule,) = host(
        outbound(world(BOOKINFO + virtual_service(f"{{hosts: [reviews], http: {http}}}")), HERE), "9080", "reviews"
    ).rules
    assert [(one.destination.cluster, one.percentage) for one in rule.mirrors] == [
        ("outbound|9080||productpage.default.svc.cluster.local", 25.5)
    ]


def test_tcp_rules() -> None:
    tcp = """[
        {match: [{port: 9000, destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: a}}]},
        {match: [{port: 9000}], route: [{destination: {host: b}}]}]"""
    scope = outbound(world(ECHO + virtual_service(f"{{hosts: [echo], tcp: {tcp}}}")), HERE)
    listener = next(one for one in scope.listeners if one.port == 9000)
    assert [(rule.match and rule.match.destination_subnets, rule.destinations[0].cluster) for rule in listener.tcp] == [
        (("10.0.0.0/8",), "outbound|9000||a.default.svc.cluster.local"),
        (None, "outbound|9000||b.default.svc.cluster.local"),
    ]


def test_tls_rules_route_by_sni() -> None:
    tls = "[{match: [{sniHosts: [elsewhere.other.svc.cluster.local]}], route: [{destination: {host: a}}]}]"
    scope = outbound(
        world(BOOKINFO + virtual_service(f"{{hosts: [elsewhere.other.svc.cluster.local], tls: {tls}}}")), HERE
    )
    listener = next(one for one in scope.listeners if one.port == 9443)
    assert [(rule.sni_hosts, rule.destinations[0].cluster) for rule in listener.tcp] == [
        (("elsewhere.other.svc.cluster.local",), "outbound|9443||a.default.svc.cluster.local")
    ]


def _served_here(case: dict[str, Any]) -> bool:
    return "HTTPRoute" not in case["config"] and "kind: Sidecar" not in case["config"]


@pytest.mark.parametrize("case", cases("sidecar-routes"))
def test_sidecar_routes_as_in_istio(case: dict[str, Any]) -> None:
    if not _served_here(case):
        pytest.skip("needs a kind that is not served yet")
    snapshot = world(f"{case['kubeConfig']}\n---\n{case['config']}")
    scope = outbound(snapshot, OutboundView(namespace=case["node"]["namespace"]))
    hosts = next(table.hosts for table in scope.routes if table.name == case["routeName"])
    for domain, wanted in case["expected_clusters_by_vhost_domain"].items():
        found = [cluster for one in hosts if domain in one.domains for cluster in clusters(one.rules)]
        assert found == (wanted or []), domain
