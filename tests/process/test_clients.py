"""Other people's clients against the API server: each test uses one as its own documentation shows.

They are heavy (half a gigabyte) and not part of the development environment: `./dev test-clients` installs them.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apiservers import ApiServer

pytestmark = [
    pytest.mark.process,
    # What other people's packages warn of is theirs.
    pytest.mark.filterwarnings("default"),
]
WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = ApiServer(tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Connections that they leave open are told while warnings are theirs."""
    yield
    gc.collect()


@pytest.fixture
def kubernetes(server: ApiServer) -> Any:
    package = pytest.importorskip("kubernetes", reason="./dev test-clients installs it")
    package.config.load_kube_config(str(server.kubeconfig))
    return package


def eventually(holds: Callable[[], Any], limit: float = 20.0) -> Any:
    deadline = time.monotonic() + limit
    while not (value := holds()):
        assert time.monotonic() < deadline, f"it did not come true: {value!r}"
        time.sleep(0.05)
    return value


# -- the official client -------------------------------------------------------------------------------------------


def test_typed_objects(kubernetes: Any) -> None:
    client = kubernetes.client
    core = client.CoreV1Api()
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="typed")))
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="c", labels={"a": "b"}), data={"k": "v"})
    made = core.create_namespaced_config_map("typed", body)
    assert made.metadata.uid and made.data == {"k": "v"}
    with pytest.raises(client.ApiException) as caught:
        core.create_namespaced_config_map("typed", body)
    assert caught.value.status == 409
    core.patch_namespaced_config_map("c", "typed", {"data": {"k": None, "l": "w"}})
    assert core.read_namespaced_config_map("c", "typed").data == {"l": "w"}
    stale = client.V1ConfigMap(metadata=made.metadata, data={"x": "y"})
    with pytest.raises(client.ApiException) as caught:
        core.replace_namespaced_config_map("c", "typed", stale)
    assert caught.value.reason == "Conflict"
    assert [each.metadata.name for each in core.list_namespaced_config_map("typed", label_selector="a=b").items] == [
        "c"
    ]
    core.delete_collection_namespaced_config_map("typed", label_selector="a=b")
    assert core.list_namespaced_config_map("typed", label_selector="a=b").items == []


def test_typed_deployment(kubernetes: Any) -> None:
    client = kubernetes.client
    apps, core = client.AppsV1Api(), client.CoreV1Api()
    container = client.V1Container(name="c", image="app:1", ports=[client.V1ContainerPort(container_port=80)])
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(
        replicas=1, selector=client.V1LabelSelector(match_labels={"app": "web"}), template=template
    )
    apps.create_namespaced_deployment(
        "default", client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    )
    apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 2}})
    assert apps.read_namespaced_deployment_scale("web", "default").spec.replicas == 2
    eventually(lambda: len(core.list_namespaced_pod("default", label_selector="app=web").items) == 2)
    apps.delete_namespaced_deployment("web", "default", propagation_policy="Background")
    core.delete_collection_namespaced_pod("default", label_selector="app=web", grace_period_seconds=0)
    eventually(lambda: not core.list_namespaced_pod("default", label_selector="app=web").items)


def test_dynamic_client_applies(kubernetes: Any) -> None:
    dynamic = kubernetes.dynamic.DynamicClient(kubernetes.client.ApiClient())
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"a": "1"}}
    maps.server_side_apply(body=body, namespace="default", field_manager="one")
    conflicting = {**body, "data": {"a": "2"}}
    with pytest.raises(kubernetes.dynamic.exceptions.ConflictError):
        maps.server_side_apply(body=conflicting, namespace="default", field_manager="two")
    maps.server_side_apply(body=conflicting, namespace="default", field_manager="two", force_conflicts=True)
    assert maps.get(name="dynamic", namespace="default").data.a == "2"
    maps.delete(name="dynamic", namespace="default")


def test_watch_resumes(kubernetes: Any) -> None:
    client, core = kubernetes.client, kubernetes.client.CoreV1Api()
    since = core.list_namespaced_config_map("default").metadata.resource_version
    for name in ("w1", "w2"):
        core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name)))
    core.delete_namespaced_config_map("w1", "default")
    watch = kubernetes.watch.Watch()
    stream = watch.stream(core.list_namespaced_config_map, "default", resource_version=since, timeout_seconds=1)
    seen = [(event["type"], event["object"].metadata.name) for event in stream]
    assert seen == [("ADDED", "w1"), ("ADDED", "w2"), ("DELETED", "w1")]


