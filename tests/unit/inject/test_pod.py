from __future__ import annotations

import json

import pytest

from mizzen import __version__
from mizzen.inject import InvalidAnnotation, Settings, inject, inject_document, read_settings
from mizzen.inject.settings import Policy


def pod(annotations: dict | None = None, labels: dict | None = None, **spec: object) -> dict:
    app = {"name": "app", "image": "app:1", "ports": [{"containerPort": 9080, "name": "http"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "labels": labels or {"app": "web"}, "annotations": annotations or {}},
        "spec": {"containers": [app], "serviceAccountName": "web", **spec},
    }


def injected(given: dict, settings: Settings | None = None) -> dict:
    result = inject(given, "shop", settings or Settings())
    assert result is not None
    return result


def containers(given: dict) -> dict[str, dict]:
    spec = given["spec"]
    return {one["name"]: one for one in [*spec["containers"], *spec.get("initContainers", [])]}


def environment(given: dict) -> dict[str, str]:
    return {one["name"]: one.get("value") for one in containers(given)["istio-proxy"]["env"]}


def test_the_proxy_is_a_restartable_init_container_between_capture_and_the_apps_own() -> None:
    own = {"name": "migrate", "image": "app:1"}
    spec = injected(pod(initContainers=[own]))["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["istio-init", "istio-proxy", "migrate"]
    assert spec["initContainers"][1]["restartPolicy"] == "Always"
    assert [one["name"] for one in spec["containers"]] == ["app"]


def test_without_native_sidecars_the_proxy_stands_last_and_capture_after_the_apps_init() -> None:
    given = pod({"sidecar.istio.io/nativeSidecar": "false"}, initContainers=[{"name": "migrate", "image": "app:1"}])
    spec = injected(given)["spec"]
    assert [one["name"] for one in spec["containers"]] == ["app", "istio-proxy"]
    assert [one["name"] for one in spec["initContainers"]] == ["migrate", "istio-init"]


def test_capture_as_istio_words_it() -> None:
    arguments = containers(injected(pod()))["istio-init"]["args"]
    assert " ".join(one or repr(one) for one in arguments) == (
        "istio-iptables -p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x '' -b * -d 15090,15021,15020 "
        "--log_output_level=default:info"
    )


def test_capture_follows_annotations() -> None:
    prefix = "traffic.sidecar.istio.io/"
    given = pod({f"{prefix}excludeInboundPorts": "8081,15020", f"{prefix}excludeOutboundPorts": "3306"})
    arguments = containers(injected(given))["istio-init"]["args"]
    assert arguments[arguments.index("-d") + 1] == "15090,15021,15020,8081"
    assert arguments[arguments.index("-o") + 1] == "3306"


def test_nothing_is_captured_in_mode_none() -> None:
    assert "istio-init" not in containers(injected(pod({"sidecar.istio.io/interceptionMode": "NONE"})))


def test_never_twice() -> None:
    assert inject(injected(pod()), "shop", Settings()) is None


def test_labels_and_status() -> None:
    metadata = injected(pod(labels={"app": "web", "version": "v2"}))["metadata"]
    assert metadata["labels"] == {
        "app": "web",
        "version": "v2",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "web",
        "service.istio.io/canonical-revision": "v2",
    }
    status = json.loads(metadata["annotations"]["sidecar.istio.io/status"])
    assert status["initContainers"] == ["istio-init", "istio-proxy"]
    assert status["containers"] is None
    assert status["revision"] == "default"
    assert "istio-token" in status["volumes"]
    assert metadata["annotations"]["kubectl.kubernetes.io/default-container"] == "app"


def test_who_the_pod_belongs_to() -> None:
    given = pod(labels={"app": "web", "pod-template-hash": "5f6"})
    given["metadata"]["ownerReferences"] = [
        {"controller": True, "kind": "ReplicaSet", "apiVersion": "apps/v1", "name": "web-v1-5f6"}
    ]
    found = environment(injected(given))
    assert found["ISTIO_META_OWNER"] == "kubernetes://apis/apps/v1/namespaces/shop/deployments/web-v1"
    assert found["ISTIO_META_WORKLOAD_NAME"] == "web-v1"
    ports = [{"containerPort": 9080, "name": "http", "protocol": "TCP"}]
    assert json.loads(found["ISTIO_META_POD_PORTS"]) == ports
    assert found["ISTIO_META_APP_CONTAINERS"] == "app"


def test_probes_are_led_through_the_agent() -> None:
    given = pod()
    given["spec"]["containers"][0] |= {
        "readinessProbe": {"httpGet": {"path": "/ok", "port": "http", "scheme": "HTTPS"}, "timeoutSeconds": 2},
        "livenessProbe": {"tcpSocket": {"port": 9080}},
        "startupProbe": {"exec": {"command": ["true"]}},
        "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 9080}}},
    }
    result = injected(given)
    app = containers(result)["app"]
    ready = {"path": "/app-health/app/readyz", "port": 15020, "scheme": "HTTP"}
    assert app["readinessProbe"] == {"httpGet": ready, "timeoutSeconds": 2}
    assert app["livenessProbe"] == {"httpGet": {"path": "/app-health/app/livez", "port": 15020}}
    assert app["startupProbe"] == {"exec": {"command": ["true"]}}
    assert json.loads(environment(result)["ISTIO_KUBE_APP_PROBERS"]) == {
        "/app-health/app/readyz": {"httpGet": {"path": "/ok", "port": 9080, "scheme": "HTTPS"}, "timeoutSeconds": 2},
        "/app-health/app/livez": {"tcpSocket": {"port": 9080}},
        "/app-lifecycle/app/preStop": {"httpGet": {"path": "/bye", "port": 9080}},
    }
    assert given["spec"]["containers"][0]["livenessProbe"] == {"tcpSocket": {"port": 9080}}, "the input is not changed"


def test_probes_stay_where_asked() -> None:
    given = pod({"sidecar.istio.io/rewriteAppHTTPProbers": "false"})
    given["spec"]["containers"][0]["livenessProbe"] = {"tcpSocket": {"port": 9080}}
    assert containers(injected(given))["app"]["livenessProbe"] == {"tcpSocket": {"port": 9080}}


def test_the_apps_metrics_are_merged() -> None:
    given = pod({"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/m"})
    result = injected(given)
    annotations = result["metadata"]["annotations"]
    assert (annotations["prometheus.io/port"], annotations["prometheus.io/path"]) == ("15020", "/stats/prometheus")
    scraped = json.loads(environment(result)["ISTIO_PROMETHEUS_ANNOTATIONS"])
    assert scraped == {"scrape": "true", "port": "9090", "path": "/m"}


def test_a_users_own_istio_proxy_container_overlays_the_injected_one() -> None:
    own = {
        "name": "istio-proxy",
        "image": "auto",
        "env": [{"name": "MINE", "value": "1"}, {"name": "POD_NAME", "value": "x"}],
        "resources": {"limits": {"cpu": "1"}},
    }
    given = pod()
    given["spec"]["containers"].append(own)
    result = injected(given)
    proxy = containers(result)["istio-proxy"]
    assert proxy["image"] == f"docker.io/istio/proxyv2:{__version__}"
    assert proxy["resources"]["limits"] == {"cpu": "1", "memory": "1024Mi"}
    assert {"name": "POD_NAME", "value": "x"} in proxy["env"]
    assert environment(result)["MINE"] == "1"
    assert [one["name"] for one in result["spec"]["containers"]] == ["app"]


def test_the_gateway_template_makes_a_router_of_an_auto_container() -> None:
    given = pod({"inject.istio.io/templates": "gateway"})
    given["spec"]["containers"] = [{"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 8080}]}]
    result = injected(given)
    [proxy] = result["spec"]["containers"]
    assert proxy["args"][:2] == ["proxy", "router"]
    assert {port["containerPort"] for port in proxy["ports"]} == {15090, 8080}
    assert "initContainers" not in result["spec"]
    assert "security.istio.io/tlsMode" not in result["metadata"]["labels"]


def test_proxy_config_annotation_wins_by_field_and_metadata_by_key() -> None:
    settings = read_settings("defaultConfig: {concurrency: 2, proxyMetadata: {A: a, B: b}}", "{}", "policy: enabled")
    given = pod({"proxy.istio.io/config": "concurrency: 1\nproxyMetadata: {B: mine}"})
    found = environment(injected(given, settings))
    assert json.loads(found["PROXY_CONFIG"]) == {"concurrency": 1, "proxyMetadata": {"A": "a", "B": "mine"}}
    assert (found["A"], found["B"]) == ("a", "mine")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "http", "port numbers"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", "10.0.0.0/99", "CIDR"),
        ("proxy.istio.io/config", "concurrency: many", "concurrency"),
        ("inject.istio.io/templates", "waypoint", "sidecar or gateway"),
        ("sidecar.istio.io/userVolume", "[1]", "JSON object"),
    ],
)
def test_an_annotation_that_cannot_be_meant_is_refused(name: str, value: str, says: str) -> None:
    with pytest.raises(InvalidAnnotation, match=says):
        inject(pod({name: value}), "shop", Settings())


def test_the_proxys_user_id_is_taken() -> None:
    given = pod()
    given["spec"]["containers"][0]["securityContext"] = {"runAsUser": 1337}
    with pytest.raises(InvalidAnnotation, match="1337"):
        inject(given, "shop", Settings())


def test_disabled_policy_leaves_the_pod() -> None:
    assert inject(pod(), "shop", Settings(policy=Policy(policy="disabled"))) is None


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        ("Deployment", lambda template: {"template": template}),
        ("CronJob", lambda template: {"jobTemplate": {"spec": {"template": template}}}),
    ],
)
def test_kube_inject_finds_the_template_of_a_workload(kind: str, wrap) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}
    metadata = {"name": "web", "namespace": "shop"}
    document = {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": wrap(template)}
    result = inject_document({"kind": "List", "items": [document, {"kind": "Service"}]}, Settings())
    workload, service = result["items"]
    text = json.dumps(workload)
    assert f"kubernetes://apis/apps/v1/namespaces/shop/{kind.lower()}s/web" in text
    assert service == {"kind": "Service"}
