"""Where calls land on a small mesh, and why some are refused."""

from __future__ import annotations

from typing import Any

import pytest

from mizzen.envoy.resources import Resources
from mizzen.explain.simulate import (
    NO_LISTENER,
    NO_ROUTE,
    PROTOCOL_ERROR,
    TLS_REDIRECT,
    Call,
    place,
)
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from stories import objects, scopes, services, world

GIVEN = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match:
    - headers: {end-user: {exact: jason}}
      method: {exact: GET}
    - queryParams: {version: {regex: "v?2"}}
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /Old}, ignoreUriCase: true}]
    redirect: {uri: /new, redirectCode: 302}
  - match: [{withoutHeaders: {cookie: {prefix: session}}, uri: {regex: "/r/[0-9]+"}}]
    directResponse: {status: 204}
  - match: [{uri: {exact: /}}, {uri: {prefix: /r/}}]
    route:
    - {destination: {host: reviews, subset: v1}, weight: 75}
    - {destination: {host: reviews, subset: v2}, weight: 25}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*.example.com"]}
  - {port: {number: 8081, name: safe, protocol: HTTP}, hosts: ["*.example.com"], tls: {httpsRedirect: true}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec:
  hosts: ["*.example.com"]
  gateways: [front]
  http: [{match: [{uri: {prefix: /api}}], route: [{destination: {host: reviews}}]}]
"""
SERVICES = {"reviews.default": {9080: "http"}, "mysql.default": {3306: "tcp"}, "own.default": {80: "", 81: "tcp"}}
SNAPSHOT = Snapshot.of([*services(SERVICES), *objects(GIVEN)])
REVIEWS, MYSQL, OWN = "10.96.0.1", "10.96.0.2", "10.96.0.3"


def told(proxy: Proxy, *, gateway: bool) -> Resources:
    return world(scopes(SNAPSHOT, proxy, gateway=gateway), SNAPSHOT, proxy.namespace)


SIDECAR = told(Proxy(namespace="default", name="own-1", labels={"app": "own"}), gateway=False)
GATEWAY = told(Proxy(namespace="istio-system", name="in", labels={"istio": "ingressgateway"}), gateway=True)


def outbound(port: int, subset: str, host: str) -> str:
    return f"outbound|{port}|{subset}|{host}.default.svc.cluster.local"


V1, V2 = outbound(9080, "v1", "reviews"), outbound(9080, "v2", "reviews")

TO_CLUSTER = {
    "by header and method": (Call(9080, REVIEWS, host="reviews", headers={"End-User": "jason"}), V2),
    "by query": (Call(9080, REVIEWS, host="reviews", path="/x?version=2"), V2),
    "by Host, not by address": (Call(9080, "1.2.3.4", host="reviews.default:9080", path="/?version=v2"), V2),
    "unknown Host on a known port": (Call(9080, REVIEWS, host="example.com"), "PassthroughCluster"),
    "bytes on an HTTP port": (Call(9080, REVIEWS, protocol="tcp"), "PassthroughCluster"),
    "TLS on an HTTP port": (Call(9080, REVIEWS, tls="tls", host="reviews"), "PassthroughCluster"),
    "unknown port": (Call(7777, "1.2.3.4", host="reviews"), "PassthroughCluster"),
    "declared TCP": (Call(3306, MYSQL, protocol="tcp"), outbound(3306, "", "mysql")),
    "HTTP on a declared TCP port": (Call(3306, MYSQL, host="other"), outbound(3306, "", "mysql")),
    "another address on a TCP port": (Call(3306, "1.2.3.4", protocol="tcp"), "PassthroughCluster"),
    "sniffed HTTP": (Call(80, OWN, host="own"), outbound(80, "", "own")),
    "sniffed HTTP/2": (Call(80, OWN, host="own", protocol="http2"), outbound(80, "", "own")),
    "sniffed bytes": (Call(80, OWN, protocol="tcp"), outbound(80, "", "own")),
    "sniffed TLS": (Call(80, OWN, protocol="http", tls="tls"), outbound(80, "", "own")),
    "loop guard": (Call(15001, protocol="tcp"), "BlackHoleCluster"),
    "inbound HTTP, sniffed": (Call(80, host="own", inbound=True), "inbound|80||"),
    "inbound bytes, sniffed": (Call(80, protocol="tcp", inbound=True), "inbound|80||"),
    "inbound TCP": (Call(81, protocol="tcp", inbound=True), "inbound|81||"),
    "inbound, no Service": (Call(5000, host="x", inbound=True), "InboundPassthroughCluster"),
    "inbound bytes, no Service": (Call(5000, protocol="tcp", inbound=True), "InboundPassthroughCluster"),
    "inbound loop guard": (Call(15006, protocol="tcp", inbound=True), "BlackHoleCluster"),
}


@pytest.mark.parametrize("call, cluster", TO_CLUSTER.values(), ids=TO_CLUSTER.keys())
def test_reaches_a_cluster(call: Call, cluster: str) -> None:
    landing = place(call, SIDECAR)
    assert (landing.error, landing.cluster) == ("", cluster)


def test_weights_are_told() -> None:
    assert place(Call(9080, REVIEWS, host="reviews"), SIDECAR).clusters == ((V1, 75), (V2, 25))


def test_the_method_counts() -> None:
    call = Call(9080, REVIEWS, host="reviews", method="POST", headers={"end-user": "jason"})
    assert place(call, SIDECAR).clusters == ((V1, 75), (V2, 25))


@pytest.mark.parametrize(
    "path, headers, status",
    [("/oLD/x", {}, 302), ("/r/7", {}, 204), ("/r/7", {"cookie": "session=1"}, 0), ("/r/seven", {}, 0)],
)
def test_answers_that_envoy_gives_itself(path: str, headers: dict[str, str], status: int) -> None:
    assert place(Call(9080, REVIEWS, host="reviews", path=path, headers=headers), SIDECAR).status == status


REFUSED: dict[str, tuple[Call, Any, str]] = {
    "no rule holds": (Call(9080, REVIEWS, host="reviews", path="/none"), SIDECAR, NO_ROUTE),
    "gateway, no rule holds": (Call(8080, host="a.example.com", path="/none"), GATEWAY, NO_ROUTE),
    "gateway, port not opened": (Call(8082, host="a.example.com"), GATEWAY, NO_LISTENER),
    "gateway, bytes": (Call(8080, protocol="tcp"), GATEWAY, PROTOCOL_ERROR),
    "gateway, https wanted": (Call(8081, host="a.example.com", path="/api"), GATEWAY, TLS_REDIRECT),
}


@pytest.mark.parametrize("call, held, error", REFUSED.values(), ids=REFUSED.keys())
def test_is_refused(call: Call, held: Resources, error: str) -> None:
    assert place(call, held).error == error


def test_a_gateway_serves_hosts_in_any_case_and_with_any_port() -> None:
    landing = place(Call(8080, host="A.Example.com:31380", path="/api/x"), GATEWAY)
    assert (landing.error, landing.cluster) == ("", outbound(9080, "", "reviews"))


SEIZED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: thief, namespace: evil}
spec:
  hosts: [own.default.svc.cluster.local]
  http: [{route: [{destination: {host: reviews.default.svc.cluster.local, subset: v1}}]}]
"""
KEPT_AT_HOME = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultVirtualServiceExportTo: ['.']"}
"""


@pytest.mark.parametrize(
    ("mesh", "cluster"), [("", outbound(80, "v1", "reviews")), (KEPT_AT_HOME, outbound(80, "", "own"))]
)
def test_who_may_speak_for_a_host_is_for_the_mesh_to_say(mesh: str, cluster: str) -> None:
    """ISTIO-SECURITY-2026-002: any namespace may take a host over, unless rules stay where they are written."""
    snapshot = Snapshot.of(
        [*services({"own.default": {80: "http"}, "reviews.default": {80: "http"}}), *objects(SEIZED + mesh)]
    )
    caller = Proxy(namespace="default", name="own-1", labels={"app": "own"})
    told = world(scopes(snapshot, caller, gateway=False), snapshot, caller.namespace)
    assert place(Call(80, "10.96.0.1", host="own"), told).cluster == cluster
