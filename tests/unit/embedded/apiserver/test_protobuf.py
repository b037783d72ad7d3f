"""Protobuf bodies as kubectl 1.32 sent them to a listening socket, and the JSON they must become."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.embedded.apiserver import protobuf

CAPTURED: list[tuple[str, dict[str, Any]]] = [
    (
        "azhzAAoPCgJ2MRIJTmFtZXNwYWNlEhwKFAoEZGVtbxIAGgAiACoAMgA4AEIAEgAaAgoAGgAiAA==",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}},
    ),
    (
        "azhzAAoMCgJ2MRIGU2VjcmV0EiQKEQoBcxIAGgAiACoAMgA4AEIAEg0KBHVzZXISBWFkbWluGgAaACIA",
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"user": "YWRtaW4="}},
    ),
    (
        "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50Er0BCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEosBCAASDAoKCgNh"
        "cHASA3dlYhpxChwKABIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViElESMwoFbmdpbngSCm5naW54OjEuMjcqADIKCgAQABhQIgAq"
        "AEIAagByAIABAIgBAJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgAGgAiAA==",
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "containers": [{"name": "nginx", "image": "nginx:1.27", "ports": [{"containerPort": 80}]}]
                    },
                },
            },
        },
    ),
    (
        "azhzAAoTCghiYXRjaC92MRIHQ3JvbkpvYhKkAQoSCgJjahIAGgAiACoAMgA4AEIAEosBCgsqLzVfKl8qXypfKhoAKnoKEgoCY2oS"
        "ABoAIgAqADIAOABCABJkMmIKEAoAEgAaACIAKgAyADgAQgASThInCgJjahIHYnVzeWJveBoEZGF0ZSoAQgBqAHIAgAEAiAEAkAEA"
        "ogEAGglPbkZhaWx1cmUyAEIASgBSAFgAYABoAIIBAIoBAJoBAMIBABoAGgAiAA==",
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "cj"},
            "spec": {
                "schedule": "*/5_*_*_*_*",
                "jobTemplate": {
                    "metadata": {"name": "cj"},
                    "spec": {
                        "template": {
                            "spec": {
                                "containers": [{"name": "cj", "image": "busybox", "command": ["date"]}],
                                "restartPolicy": "OnFailure",
                            }
                        }
                    },
                },
            },
        },
    ),
    (
        "azhzAAoyChxyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvL3YxEhJDbHVzdGVyUm9sZUJpbmRpbmcSbgoTCgNjcmISABoAIgAqADIA"
        "OABCABIpCgRVc2VyEhlyYmFjLmF1dGhvcml6YXRpb24uazhzLmlvGgRqYW5lIgAaLAoZcmJhYy5hdXRob3JpemF0aW9uLms4cy5p"
        "bxILQ2x1c3RlclJvbGUaAmNyGgAiAA==",
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "crb"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cr"},
        },
    ),
    (
        "azhzAAoNCgJ2MRIHU2VydmljZRJpCh8KA3N2YxIAGgAiACoAMgA4AEIAWgoKA2FwcBIDc3ZjEkIKGwoHODAtODA4MBIDVENQGFAi"
        "BwgAEJA/GgAoABIKCgNhcHASA3N2YxoAIglDbHVzdGVySVA6AEIAUgBaAGAAaAAaAgoAGgAiAA==",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "svc", "labels": {"app": "svc"}},
            "spec": {
                "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                "selector": {"app": "svc"},
                "type": "ClusterIP",
            },
        },
    ),
    (
        "azhzAAoNCgJ2MRIHU2VydmljZRJqCh0KAm5wEgAaACIAKgAyADgAQgBaCQoDYXBwEgJucBJFCiAKBzgwLWh0dHASA1RDUBhQIgoI"
        "ARAAGgRodHRwKIDrARIJCgNhcHASAm5wGgAiCE5vZGVQb3J0OgBCAFIAWgBgAGgAGgIKABoAIgA=",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "np", "labels": {"app": "np"}},
            "spec": {
                "ports": [{"name": "80-http", "protocol": "TCP", "port": 80, "targetPort": "http", "nodePort": 30080}],
                "selector": {"app": "np"},
                "type": "NodePort",
            },
        },
    ),
    (
        "azhzAAooChhhdXRoZW50aWNhdGlvbi5rOHMuaW8vdjESDFRva2VuUmVxdWVzdBInChAKABIAGgAiACoAMgA4AEIAEg0KCGlzdGlv"
        "LWNhINgEGgQKABIAGgAiAA==",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": ["istio-ca"], "expirationSeconds": 600},
            "status": {"token": ""},
        },
    ),
    (
        "azhzAAofChRuZXR3b3JraW5nLms4cy5pby92MRIHSW5ncmVzcxJIChMKA2luZxIAGgAiACoAMgA4AEIAEi0aKwoHZm9vLmNvbRIg"
        "Ch4KHAoEL2JhchINIgsKA3N2YxIECgAQUBoFRXhhY3QaAgoAGgAiAA==",
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "ing"},
            "spec": {
                "rules": [
                    {
                        "host": "foo.com",
                        "http": {
                            "paths": [
                                {
                                    "path": "/bar",
                                    "backend": {"service": {"name": "svc", "port": {"number": 80}}},
                                    "pathType": "Exact",
                                }
                            ]
                        },
                    }
                ]
            },
        },
    ),
    (
        "azhzAAogCglwb2xpY3kvdjESE1BvZERpc3J1cHRpb25CdWRnZXQSOgoTCgNwZGISABoAIgAqADIAOABCABIXCgkIARAAGgM1MCUS"
        "CgoICgNhcHASAXgaCggAGAAgACgAMAAaACIA",
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "pdb"},
            "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "x"}}},
            "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
        },
    ),
    (
        "azhzAAoTCgJ2MRINUmVzb3VyY2VRdW90YRIxChEKAXESABoAIgAqADIAOABCABIaCgoKA2NwdRIDCgEyCgwKBHBvZHMSBAoCMTAaABoAIgA=",
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": {"cpu": "2", "pods": "10"}},
        },
    ),
    (
        "azhzAAoyChdhdXRob3JpemF0aW9uLms4cy5pby92MRIXU2VsZlN1YmplY3RBY2Nlc3NSZXZpZXcSPAoQCgASABoAIgAqADIAOABC"
        "ABIeChwKB2RlZmF1bHQSA2dldBoAIgAqBHBvZHMyADoAGggIABIAGgAgABoAIgA=",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
            "status": {"allowed": False},
        },
    ),
]


@pytest.mark.parametrize(("body", "expected"), CAPTURED, ids=[expected["kind"] for _, expected in CAPTURED])
def test_bodies_of_kubectl_create(body: str, expected: dict[str, Any]) -> None:
    assert protobuf.decode(base64.b64decode(body)) == expected


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field; short enough for one-byte lengths."""
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, raw)


