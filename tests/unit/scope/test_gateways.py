"""What a gateway serves."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mizzen.scope.model import GatewayScope, GatewayView, Host, Protocol
from mizzen.scope.resolve import gateway
from worlds import cases, clusters, world

VIEW = GatewayView(namespace="istio-system", labels=(("istio", "ingressgateway"),))
SERVICES = """
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  clusterIP: 10.96.0.9
  selector: {istio: ingressgateway}
  ports: [{port: 80, name: http2, targetPort: 8080}, {port: 443, name: https, targetPort: https}]
---
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.8, ports: [{port: 8000, name: http}]}
"""


def server(number: int, protocol: str, hosts: str, more: str = "") -> str:
    return f"{{port: {{number: {number}, name: p{number}, protocol: {protocol}}}, hosts: {hosts}{more}}}"


def entry(name: str, *servers: str, created: str = "2026-01-01T00:00:00Z") -> str:
    meta = f"{{name: {name}, creationTimestamp: '{created}'}}"
    spec = f"{{selector: {{istio: ingressgateway}}, servers: [{', '.join(servers)}]}}"
    return f"\n---\nkind: Gateway\nmetadata: {meta}\nspec: {spec}"


def routed(name: str, hosts: str, http: str = "[{route: [{destination: {host: web}}]}]", **more: str) -> str:
    meta = ", ".join(f"{key}: '{value}'" for key, value in {"name": name, **more}.items())
    spec = f"{{hosts: {hosts}, gateways: [default/gw], http: {http}}}"
    return f"\n---\nkind: VirtualService\nmetadata: {{{meta}}}\nspec: {spec}"


def hosts(scope: GatewayScope, table: str = "http.8080") -> dict[str, Host]:
    return {one.name: one for one in next(found for found in scope.routes if found.name == table).hosts}


@pytest.mark.parametrize("number", [80, 8080])
def test_a_server_port_is_the_services_port_or_its_target(number: int) -> None:
    scope = gateway(world(SERVICES + entry("gw", server(number, "HTTP", "['*']")) + routed("vs", "['*']")), VIEW)
    assert [(one.bind, one.port, one.route) for one in scope.servers] == [("0.0.0.0", 8080, "http.8080")]
    assert clusters(hosts(scope)[f"*:{number}"].rules) == ["outbound|8000||web.default.svc.cluster.local"]


def test_the_http_servers_beside_an_https_one_work_and_the_rest_is_told() -> None:
    secure = server(443, "HTTPS", "[secure.example.com]", ", tls: {mode: SIMPLE, credentialName: tls-secret}")
    scope = gateway(world(SERVICES + entry("gw", secure, server(80, "HTTP", "['*.example.com']"))), VIEW)
    assert [one.port for one in scope.servers] == [8080]
    (told,) = scope.problems
    assert (told.code, told.name, told.path) == ("MZ0003", "gw", "spec.servers[0]")


def test_without_routes_a_server_answers_404() -> None:
    scope = gateway(world(SERVICES + entry("gw", server(80, "HTTP", "[a.example.com]"))), VIEW)
    assert hosts(scope) == {"blackhole:80": Host(name="blackhole:80", domains=("*",))}


def test_hosts_are_what_server_and_virtual_service_have_in_common() -> None:
    text = SERVICES + entry("gw", server(80, "HTTP", "['*.example.com', other/b.org, ./c.org]"))
    text += routed("one", "[App.example.com, other.net, b.org, c.org]")
    assert set(hosts(gateway(world(text), VIEW))) == {"app.example.com:80", "c.org:80"}


def test_several_virtual_services_on_a_host_add_up_with_the_catch_all_last() -> None:
    special = "[{match: [{uri: {exact: /special}}], route: [{destination: {host: web}}]}]"
    text = SERVICES + entry("gw", server(80, "HTTP", "['*']"))
    text += routed("old", "[a.org]", creationTimestamp="2026-01-01T00:00:00Z")
    text += routed("new", "[a.org]", special, creationTimestamp="2026-02-01T00:00:00Z")
    rules = hosts(gateway(world(text), VIEW))["a.org:80"].rules
    assert [rule.source.name for rule in rules if rule.source] == ["new", "old"]


def test_redirect_to_https_holds_for_all_hosts_of_the_server() -> None:
    text = SERVICES + entry("gw", server(80, "HTTP", "['*.a.org', b.org]", ", tls: {httpsRedirect: true}"))
    found = hosts(gateway(world(text + routed("vs", "[x.a.org, '*.a.org']")), VIEW))
    assert {name: one.require_tls for name, one in found.items()} == {
        "x.a.org:80": True,
        "*.a.org:80": True,
        "b.org:80": True,
    }


def test_of_two_protocols_on_a_port_the_older_has_it() -> None:
    old = entry("old", server(80, "HTTP", "[a.org]"))
    young = entry("gw", server(80, "TCP", "['*']"), created="2026-02-01T00:00:00Z")
    scope = gateway(world(SERVICES + young + old), VIEW)
    assert [one.protocol for one in scope.servers] == [Protocol.HTTP]
    assert [(told.code, told.name) for told in scope.problems] == [("IST0145", "gw")]


def test_tcp_servers_follow_tcp_rules() -> None:
    text = SERVICES + entry("gw", server(31400, "TCP", "['*']"))
    text += """
