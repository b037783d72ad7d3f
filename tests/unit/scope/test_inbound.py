from __future__ import annotations

from mizzen.scope.model import Protocol
from mizzen.scope.resolve import inbound
from mizzen.scope.view import InboundView, Proxy, inbound_view
from worlds import world

SERVICES = """
kind: Service
metadata: {name: web, creationTimestamp: '2026-01-02T00:00:00Z'}
spec:
  selector: {app: web}
  ports: [{port: 80, name: http, targetPort: 8080}, {port: 443, name: https, targetPort: named}]
---
kind: Service
metadata: {name: older, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {selector: {app: web}, ports: [{port: 8080, name: tcp}]}
---
kind: Service
metadata: {name: no-selector}
spec: {ports: [{port: 7000, name: http}]}
---
kind: Service
metadata: {name: web, namespace: other}
spec: {selector: {app: web}, ports: [{port: 7001, name: http}]}
---
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {containers: [{name: web, ports: [{containerPort: 8443, name: named}]}]}
"""


def test_ports_are_those_that_services_of_the_namespace_lead_to() -> None:
    snapshot = world(SERVICES)
    view = inbound_view(snapshot, Proxy(namespace="default", name="web-1", labels={"app": "web"}))
    scope = inbound(snapshot, view)
    assert [(one.port, one.service_port, one.protocol, one.host) for one in scope.ports] == [
        (8080, 8080, Protocol.TCP, "older.default.svc.cluster.local"),
        (8443, 443, Protocol.HTTPS, "web.default.svc.cluster.local"),
    ]
    (told,) = scope.problems
    assert (told.code, told.name) == ("IST0116", "web") and "older" in told.message


def test_a_named_port_that_the_pod_lacks_is_not_served() -> None:
    scope = inbound(world(SERVICES), InboundView(namespace="default", labels=(("app", "web"),)))
    assert [one.port for one in scope.ports] == [8080]


def test_a_destination_rule_also_sizes_the_servers_pool() -> None:
    policy = "{connectionPool: {tcp: {maxConnections: 4}}}"
    rule = f"\n---\nkind: DestinationRule\nmetadata: {{name: r}}\nspec: {{host: older, trafficPolicy: {policy}}}"
    (port,) = inbound(world(SERVICES + rule), InboundView(namespace="default", labels=(("app", "web"),))).ports
    assert port.policy is not None and port.policy.connection_pool is not None
