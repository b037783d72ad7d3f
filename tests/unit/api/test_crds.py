from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mizzen.api.crds import custom_resource_definitions
from mizzen.api.registry import KINDS, kind_of

BY_KIND = {one["spec"]["names"]["kind"]: one for one in custom_resource_definitions()}


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from nodes(schema[name], f"{path}[]")


def schema(kind: str) -> dict[str, Any]:
    return dict(nodes(BY_KIND[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


@pytest.mark.parametrize("kind", [kind.kind for kind in KINDS])
def test_schemas_are_structural(kind: str) -> None:
    """Every node has a type, required fields exist, and what is in oneOf only requires."""
    for path, node in schema(kind).items():
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        assert set(node.get("required", [])) <= set(node.get("properties", {})), path
        assert all(set(choice) <= {"not", "required"} for choice in node.get("oneOf", [])), path


@pytest.mark.parametrize(
    ("kind", "versions", "short"),
    [
        ("VirtualService", ["v1", "v1beta1", "v1alpha3"], ["vs"]),
        ("EnvoyFilter", ["v1alpha3"], None),
        ("Telemetry", ["v1alpha1", "v1"], ["telemetry"]),
        ("PeerAuthentication", ["v1", "v1beta1"], ["pa"]),
    ],
)
def test_versions_and_names(kind: str, versions: list[str], short: list[str] | None) -> None:
    spec = BY_KIND[kind]["spec"]
    assert [one["name"] for one in spec["versions"]] == versions
    assert [one["storage"] for one in spec["versions"]] == [True] + [False] * (len(versions) - 1)
    assert spec["names"].get("shortNames") == short
    assert spec["names"]["categories"] == ["istio-io", f"{spec['group'].split('.')[0]}-istio-io"]


def test_limits_choices_and_names_of_fields() -> None:
    rule = schema("DestinationRule")
    balancer = ".spec.trafficPolicy.loadBalancer"
    assert rule[f"{balancer}.simple"]["enum"][:2] == ["UNSPECIFIED", "LEAST_CONN"]
    assert rule[".spec"]["required"] == ["host"]
    assert rule[".spec.trafficPolicy.outlierDetection.consecutive5xxErrors"]["maximum"] == 4294967295
    assert len(rule[balancer]["oneOf"]) == 4
    assert rule[".spec.trafficPolicy.portLevelSettings"]["maxItems"] == 4096
    assert schema("VirtualService")[".spec.http[].route[].destination"]["required"] == ["host"]


def test_kinds_are_found_in_the_versions_they_are_served_in() -> None:
    found = kind_of("networking.istio.io/v1beta1", "Gateway")
    assert found is not None and found.plural == "gateways"
    assert kind_of("networking.istio.io/v2", "Gateway") is None
    assert kind_of("gateway.networking.k8s.io/v1", "Gateway") is None