def test_informer(kubernetes: Any) -> None:
    informers = pytest.importorskip("kubernetes.informer")
    client, core = kubernetes.client, kubernetes.client.CoreV1Api()
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="informed")))
    informer = informers.SharedInformer(core.list_namespaced_config_map, namespace="informed", label_selector="mine")
    seen: list[tuple[str, str]] = []
    for kind in (informers.ADDED, informers.DELETED):
        informer.add_event_handler(kind, lambda obj, kind=kind: seen.append((kind, obj.metadata.name)))
    informer.start()
    try:
        metadata = client.V1ObjectMeta(name="i", labels={"mine": "yes"})
        core.create_namespaced_config_map("informed", client.V1ConfigMap(metadata=metadata))
        eventually(lambda: ("ADDED", "i") in seen)
        core.delete_namespaced_config_map("i", "informed")
        eventually(lambda: ("DELETED", "i") in seen)
    finally:
        informer.stop()


def test_a_bound_service_account_may_what_it_may(kubernetes: Any, server: ApiServer) -> None:
    client = kubernetes.client
    core, rbac = client.CoreV1Api(), client.RbacAuthorizationV1Api()
    core.create_namespaced_service_account("default", client.V1ServiceAccount(metadata={"name": "reader"}))
    rules = [client.V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["get", "list"])]
    rbac.create_namespaced_role("default", client.V1Role(metadata={"name": "reader"}, rules=rules))
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": "default"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    binding = {"metadata": {"name": "reader"}, "subjects": [subject], "roleRef": reference}
    rbac.create_namespaced_role_binding("default", binding)
    token = core.create_namespaced_service_account_token("reader", "default", {"spec": {}}).status.token
    settings = client.Configuration(host=server.server)
    settings.ssl_ca_cert, settings.api_key = str(server.pki.ca), {"authorization": f"Bearer {token}"}
    its_own = client.ApiClient(settings)
    its = client.CoreV1Api(its_own)
    assert its.list_namespaced_config_map("default").items
    for forbidden in (
        lambda: its.list_namespaced_secret("default"),
        lambda: its.list_config_map_for_all_namespaces(),
        lambda: its.create_namespaced_config_map("default", {"metadata": {"name": "x"}}),
        lambda: its.list_node(),
    ):
        with pytest.raises(client.ApiException) as caught:
            forbidden()
        assert caught.value.status == 403
    asks = client.AuthorizationV1Api(its_own)
    for verb, allowed in (("list", True), ("delete", False)):
        spec = {"resourceAttributes": {"verb": verb, "resource": "configmaps", "namespace": "default"}}
        assert asks.create_self_subject_access_review({"spec": spec}).status.allowed is allowed
    core.delete_namespaced_service_account("reader", "default")
    with pytest.raises(client.ApiException) as caught:
        its.list_namespaced_config_map("default")
    assert caught.value.status == 401


# -- kopf ----------------------------------------------------------------------------------------------------------

OPERATOR = """
import kopf

@kopf.on.create("example.com", "v1", "widgets")
def made(spec, patch, name, **_):
    patch.status["double"] = 2 * spec["size"]

@kopf.on.update("example.com", "v1", "widgets", field="spec.size")
def changed(new, patch, **_):
    patch.status["double"] = 2 * new

@kopf.on.delete("example.com", "v1", "widgets")
def gone(name, **_):
    open(name + ".gone", "w").close()
"""


