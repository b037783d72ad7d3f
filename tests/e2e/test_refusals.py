"""Bad input through kubectl: the answer names object, field and cure, and nothing that runs changes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .mesh import Mesh, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http:
  - timeout: 5s
    route:
    - destination: {host: echo, port: {number: 80}}
      weight: 100
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec:
  host: echo
  subsets: [{name: v1, labels: {app: echo}}]
"""
OF_A_SUBSET = ROUTE.replace("{host: echo,", "{host: echo, subset: v1,")


@pytest.fixture(scope="module")
def deployed(mesh: Mesh) -> Iterator[Mesh]:
    mesh.mizzen("samples", "export", str(mesh.state.parent / "samples"))
    for name in ("echo", "curl"):
        mesh.kubectl("apply", "-f", str(mesh.state.parent / "samples/samples" / name))
    mesh.apply(ROUTE)
    mesh.ready()
    mesh.in_force("virtualservice/echo")
    yield mesh


def told(mesh: Mesh) -> str:
    """All that the client's proxy was told, as it runs it."""
    (pod,) = mesh.pods("app=curl")
    return mesh.mizzen("proxy-config", "routes", pod["metadata"]["name"], "-o", "json")


# What is written instead of what, and what the answer says: object, place, and what would be right.
WRONG = [
    ("timeout:", "timeouts:", ['"spec.http[0].timeouts"', 'did you mean "timeout"?']),
    ("timeout: 5s", "timeout: 5", ["spec.http[0].timeout", "must be of type string"]),
    ("timeout: 5s", "timeout: soon", ["spec.http[0].timeout", "'soon' is not a duration; write for example 10s"]),
    ("weight: 100", "weight: -1", ["spec.http[0].route[0].weight", "-1 is below 0"]),
    ("weight: 100", "weight: many", ["spec.http[0].route[0].weight", "must be of type integer"]),
    ("hosts: [echo]", "hosts: ['e_cho!']", ["spec.hosts[0]", "e_cho!"]),
    ("{host: echo,", "{host: '',", ["spec.http[0].route[0].destination.host"]),
    ("timeout: 5s", "match: [{uri: {regex: '('}}]", ["spec.http[0].match[0].uri"]),
]


def test_what_is_wrong_is_refused_with_its_place_and_nothing_changes(deployed: Mesh) -> None:
    stored, running = deployed.get("virtualservice", "echo"), told(deployed)
    for right, wrong, says in WRONG:
        answer = deployed.apply(ROUTE.replace(right, wrong), code=1)
        print(answer)
        assert all(words in answer for words in ("VirtualService", "echo", *says)), answer
    assert deployed.get("virtualservice", "echo") == stored
    assert told(deployed) == running


WITHOUT_EFFECT = {
    "ServiceEntry": ("networking.istio.io/v1", {"hosts": ["example.com"], "ports": [{"number": 80, "name": "http"}]}),
    "Sidecar": ("networking.istio.io/v1", {"egress": [{"hosts": ["./*"]}]}),
    "Telemetry": ("telemetry.istio.io/v1", {"tracing": [{"randomSamplingPercentage": 10}]}),
}


@pytest.mark.parametrize("kind", WITHOUT_EFFECT)
def test_a_kind_that_would_have_no_effect_is_refused(deployed: Mesh, kind: str) -> None:
    version, spec = WITHOUT_EFFECT[kind]
    metadata = {"name": "default", "namespace": "default"}
    answer = deployed.apply(
        json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}), code=1
    )
    assert kind in answer and "no effect" in answer
    assert deployed.get(kind.lower())["items"] == []


def test_a_subset_that_is_not_there_yet(deployed: Mesh) -> None:
    """Legal, as in Istio; said at once and in the status; and it heals without another edit."""
    answer = deployed.apply(OF_A_SUBSET)
    assert "Warning:" in answer and "spec.http[0].route[0].destination.subset" in answer and "v1" in answer
    deployed.in_force("virtualservice/echo")
    said = deployed.condition("virtualservice", "echo")
    assert said and said["reason"] == "ReconciledWithWarnings" and "subset v1" in said["message"], said
    generation = deployed.get("virtualservice", "echo")["metadata"]["generation"]
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    assert deployed.curl("http://echo/", *status) == "503"
    deployed.apply(RULE)
    eventually(lambda: deployed.curl("http://echo/", *status) == "200")
    healed = eventually(lambda: (one := deployed.condition("virtualservice", "echo")) and not one["message"] and one)
    assert healed["reason"] == "Reconciled"
    assert deployed.get("virtualservice", "echo")["metadata"]["generation"] == generation


def test_what_does_not_parse_never_leaves_kubectl(deployed: Mesh) -> None:
    answer = deployed.apply(ROUTE.replace("  - timeout: 5s", "  - timeout: 5s\n  retries: {attempts: 3}"), code=1)
    assert "error converting YAML to JSON" in answer
