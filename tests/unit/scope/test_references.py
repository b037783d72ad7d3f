from __future__ import annotations

import pytest

from mizzen.scope.references import findings
from worlds import world

WORLD = """
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80, name: http}]}
---
kind: Service
metadata: {name: multi, namespace: prod}
spec: {clusterIP: 10.0.0.2, ports: [{port: 80, name: http}, {port: 81, name: http-b}]}
---
kind: Gateway
metadata: {name: gw}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}]}
"""


def routed(hosts: str, destination: str, gateways: str = "[mesh]") -> str:
    return f"""
---
kind: VirtualService
metadata: {{name: vs}}
spec: {{hosts: {hosts}, gateways: {gateways}, http: [{{route: [{{destination: {destination}}}]}}]}}"""


@pytest.mark.parametrize(
    ("text", "code", "path"),
    [
        (routed("[web]", "{host: nowhere}"), "IST0101", "spec.http[0].route[0].destination.host"),
        (routed("[web]", "{host: web, subset: v1}"), "IST0101", "spec.http[0].route[0].destination.subset"),
        (routed("[web]", "{host: web, port: {number: 9}}"), "IST0101", "spec.http[0].route[0].destination.port.number"),
        (routed("[web]", "{host: multi.prod.svc.cluster.local}"), "IST0112", "spec.http[0].route[0].destination"),
        (routed("[a.example.com]", "{host: web}", "[missing]"), "IST0101", "spec.gateways[0]"),
        (routed("[my-service]", "{host: web}", "[gw]"), "IST0132", "spec.hosts[0]"),
        ("\n---\nkind: DestinationRule\nmetadata: {name: d}\nspec: {host: nowhere}", "IST0174", "spec.host"),
    ],
)
def test_what_is_not_there_is_said_with_its_path(text: str, code: str, path: str) -> None:
    assert [(told.code, told.path, told.level) for told in findings(world(WORLD + text))] == [(code, path, "warning")]


def test_it_heals_by_itself() -> None:
    broken = routed("[web]", "{host: web, subset: v1}")
    rule = "\n---\nkind: DestinationRule\nmetadata: {name: d}\nspec: {host: web, subsets: [{name: v1}]}"
    assert findings(world(WORLD + broken + rule)) == ()


def test_a_half_name_is_recognised() -> None:
    (told,) = findings(world(WORLD + routed("[web]", "{host: multi.prod}")))
    assert "did you mean multi.prod.svc.cluster.local?" in told.message


def test_the_younger_of_two_is_told_about_the_older() -> None:
    one = routed("[web]", "{host: web}").replace("name: vs", "name: one")
    two = routed("[web]", "{host: web}").replace("name: vs", "name: two")
    (told,) = findings(world(WORLD + one + two))
    assert (told.code, told.name) == ("IST0109", "two") and "default/one" in told.message