def test_kopf_operator(kubernetes: Any, server: ApiServer, tmp_path: Path) -> None:
    pytest.importorskip("kopf", reason="./dev test-clients installs it")
    client = kubernetes.client
    client.ApiextensionsV1Api().create_custom_resource_definition(WIDGETS)
    widgets = client.CustomObjectsApi()
    place = ("example.com", "v1", "default", "widgets")
    (tmp_path / "widgets_operator.py").write_text(OPERATOR)
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    command = [sys.executable, "-m", "kopf", "run", "widgets_operator.py", "--standalone", "-n", "default"]
    with (tmp_path / "log").open("wb") as log:
        operator = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=log, stdout=log)
    try:
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 2}}
        widgets.create_namespaced_custom_object(*place, widget)

        def current() -> Any:
            return widgets.get_namespaced_custom_object(*place, "w")

        eventually(lambda: current().get("status", {}).get("double") == 4)
        assert current()["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        widgets.patch_namespaced_custom_object(*place, "w", {"spec": {"size": 5}})
        eventually(lambda: current()["status"]["double"] == 10)
        widgets.delete_namespaced_custom_object(*place, "w")
        eventually(lambda: (tmp_path / "w.gone").exists())
        eventually(lambda: not widgets.list_namespaced_custom_object(*place)["items"])
    finally:
        operator.terminate()
        operator.wait(20)
        client.ApiextensionsV1Api().delete_custom_resource_definition("widgets.example.com")
    assert "Traceback" not in (tmp_path / "log").read_text()


# -- lightkube, kr8s -----------------------------------------------------------------------------------------------


def test_lightkube(server: ApiServer) -> None:
    lightkube = pytest.importorskip("lightkube", reason="./dev test-clients installs it")
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    config = lightkube.KubeConfig.from_file(str(server.kubeconfig))
    client = lightkube.Client(config=config, namespace="default", field_manager="lightkube")
    client.apply(ConfigMap(metadata=ObjectMeta(name="light", labels={"by": "lightkube"}), data={"a": "b"}))
    assert client.get(ConfigMap, "light").data == {"a": "b"}
    client.patch(ConfigMap, "light", {"data": {"a": "c"}})
    assert [each.data for each in client.list(ConfigMap, labels={"by": "lightkube"})] == [{"a": "c"}]
    kind, first = next(iter(client.watch(ConfigMap, labels={"by": "lightkube"})))
    assert (kind, first.metadata.name) == ("ADDED", "light")
    client.delete(ConfigMap, "light")
    with pytest.raises(lightkube.ApiError) as caught:
        client.get(ConfigMap, "light")
    assert caught.value.status.reason == "NotFound"


def test_kr8s(server: ApiServer) -> None:
    kr8s = pytest.importorskip("kr8s", reason="./dev test-clients installs it")
    from kr8s.objects import ConfigMap, Deployment

    api = kr8s.api(kubeconfig=str(server.kubeconfig))
    assert api.version()["minor"]
    made = ConfigMap({"metadata": {"name": "kr8s", "namespace": "default"}, "data": {"a": "b"}}, api=api)
    made.create()
    made.label({"by": "kr8s"})
    made.patch({"data": {"a": "c"}})
    assert [each.data.a for each in api.get("configmaps", namespace="default", label_selector="by=kr8s")] == ["c"]
    made.delete()
    eventually(lambda: not made.exists())
    assert list(api.get(Deployment, namespace="kube-system")) == []


# -- Helm ----------------------------------------------------------------------------------------------------------

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
    "values.yaml": "greeting: hello\nreplicas: 0\n",
    "templates/all.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}, labels: {app.kubernetes.io/managed-by: {{ .Release.Service }}}}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {ports: [{port: 80}], selector: {app: {{ .Release.Name }}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: c, image: app:1}]}
""",
}


def test_helm(kubernetes: Any, server: ApiServer, tmp_path: Path) -> None:
    helm = pytest.importorskip("helm_python", reason="./dev test-clients installs it")
    for name, content in CHART.items():
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / name).write_text(content)
    core = kubernetes.client.CoreV1Api()

    def greeting() -> str:
        return str(core.read_namespaced_config_map("demo", "default").data["greeting"])

    chart = str(tmp_path / "shop")
    with helm.Config(namespace="default", kubeconfig_path=str(server.kubeconfig)) as releases:
        assert releases.install(chart, "demo", {})["status"] == "deployed"
        assert greeting() == "hello"
        assert releases.upgrade(chart, "demo", {"greeting": "good day"})["revision"] == 2
        assert greeting() == "good day"
        releases.rollback("demo", version=1)
        assert greeting() == "hello"
        assert [each["revision"] for each in releases.history("demo")] == [1, 2, 3]
        assert [each["name"] for each in releases.list()] == ["demo"]
        releases.uninstall("demo")
    with pytest.raises(kubernetes.client.ApiException):
        greeting()