def pod(spec: bytes) -> dict[str, Any]:
    return protobuf.decode(body("v1", "Pod", field(2, spec))).get("spec", {})


def test_pointers_keep_zero_and_plain_fields_lose_it() -> None:
    spec = pod(field(4, 0) + field(11, 0) + field(10, b""))
    assert spec == {"terminationGracePeriodSeconds": 0}


def test_embedded_structs_are_inlined() -> None:
    volume = field(1, b"data") + field(2, field(2, b""))
    assert pod(field(1, volume)) == {"volumes": [{"name": "data", "emptyDir": {}}]}


def test_probe_port_by_name_and_number() -> None:
    def probe(port: bytes) -> dict[str, Any]:
        handler = field(2, field(1, b"/") + field(2, port))
        container = pod(field(2, field(1, b"c") + field(10, field(1, handler))))["containers"][0]
        return container["livenessProbe"]["httpGet"]

    assert probe(field(1, 0) + field(2, 8080) + field(3, b"")) == {"path": "/", "port": 8080}
    assert probe(field(1, 1) + field(2, 0) + field(3, b"http")) == {"path": "/", "port": "http"}


def test_negative_numbers_and_times() -> None:
    meta = field(9, field(1, 1_700_000_000)) + field(10, -1) + field(8, b"")
    decoded = protobuf.decode(body("v1", "Pod", field(1, meta)))
    assert decoded["metadata"] == {"deletionTimestamp": "2023-11-14T22:13:20Z", "deletionGracePeriodSeconds": -1}


def test_quantities_in_maps() -> None:
    entry = field(1, b"cpu") + field(2, field(1, b"100m"))
    container = field(1, b"c") + field(8, field(1, entry))
    assert pod(field(2, container))["containers"][0]["resources"] == {"limits": {"cpu": "100m"}}


def test_unknown_fields_of_newer_clients_are_left_out() -> None:
    assert pod(varint(999 << 3) + b"\x01") == {}


def test_json_inside_the_envelope() -> None:
    raw = b'{"kind":"Pod"}'
    assert protobuf.decode(protobuf.MAGIC + field(2, raw) + field(4, b"application/json")) == {"kind": "Pod"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "does not appear to be a protobuf message"),
        (body("v1", "Pod", b"\x0a\x7f"), "ends after the message"),
        (body("v1", "Pod", b"\x0a"), "cannot be read"),
        (body("example.com/v1", "Widget", b""), 'no kind "Widget" is registered for version "example.com/v1"'),
    ],
)
def test_bodies_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(protobuf.ProtobufError, match=message):
        protobuf.decode(data)


def test_every_type_in_the_table_can_be_decoded() -> None:
    """A message that names another one must find it: an empty body reaches the table of each."""
    for package in ("core", "apps", "batch", "networking", "rbac", "policy", "admissionregistration"):
        for message in protobuf._package(f"k8s.io.api.{package}.v1").values():
            for _, kind, _ in message.values():
                protobuf._value(
                    kind.removeprefix("map:"), 0 if kind[:3] in ("int", "boo") else bytes(8 * (kind == "double"))
                )


@given(st.sampled_from([base64.b64decode(body) for body, _ in CAPTURED]), st.data())
def test_damaged_bodies_are_refused_or_read_never_worse(good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good)
    for place in data.draw(st.lists(st.integers(4, len(good) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(protobuf.ProtobufError):
        assert isinstance(protobuf.decode(bytes(damaged)), dict)
