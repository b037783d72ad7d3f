"""A container's variables."""

import base64

import pytest

from mizzen.embedded.node.environment import Surroundings, environment, expand, service_links
from mizzen.embedded.node.fields import Capacity, PodAddresses, Unresolved

CONFIG = {"kind": "ConfigMap", "metadata": {"name": "cm", "namespace": "d"}, "data": {"a": "1", "b-c": "2", "9": "x"}}
SECRET = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": base64.b64encode(b"geheim").decode()}}
SERVICE = {
    "metadata": {"name": "my-web"},
    "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http-main", "port": 80}, {"port": 53, "protocol": "UDP"}]},
}


def pod(container, **spec):
    metadata = {"name": "p", "namespace": "d", "uid": "u", "labels": {"app": "web"}, "annotations": {"x/y": 'a "b"'}}
    return {"metadata": metadata, "spec": {"containers": [container], "nodeName": "mizzen", **spec}}


def around(services=()):
    objects = {("ConfigMap", "cm"): CONFIG, ("Secret", "s"): SECRET}
    return Surroundings(
        PodAddresses(("10.244.0.10", "fd00:10:244::a"), ("10.245.0.2", "fd00:10:244::1")),
        Capacity("4", "8Gi"),
        lambda kind, name: objects.get((kind, name)),
        services,
    )


def variables(env, *, env_from=(), **spec):
    container = {"name": "a", "env": env, "envFrom": list(env_from), "resources": {"limits": {"cpu": "1500m"}}}
    return environment(pod(container, **spec), container, around())


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("100$", "100$"),
        ("$(A", "$(A"),
        ("$()", "$()"),
    ],
)
def test_expansion(text, result):
    assert expand(text, {"A": "1", "B": "2"}) == result


def test_later_variables_see_earlier_ones_only():
    found = variables(
        [{"name": "A", "value": "x"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "late"}, {"name": "D"}]
    )
    assert found == {"A": "x", "B": "x$(C)", "C": "late", "D": ""}


def test_fields_and_resources():
    def field(path):
        return {"fieldRef": {"fieldPath": path}}

    found = variables(
        [
            {"name": "IP", "valueFrom": field("status.podIP")},
            {"name": "HOST", "valueFrom": field("status.hostIP")},
            {"name": "APP", "valueFrom": field("metadata.labels['app']")},
            {"name": "NOTE", "valueFrom": field("metadata.annotations['x/y']")},
            {"name": "NODE", "valueFrom": field("spec.nodeName")},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "CPU_M", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "REQ", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": 0}}},
        ]
    )
    assert found == {
        "IP": "10.244.0.10",
        "HOST": "10.245.0.2",
        "APP": "web",
        "NOTE": 'a "b"',
        "NODE": "mizzen",
        "CPU": "2",
        "CPU_M": "1500",
        "MEM": "8192",
        "REQ": "2",
    }


def test_config_maps_and_secrets():
    found = variables(
        [
            {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "nope", "key": "k", "optional": True}}},
        ],
        env_from=[{"configMapRef": {"name": "cm"}, "prefix": "C_"}, {"secretRef": {"name": "nope", "optional": True}}],
    )
    assert found == {"C_a": "1", "C_b-c": "2", "C_9": "x", "P": "geheim"}


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"configMapKeyRef": {"name": "nope", "key": "k"}}, 'configmap "nope" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "k"}}, "couldn't find key k in ConfigMap d/cm"),
        ({"fieldRef": {"fieldPath": "spec.unknown"}}, "fieldPath 'spec.unknown' is not supported"),
    ],
)
def test_what_is_missing_is_named(origin, message):
    with pytest.raises(Unresolved, match=message):
        variables([{"name": "X", "valueFrom": origin}])


def test_service_links():
    found = service_links(
        [SERVICE, {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}]
    )
    assert found["MY_WEB_SERVICE_HOST"] == "10.96.0.7"
    assert found["MY_WEB_SERVICE_PORT"] == found["MY_WEB_SERVICE_PORT_HTTP_MAIN"] == "80"
    assert found["MY_WEB_PORT_53_UDP"] == "udp://10.96.0.7:53"
    assert not any(name.startswith("HEADLESS") for name in found)


def test_without_service_links_the_api_server_stays():
    kubernetes = {
        "metadata": {"name": "kubernetes"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]},
    }
    container = {"name": "a"}
    found = environment(pod(container, enableServiceLinks=False), container, around((kubernetes, SERVICE)))
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert not any(name.startswith("MY_WEB") for name in found)
