"""`x describe`: what is read out of objects and dumps, and how it is laid out."""

from __future__ import annotations

from typing import Any

import pytest

from mizzen.api.core import Service
from mizzen.cli.describe import Lines
from mizzen.explain.describe import (
    Description,
    Edge,
    exposed,
    peer_authentication,
    pod_description,
    service_description,
    services_of,
)
from mizzen.scope.snapshot import Snapshot
from stories import objects

WORLD = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.0.1, selector: {app: reviews}, ports: [{name: http, port: 9080, targetPort: web}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL}
    connectionPool: {tcp: {maxConnections: 3}}
    portLevelSettings: [{port: {number: 9080}, tls: {mode: DISABLE}}]
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  gateways: [door, mesh]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - match: [{uri: {prefix: /v1}}]
    route: [{destination: {host: reviews, subset: v1}, weight: 100}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: reviews}
spec: {selector: {matchLabels: {app: reviews}}, portLevelMtls: {"9080": {mode: PERMISSIVE}}}
"""
HOST = "reviews.default.svc.cluster.local"
TYPE = "type.googleapis.com/envoy"


def decided_by(kind: str, name: str = "reviews") -> dict[str, Any]:
    path = f"/apis/networking.istio.io/v1/namespaces/default/{kind}/{name}"
    return {"filter_metadata": {"istio": {"config": path}}}


def dump(table: str, domain: str, rule: str = "reviews") -> dict[str, Any]:
    cluster = {"name": f"outbound|9080||{HOST}", "metadata": decided_by("destination-rule", rule)}
    route = {"metadata": decided_by("virtual-service"), "route": {"cluster": f"outbound|9080|v1|{HOST}"}}
    routes = {"name": table, "virtual_hosts": [{"name": "x", "domains": [domain], "routes": [route]}]}
    rbac = {
        "@type": f"{TYPE}.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"policies": {"ns[default]-policy[p]-rule[0]": {}}},
    }
    return {
        "configs": [
            {"@type": f"{TYPE}.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": cluster}]},
            {"@type": f"{TYPE}.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{"route_config": routes}]},
            {"@type": f"{TYPE}.admin.v3.EcdsConfigDump", "ecds_filters": [{"ecds_filter": {"typed_config": rbac}}]},
        ]
    }


def pod(version: str = "v1", **spec: Any) -> dict[str, Any]:
    app = {
        "name": "reviews",
        "ports": [{"containerPort": 9080, "name": "web"}, {"containerPort": 53, "protocol": "UDP"}],
    }
    return {
        "metadata": {
            "name": "reviews-1",
            "namespace": "default",
            "labels": {"app": "reviews", "version": version},
            "annotations": {"sidecar.istio.io/status": '{"revision": "default"}'},
        },
        "spec": {"containers": [app], "initContainers": [{"name": "istio-proxy"}], **spec},
        "status": {"phase": "Running"},
    }


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return Snapshot.of(objects(WORLD))


def text(found: Description, namespace: str = "default") -> list[str]:
    return list(Lines(namespace).description(found))


def described(snapshot: Snapshot, one: dict[str, Any], told: dict[str, Any]) -> Description:
    gateway = {"metadata": {"name": "in", "namespace": "istio-system", "labels": {"istio": "ingressgateway"}}}
    gateway["status"] = {"hostIP": "192.0.2.1"}
    way_in = objects(
        "{apiVersion: v1, kind: Service, metadata: {name: in}, "
        "spec: {ports: [{name: http2, port: 8000}, {name: tls, port: 443}]}}"
    )
    edge = Edge(
        pod=gateway, dump=dump("http.8080", "*"), services=tuple(way for way in way_in if isinstance(way, Service))
    )
    services = services_of(snapshot, one)
    return Description(
        pod=pod_description(one),
        services=tuple(service_description(snapshot, each, one, [one], told) for each in services),
        peer_authentication=peer_authentication(snapshot, one),
        exposed=tuple(exposed(snapshot, services, [one], [edge])),
    )


def test_a_pod_from_top_to_bottom(snapshot: Snapshot) -> None:
    assert text(described(snapshot, pod(), dump("9080", HOST))) == [
        "Pod: reviews-1",
        "   Pod Revision: default",
        "   Pod Ports: 9080 (reviews), 53/UDP (reviews)",
        "--------------------",
        "Service: reviews",
        "   Port: http 9080/HTTP targets pod port 9080",
        'DestinationRule: reviews for "reviews"',
        "   Matching subsets: v1",
        "      (Non-matching subsets v2)",
        "   Traffic Policy TLS Mode: ISTIO_MUTUAL",
        "   Policies: connection pool",
        "   Port Level Settings:",
        "    9080:",
        "      TLS Mode: DISABLE",
        "VirtualService: reviews",
        '   Route to host "reviews" subset "v1" with weight 100%',
        "   Match: /v1*",
        "   1 additional destination(s) that will not reach this pod",
        "RBAC policies: ns[default]-policy[p]-rule[0]",
        "--------------------",
        "Effective PeerAuthentication:",
        "   Workload mTLS mode: STRICT",
        "   Port Level mTLS mode:",
        "      9080: PERMISSIVE",
        "Applied PeerAuthentication:",
        "   default.istio-system, reviews.default",
        "--------------------",
        "Exposed on Ingress Gateway http://192.0.2.1:8000",
        "VirtualService: reviews",
        '   Route to host "reviews" subset "v1" with weight 100%',
        "   Match: /v1*",
        "   1 additional destination(s) that will not reach this pod",
    ]


def test_a_pod_that_no_subset_wants(snapshot: Snapshot) -> None:
    lines = text(described(snapshot, pod("v3"), dump("9080", HOST)), "elsewhere")
    assert "Pod: reviews-1.default" in lines
    assert "   WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets v1,v2)" in lines
    assert "   WARNING: No destinations match pod subsets (checked 2 HTTP routes)" in lines
    assert "      Route to non-matching subset v2 for (Match:  when headers are end-user=jason)" in lines


def test_what_is_wrong_with_a_pod() -> None:
    bare = pod(initContainers=[], securityContext={"runAsUser": 1337})
    assert pod_description(bare).warnings == (
        "WARNING: User ID (UID) 1337 is reserved for the sidecar proxy.",
        "WARNING: reviews-1 is not part of mesh; no Istio sidecar",
    )
    assert pod_description(bare, unmeshed_is_fine=True).warnings[1:] == ()
    waiting = {**pod(), "status": {"phase": "Pending"}}
    assert pod_description(waiting).warnings == ("Pod is not Running (Pending)",)
    unnamed = pod()
    unnamed["metadata"]["labels"] = {}
    assert [line[:30] for line in pod_description(unnamed).warnings] == ["Suggestion: add required servi"] * 2


def test_a_proxy_that_refers_to_what_is_gone(snapshot: Snapshot) -> None:
    lines = text(described(snapshot, pod(), dump("9080", HOST, rule="gone")))
    assert "WARNING: Proxy is stale; it references to non-existent destination rule gone.default" in lines
    assert "      Warning: Route to subset v2 but NO DESTINATION RULE defining subsets!" in lines