---
kind: VirtualService
metadata: {name: t}
spec: {hosts: ['*'], gateways: [gw], tcp: [{match: [{port: 31400}], route: [{destination: {host: web}}]}]}"""
    (found,) = gateway(world(text), VIEW).servers
    assert (found.port, found.protocol) == (31400, Protocol.TCP)
    assert [one.cluster for one in found.tcp[0].destinations] == ["outbound|8000||web.default.svc.cluster.local"]


def test_passthrough_servers_route_by_sni() -> None:
    view = GatewayView(namespace="istio-system", labels=VIEW.labels, container_ports=(("https", 8443),))
    text = SERVICES + entry("gw", server(443, "TLS", "[a.org]", ", tls: {mode: PASSTHROUGH}"))
    text += """
---
kind: VirtualService
metadata: {name: t}
spec: {hosts: [a.org], gateways: [gw], tls: [{match: [{sniHosts: [a.org]}], route: [{destination: {host: web}}]}]}"""
    (found,) = gateway(world(text), view).servers
    assert (found.port, [rule.sni_hosts for rule in found.tcp]) == (8443, [("a.org",)])


def test_other_gateways_are_not_this_ones_business() -> None:
    elsewhere = GatewayView(namespace="istio-system", labels=(("istio", "egressgateway"),))
    assert gateway(world(SERVICES + entry("gw", server(80, "HTTP", "['*']"))), elsewhere).servers == ()


SERVED = ("TestHTTPGateway", "TestGatewayConflicts")


@pytest.mark.parametrize("case", cases("simulation"))
def test_simulated_gateways_as_in_istio(case: dict[str, Any]) -> None:
    if not case["id"].startswith(SERVED):
        pytest.skip("needs a kind that is not served yet, or requests; the calls suite places those")
    scope = gateway(world(case["config"]), VIEW)
    for call in case["calls"]:
        _check(scope, call["call"], call["result"])


def _check(scope: GatewayScope, call: dict[str, Any], result: dict[str, Any]) -> None:
    served = next(one for one in scope.servers if one.port == call["Port"])
    assert f"{served.bind}_{served.port}" == result["ListenerMatched"]
    assert result.get("RouteConfigMatched") == served.route
    if served.route is None:
        found = [one.cluster for rule in served.tcp for one in rule.destinations]
    else:
        table = hosts(scope, served.route)
        one = table.get(f"{call['HostHeader']}:{call['Port']}") or table[f"blackhole:{call['Port']}"]
        assert one.name == result.get("VirtualHostMatched", one.name)
        assert one.require_tls is ("tls required" in result.get("Error", ""))
        found = clusters(one.rules)
    if "ClusterMatched" in result:
        assert re.sub(r"\.svc\.cluster\.local", "", found[0]) == result["ClusterMatched"]
