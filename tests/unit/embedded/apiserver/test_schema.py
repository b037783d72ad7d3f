"""Schemas: what kubectl reads of them, and what they say of users' mistakes, in Kubernetes' words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mizzen.embedded.apiserver import schema
from mizzen.embedded.apiserver.resources import BUILT_INS, ResourceType, custom_types
from mizzen.embedded.apiserver.schema_validation import validate
from mizzen.kube.api import WELL_KNOWN, Resource

WIDGETS = Resource("example.com", "v1", "widgets", "Widget")
CASES = Path(__file__).parents[5] / "shared/cases/crd-rules.yaml"


def widget_schema(**spec: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}


def widget(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}


def told(node: dict[str, Any], obj: dict[str, Any]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in validate(node, obj)]


# --- OpenAPI ---


def of(group_version: str) -> list[ResourceType]:
    return [each for each in BUILT_INS if each.resource.api_version == group_version]


def patch_operations(document: dict[str, Any]) -> dict[str, Any]:
    return {path: item["patch"] for path, item in document["paths"].items() if "patch" in item}


def test_kubectl_finds_that_the_server_validates() -> None:
    patch = patch_operations(schema.openapi_v3("apps/v1", of("apps/v1")))[
        "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    ]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert {"fieldValidation", "dryRun"} <= {parameter["name"] for parameter in patch["parameters"]}


@pytest.mark.parametrize("group_version", sorted({each.resource.api_version for each in BUILT_INS}))
def test_every_reference_of_a_document_is_in_it(group_version: str) -> None:
    document = schema.openapi_v3(group_version, of(group_version))
    components = document["components"]["schemas"]

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert {name.removeprefix("#/components/schemas/") for name in references(document)} <= components.keys()


def test_fields_are_described() -> None:
    components = schema.openapi_v3("v1", of("v1"))["components"]["schemas"]
    image = components["io.k8s.api.core.v1.Container"]["properties"]["image"]
    assert image["description"].startswith("Container image name.")
    spec = components["io.k8s.api.core.v1.Pod"]["properties"]["spec"]
    assert spec["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]


def crd(version_schema: dict[str, Any]) -> list[ResourceType]:
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": version_schema}}]
    names = {"plural": "widgets", "kind": "Widget"}
    return custom_types({"spec": {"group": "example.com", "names": names, "scope": "Namespaced", "versions": versions}})


def test_custom_resources_bring_their_own_schema() -> None:
    document = schema.openapi_v3("example.com/v1", crd(widget_schema(size={"type": "integer"})))
    component = document["components"]["schemas"]["com.example.v1.Widget"]
    assert component["properties"]["spec"]["properties"]["size"] == {"type": "integer"}
    assert component["x-kubernetes-group-version-kind"] == [{"group": "example.com", "version": "v1", "kind": "Widget"}]
    body = next(iter(patch_operations(document).values()))["requestBody"]["content"]
    assert "application/strategic-merge-patch+json" not in body


def test_the_index_changes_with_the_schema() -> None:
    one, two = crd(widget_schema(a={"type": "string"})), crd(widget_schema(b={"type": "string"}))
    paths = schema.openapi_v3_index({"v1": of("v1"), "example.com/v1": one})["paths"]
    assert list(paths) == ["api/v1", "apis/example.com/v1"]
    assert paths["apis/example.com/v1"]["serverRelativeURL"] == (
        f"/openapi/v3/apis/example.com/v1?hash={schema.content_hash(one)}"
    )
    assert schema.content_hash(one) != schema.content_hash(two)


# --- built-in kinds ---


def test_unknown_fields_are_named_with_their_path() -> None:
    container = {"name": "c", "imagee": "x", "env": [{"nam": "A"}]}
    obj = {
        "metadata": {"labels": {"any": "x"}, "lables": {}},
        "spec": {"replica": 1, "template": {"spec": {"containers": [container]}}},
    }
    found = schema.unknown_fields(WELL_KNOWN.deployments, obj)
    assert found == [
        "metadata.lables",
        "spec.replica",
        "spec.template.spec.containers[0].imagee",
        "spec.template.spec.containers[0].env[0].nam",
    ]
    said = [schema.unknown_field_message(WELL_KNOWN.deployments, path) for path in found]
    assert said[2:] == [
        'unknown field "spec.template.spec.containers[0].imagee" (did you mean "image"?)',
        'unknown field "spec.template.spec.containers[0].env[0].nam" (did you mean "name"?)',
    ]
    assert schema.strict_decoding_error(said[1:2], ["spec"]) == (
        'strict decoding error: unknown field "spec.replica" (did you mean "replicas"?), duplicate field "spec"'
    )


def test_the_field_that_was_meant_in_a_custom_resource() -> None:
    item = {"type": "object", "properties": {"retries": {"type": "object"}}}
    spec = {"type": "object", "properties": {"http": {"type": "array", "items": item}}}
    root = {"type": "object", "properties": {"spec": spec}}
    vs = Resource("networking.istio.io", "v1", "virtualservices", "VirtualService")
    said = [
        schema.unknown_field_message(vs, path, root)
        for path in ("spec.http[0].retires", "spec.http[0].zebra", "metadata.lables", "sepc")
    ]
    assert said == [
        'unknown field "spec.http[0].retires" (did you mean "retries"?)',
        'unknown field "spec.http[0].zebra"',
        'unknown field "metadata.lables" (did you mean "labels"?)',
        'unknown field "sepc" (did you mean "spec"?)',
    ]


def test_open_fields_stay_open() -> None:
    crd_object = {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"default": {"any": 1}, "type": "object"}}}]}}
    assert schema.unknown_fields(WELL_KNOWN.crds, crd_object) == []


def test_pruning_a_built_in() -> None:
    obj = {"metadata": {"labels": {"a": None}}, "spec": {"nope": 1, "hostname": None, "containers": [{"args": [None]}]}}
    assert schema.prune(WELL_KNOWN.pods, obj) == {
        "metadata": {"labels": {"a": ""}},
        "spec": {"containers": [{"args": [""]}]},
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"replicas": "x"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"replicas": 1.5},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"paused": "yes"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            {"template": {"metadata": {"labels": {"a": 1}}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels "
            "of type string",
        ),
        (
            {"template": {"spec": {"containers": {"name": "x"}}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers "
            "of type []v1.Container",
        ),
        (
            {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ({"replicas": 3, "strategy": {"rollingUpdate": {"maxSurge": "25%"}}, "selector": None}, None),
    ],
)
def test_types_are_those_of_the_go_structs(spec: dict[str, Any], expected: str | None) -> None:
    assert schema.decoding_error(WELL_KNOWN.deployments, {"metadata": {"name": "x"}, "spec": spec}) == expected


def test_metadata_of_custom_resources_has_types_too() -> None:
    assert schema.decoding_error(WIDGETS, {"metadata": {"labels": {"a": 1}}}) == (
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    )


def test_duplicate_fields() -> None:
    assert schema.duplicate_fields(b'{"spec": {"a": 1, "b": {"a": 2}, "a": 3}}') == ["a"]
    assert schema.duplicate_fields(b"not json") == []


# --- structural schemas ---

VALIDATIONS: list[tuple[dict[str, Any], Any, list[str]]] = [
    ({"type": "string"}, 5, ['spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer"']),
    ({"type": "string"}, None, ['spec.x: Invalid value: "null": spec.x in body must be of type string: "null"']),
    ({"type": "string", "nullable": True}, None, []),
    ({"type": "string", "enum": ["a", "b"]}, "c", ['spec.x: Unsupported value: "c": supported values: "a", "b"']),
    ({"type": "string", "pattern": "^a+$"}, "b", ["spec.x: Invalid value: \"b\": spec.x in body should match '^a+$'"]),
    (
        {"type": "string", "pattern": "^a$"},
        "a\n",
        ["spec.x: Invalid value: \"a\\n\": spec.x in body should match '^a$'"],
    ),
    ({"type": "string", "maxLength": 2}, "abc", ["spec.x: Too long: may not be more than 2 bytes"]),
    (
        {"type": "string", "minLength": 1},
        "",
        ['spec.x: Invalid value: "": spec.x in body should be at least 1 chars long'],
    ),
    (
        {"type": "string", "format": "date-time"},
        "today",
        ['spec.x: Invalid value: "today": spec.x in body must be of type date-time: "today"'],
    ),
    (
        {"type": "integer", "minimum": 1, "maximum": 3},
        4,
        ["spec.x: Invalid value: 4: spec.x in body should be less than or equal to 3"],
    ),
    (
        {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
        1,
        ["spec.x: Invalid value: 1: spec.x in body should be greater than 1"],
    ),
    ({"type": "number"}, 1, []),
    (
        {"type": "integer"},
        True,
        ['spec.x: Invalid value: "boolean": spec.x in body must be of type integer: "boolean"'],
    ),
    ({"x-kubernetes-int-or-string": True}, "http", []),
    (
        {"x-kubernetes-int-or-string": True},
        [],
        ['spec.x: Invalid value: "array": spec.x in body must be of type integer,string: "array"'],
    ),
    (
        {"type": "array", "maxItems": 1, "items": {"type": "string"}},
        ["a", 1],
        [
            "spec.x: Too many: 2: must have at most 1 items",
            'spec.x[1]: Invalid value: "integer": spec.x[1] in body must be of type string: "integer"',
        ],
    ),
    (
        {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        ["a", "b", "a"],
        ['spec.x[2]: Duplicate value: "a"'],
    ),
    (
        {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "v": {"type": "integer"}}},
        },
        [{"name": "a", "v": 1}, {"name": "a", "v": 2}],
        ['spec.x[1]: Duplicate value: map[string]interface {}{"name":"a"}'],
    ),
    ({"type": "object", "required": ["y"], "properties": {"y": {}}}, {}, ["spec.x.y: Required value"]),
    (
        {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"a": 1, "b": 2},
        [
            '<nil>: Invalid value: "": "spec.x" must validate one and only one schema (oneOf). '
            "Found 2 valid alternatives"
        ],
    ),
    (
        {"type": "object", "not": {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}},
        {"b": 1},
        ['<nil>: Invalid value: "": "spec.x" must not validate the schema (not)'],
    ),
]


@pytest.mark.parametrize(("node", "value", "expected"), VALIDATIONS)
def test_custom_resources_are_validated(node: dict[str, Any], value: Any, expected: list[str]) -> None:
    assert told(widget_schema(x=node), widget(x=value)) == expected


def test_a_missing_spec_is_required() -> None:
    assert told({**widget_schema(), "required": ["spec", "metadata"]}, {"metadata": {}}) == ["spec: Required value"]


def test_pruning_and_unknown_fields_of_custom_resources() -> None:
    node = widget_schema(
        known={"type": "object", "properties": {"a": {"type": "string"}}},
        free={"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"a": {"type": "object"}}},
        map={"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {}}}},
        list={"type": "array", "items": {"type": "object", "properties": {"a": {}}}},
    )
    obj = widget(
        known={"a": "x", "b": 1},
        free={"a": {"b": 1}, "c": 2},
        map={"k": {"a": 1, "b": 2}},
        list=[{"a": 1, "b": 2}],
        extra=1,
    )
    obj["metadata"]["lables"] = {}
    assert schema.unknown_fields(WIDGETS, obj, node) == [
        "metadata.lables",
        "spec.known.b",
        "spec.free.a.b",
        "spec.map.k.b",
        "spec.list[0].b",
        "spec.extra",
    ]
    kept = schema.prune(WIDGETS, obj, node)
    assert kept == widget(known={"a": "x"}, free={"a": {}, "c": 2}, map={"k": {"a": 1}}, list=[{"a": 1}])
    assert schema.unknown_fields(WIDGETS, kept, node) == []


@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
def test_the_shared_cases_are_yaml_that_schemas_can_judge() -> None:
    """Their verdicts need the CRDs and CEL; here only that nothing in them breaks the walk."""
    for case in yaml.load(CASES.read_text(), yaml.CSafeLoader):
        assert validate({"type": "object"}, case["manifest"]) == []
