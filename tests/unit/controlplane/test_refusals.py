"""Whose status tells of a refusal."""

from __future__ import annotations

from mizzen.controlplane.refusals import REFUSED, Refusal, origins, refusals
from mizzen.envoy.resources import CLUSTER, EXTENSION, LISTENER, ROUTES, SECRET
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from stories import Scopes, objects, scopes, services

GIVEN = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}, {route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bytes}
spec: {hosts: [b], tcp: [{route: [{destination: {host: b}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rule}
spec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door}
spec: {selector: {app: door}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mounted}
spec:
  selector: {app: door}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.org]
    tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: beside}
spec:
  selector: {app: door}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [b.org]
    tls: {mode: SIMPLE, serverCertificate: /c2, privateKey: /k2}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: denies}
spec: {action: DENY, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allows}
spec: {rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens}
spec: {jwtRules: []}
"""


def seen(app: str, *, gateway: bool = False) -> Scopes:
    snapshot = Snapshot.of([*services({"a.default": {80: "http"}, "b.default": {90: "tcp"}}), *objects(GIVEN)])
    return scopes(snapshot, Proxy(namespace="default", name=app, labels={"app": app}), gateway=gateway)


def test_where_resources_come_from() -> None:
    found = seen("x")
    assert found.outbound is not None and found.inbound is not None
    out, into = found.outbound, found.inbound
    listener = next(one for one in out.listeners if one.port == 90)
    cases = [
        (out, ROUTES, "80", {"VirtualService/default/routes"}),
        (out, CLUSTER, "outbound|80||a.default.svc.cluster.local", {"DestinationRule/default/rule"}),
        (out, LISTENER, f"{listener.bind}_90", {"VirtualService/default/bytes"}),
        (into, EXTENSION, "mizzen.authz.deny", {"AuthorizationPolicy/default/denies"}),
        (into, EXTENSION, "mizzen.tcp-authz.allow", {"AuthorizationPolicy/default/allows"}),
        (into, EXTENSION, "mizzen.tokens", {"RequestAuthentication/default/tokens"}),
        (into, LISTENER, "virtualInbound", set()),
    ]
    for scope, kind, name, wanted in cases:
        assert {str(one) for one in origins(scope, kind, name)} == wanted, name
    door = seen("door", gateway=True).gateway
    assert door is not None
    assert {str(one) for one in origins(door, LISTENER, "0.0.0.0_80")} == {"Gateway/default/door"}
    assert {str(one) for one in origins(door, SECRET, "file-cert:/c~/k")} == {"Gateway/default/mounted"}


def test_one_problem_for_all_proxies_that_say_the_same() -> None:
    out = seen("x").outbound
    assert out is not None
    every = [Refusal(f"p{number}.default", ROUTES, "80", "no good", (out,)) for number in range(5)]
    (found,) = refusals(every)
    assert (found.code, found.kind, found.name, found.level) == (REFUSED, "VirtualService", "routes", "error")
    assert found.message.startswith(
        "5 proxies (p0.default, p1.default, p2.default and 2 others) refused the route table 80"
    )
    assert found.message.endswith("no good")
