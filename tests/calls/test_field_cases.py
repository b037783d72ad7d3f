"""How Istio itself judges calls and routes: data from its own tests, placed on what we write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mizzen.envoy.resources import ROUTES, Resources
from mizzen.explain.simulate import Call, place
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from stories import KINDS, objects, readable, scopes, world

CASES = Path(__file__).parents[2] / "../shared/cases"

PENDING = {
    "TestGatewayServices/": "needs ServiceEntry and the annotation of a Kubernetes Gateway's own Service",
    "TestPeerAuthenticationPassthrough/global plaintext": "needs ServiceEntry; see test_mtls_calls.py",
    "TestPeerAuthenticationWithSidecar": "needs the Sidecar kind",
    "TestPassthroughTraffic/ALLOW_ANY_DYNAMIC_DNS": "resolving unknown hosts by DNS is refused, and needs ServiceEntry",
    "TestSidecarRoutes/httproute": "needs the Kubernetes Gateway API",
    "with sidecar": "needs the Sidecar kind",
    "explicit sidecar": "needs the Sidecar kind",
    "sidecar filter": "needs the Sidecar kind",
}


def cases(file: str) -> list[Any]:
    path = CASES / file
    if not path.exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"{file} is not beside the project"))]
    return [
        pytest.param(case, id=case["id"], marks=_marks(case["id"]))
        for case in yaml.load(path.read_text(), yaml.CSafeLoader)
    ]


def _marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.skip(reason=reason) for part, reason in PENDING.items() if part in name]


def told(case: dict[str, Any]) -> Resources:
    node = case["node"]
    mesh = {"mesh": yaml.safe_dump(case["meshConfig"])} if "meshConfig" in case else None
    given = [*objects(case["config"]), *objects(case["kubeConfig"])]
    if mesh:
        settings = {"metadata": {"name": "istio", "namespace": "istio-system"}, "kind": "ConfigMap", "data": mesh}
        given += objects(yaml.safe_dump(settings))
    assert {type(each).__name__ for each in given} <= set(KINDS)
    snapshot = Snapshot.of(given)
    proxy = Proxy(namespace=node["namespace"], name="client", labels=node["labels"], address=node["ip"])
    return world(scopes(snapshot, proxy, gateway=node["type"] == "router"), snapshot, node["namespace"])


@pytest.mark.parametrize("case", cases("simulation.yaml"))
def test_simulation(case: dict[str, Any]) -> None:
    held = told(case)
    wrong = [line for each in case["calls"] for line in _compare(each, held)]
    assert wrong == []


def _compare(entry: dict[str, Any], held: Resources) -> Iterator[str]:
    asked, wanted = entry["call"], entry["result"]
    landing = place(
        Call(
            port=asked["Port"],
            address=asked.get("Address", "1.1.1.1"),
            protocol=asked.get("Protocol", "http"),
            tls=asked.get("TLS", "plaintext"),
            host=asked.get("HostHeader", ""),
            alpn=asked.get("Alpn", ""),
            sni=asked.get("Sni", ""),
            inbound=asked.get("CallMode") == "inbound",
        ),
        held,
    )
    if landing.error != wanted.get("Error", ""):
        yield f"{entry['name']}: error {landing.error!r}, expected {wanted.get('Error', '')!r}"
    if "ClusterMatched" in wanted and not _same_cluster(landing.cluster, wanted["ClusterMatched"]):
        yield f"{entry['name']}: cluster {landing.cluster!r}, expected {wanted['ClusterMatched']!r}"


def _same_cluster(found: str, wanted: str) -> bool:
    """Those cases write `a.default` where a mesh has `a.default.svc.cluster.local`."""
    return found in (wanted, f"{wanted}.svc.cluster.local")


@pytest.mark.parametrize("case", cases("sidecar-routes.yaml"))
def test_sidecar_routes(case: dict[str, Any]) -> None:
    table = readable(ROUTES, told(case)[ROUTES][case["routeName"]])
    found = {domain: _clusters(host) for host in table["virtual_hosts"] for domain in host["domains"]}
    for domain, clusters in case["expected_clusters_by_vhost_domain"].items():
        assert found.get(domain) == clusters, domain


def _clusters(host: dict[str, Any]) -> list[str]:
    return [each["route"]["cluster"] for each in host.get("routes", [])]
