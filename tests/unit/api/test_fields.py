"""The ledger and the page made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mizzen.api.documents import load
from mizzen.api.fields import fields, table
from mizzen.api.ignored import LEDGER, Entry
from mizzen.api.registry import KINDS, KUBERNETES_KINDS
from mizzen.api.validate import validate

ROOT = Path(__file__).parents[3]
BY_NAME = {kind.kind: kind for kind in (*KINDS, *KUBERNETES_KINDS)}


@pytest.mark.parametrize("entry", LEDGER, ids=lambda entry: f"{entry.kind}:{entry.path}")
def test_every_entry_is_about_a_field_that_exists(entry: Entry) -> None:
    paths = [field.path for field in fields(BY_NAME[entry.kind])]
    assert not entry.path or any(
        path == entry.path or path.startswith((f"{entry.path}.", f"{entry.path}[")) for path in paths
    )


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs/reference/fields.md").read_text() == table(), "run scripts/build_field_table.py"


TUTORIAL = """
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata: {name: my-gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [myapp.example.com, "*.example.com"]}
  - port: {number: 443, name: https, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: tls-secret}
    hosts: [secure.example.com]
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: my-vs}
spec:
  hosts: [my-service, myapp.example.com]
  gateways: [my-gateway, mesh]
  http:
  - match: [{headers: {x-version: {exact: v2}}}]
    route: [{destination: {host: my-service, subset: v2}}]
  - route:
    - {destination: {host: my-service, subset: v1}, weight: 90}
    - {destination: {host: my-service, subset: v2}, weight: 10}
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx,reset,connect-failure"}
    timeout: 10s
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: my-dr}
spec:
  host: my-service
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 100}, http: {h2UpgradePolicy: UPGRADE, http1MaxPendingRequests: 100}}
    loadBalancer: {simple: LEAST_CONN}
    outlierDetection: {consecutive5xxErrors: 5, interval: 30s, baseEjectionTime: 30s, maxEjectionPercent: 50}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""


def test_yaml_as_the_tutorial_writes_it_is_accepted() -> None:
    problems = [problem for document in load(TUTORIAL) for problem in validate(document.value)]
    assert problems == []
