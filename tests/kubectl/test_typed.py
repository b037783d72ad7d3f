"""The real kubectl against the API server as a process: what people type, its exit codes and its words."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mizzen.embedded.apiserver.pki_files import Pki, kubeconfig

KUBECTL = shutil.which("kubectl")
pytestmark = [pytest.mark.process, pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on PATH")]

SHOP = """
apiVersion: v1
kind: Service
metadata: {name: details, labels: {app: details}}
spec:
  ports: [{port: 9080, name: http}]
  selector: {app: details}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: bookinfo-details}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: details-v1, labels: {app: details, version: v1}}
spec:
  replicas: 2
  selector: {matchLabels: {app: details, version: v1}}
  template:
    metadata: {labels: {app: details, version: v1}}
    spec:
      serviceAccountName: bookinfo-details
      containers:
      - name: details
        image: docker.io/istio/examples-bookinfo-details-v1:1.20.3
        ports: [{containerPort: 9080}]
"""
WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema: &schema
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: integer, minimum: 1}}}}
  - {name: v1beta1, served: true, storage: false, schema: *schema}
"""
WIDGET = '{"apiVersion": "example.com/v1beta1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": %s}}'


class Cluster:
    """One API server process with its controllers, and kubectl pointed at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = folder / "port"
        command = [sys.executable, "-m", "mizzen.embedded.apiserver", "--state", str(folder / "state")]
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen([*command, "--port", "0", "--port-file", str(port)], stderr=self._log)
        deadline = time.monotonic() + 15
        while not port.exists():
            assert time.monotonic() < deadline and self.process.poll() is None, (folder / "log").read_text()
            time.sleep(0.02)
        server = f"https://127.0.0.1:{port.read_text()}"
        (folder / "kubeconfig").write_text(kubeconfig(Pki(folder / "state" / "pki"), server))

    def run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECONFIG": str(self.folder / "kubeconfig"), "HOME": str(self.folder)}
        assert KUBECTL is not None
        return subprocess.run(
            [KUBECTL, *arguments], input=given, env=environment, capture_output=True, text=True, timeout=30
        )

    def says(self, *arguments: str, given: str = "") -> str:
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fails(self, *arguments: str, given: str = "") -> str:
        done = self.run(*arguments, given=given)
        assert done.returncode == 1, done.stdout
        return done.stderr.strip()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(10) == 0, (self.folder / "log").read_text()
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.stop()


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.replace("_", "-").removeprefix("test-")[:60]
    assert cluster.says("create", "namespace", name) == f"namespace/{name} created"
    yield name
    # There is no node here to confirm that a Pod has ended, so the test plays it.
    cluster.says("delete", "namespace", name, "--wait=false")
    cluster.says("delete", "pods", "--all", "-n", name, "--force", "--grace-period=0")
    cluster.says("wait", "--for=delete", f"namespace/{name}", "--timeout=10s")


def test_apply(cluster: Cluster, namespace: str) -> None:
    names = ("service/details", "serviceaccount/bookinfo-details", "deployment.apps/details-v1")
    assert cluster.says("apply", "-n", namespace, "-f", "-", given=SHOP).splitlines() == [f"{n} created" for n in names]
    again = cluster.says("apply", "-n", namespace, "-f", "-", given=SHOP)
    assert again.splitlines() == [f"{name} unchanged" for name in names]
    changed = SHOP.replace("replicas: 2", "replicas: 1")
    assert "deployment.apps/details-v1 configured" in cluster.says("apply", "-n", namespace, "-f", "-", given=changed)
    path = "jsonpath={.spec.replicas} {.metadata.generation}"
    assert cluster.says("get", "deploy", "details-v1", "-n", namespace, "-o", path) == "1 2"


def test_pods_are_there_when_apply_returns(cluster: Cluster, namespace: str) -> None:
    cluster.says("apply", "-n", namespace, "-f", "-", given=SHOP)
    pods = cluster.says("get", "pods", "-n", namespace, "--no-headers").splitlines()
    assert len(pods) == 2
    assert all(line.split()[1:4] == ["0/1", "Pending", "0"] for line in pods)


def test_server_side_apply(cluster: Cluster, namespace: str) -> None:
    deployment = SHOP.split("---")[2]
    apply = ("apply", "--server-side", "-n", namespace, "-f", "-")
    assert cluster.says(*apply, given=deployment) == "deployment.apps/details-v1 serverside-applied"
    cluster.says("scale", "deploy/details-v1", "--replicas=5", "-n", namespace)
    refused = cluster.fails(*apply, given=deployment)
    assert 'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale"' in refused
    assert ".spec.replicas" in refused
    cluster.says(*apply, "--force-conflicts", given=deployment)
    replicas = cluster.says("get", "deploy", "details-v1", "-n", namespace, "-o", "jsonpath={.spec.replicas}")
    assert replicas == "2"


def test_create_with_protobuf_bodies(cluster: Cluster, namespace: str) -> None:
    here = ("-n", namespace)
    assert cluster.says("create", "configmap", "c", "--from-literal=a=b", *here) == "configmap/c created"
    assert cluster.says("create", "secret", "generic", "s", "--from-literal=a=b", *here) == "secret/s created"
    assert cluster.says("create", "deployment", "d", "--image=x", *here) == "deployment.apps/d created"
    assert cluster.says("get", "secret", "s", "-o", "jsonpath={.data.a}", *here) == "Yg=="
    assert cluster.fails("create", "configmap", "c", *here).endswith('configmaps "c" already exists')
    token = cluster.says("create", "token", "default", "--audience", "istio-ca", *here)
    assert len(token.split(".")) == 3


def test_label_and_show(cluster: Cluster, namespace: str) -> None:
    assert cluster.says("label", "ns", namespace, "istio-injection=enabled") == f"namespace/{namespace} labeled"
    table = cluster.says("get", "ns", namespace, "-L", "istio-injection").splitlines()
    assert table[0].split() == ["NAME", "STATUS", "AGE", "ISTIO-INJECTION"]
    assert table[1].split()[-1] == "enabled"
    cluster.says("label", "ns", namespace, "istio-injection-")
    assert "istio-injection" not in cluster.says("get", "ns", namespace, "--show-labels")


def test_strict_fields(cluster: Cluster, namespace: str) -> None:
    wrong = SHOP.split("---")[2].replace("replicas: 2", "replica: 2")
    assert 'unknown field "spec.replica"' in cluster.fails("apply", "-n", namespace, "-f", "-", given=wrong)


def test_deletion(cluster: Cluster, namespace: str) -> None:
    cluster.says("apply", "-n", namespace, "-f", "-", given=SHOP)
    assert cluster.says("delete", "svc", "details", "-n", namespace) == 'service "details" deleted'
    missing = cluster.fails("delete", "svc", "details", "-n", namespace)
    assert missing == 'Error from server (NotFound): services "details" not found'
    cluster.says("delete", "svc", "details", "-n", namespace, "--ignore-not-found")


def test_wait(cluster: Cluster, namespace: str) -> None:
    cluster.says("run", "p", "--image=x", "-n", namespace)
    timed_out = cluster.fails("wait", "--for=condition=ready", "pod", "--all", "-n", namespace, "--timeout=1s")
    assert timed_out == "error: timed out waiting for the condition on pods/p"
    ready = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    cluster.says("patch", "pod", "p", "--subresource=status", "--type=merge", "-p", ready, "-n", namespace)
    waited = cluster.says("wait", "--for=condition=ready", "pod", "--all", "-n", namespace, "--timeout=5s")
    assert waited == "pod/p condition met"


def test_custom_resources(cluster: Cluster, namespace: str) -> None:
    here = ("-n", namespace)
    cluster.says("apply", "-f", "-", given=WIDGETS)
    cluster.says("wait", "--for=condition=established", "crd/widgets.example.com", "--timeout=5s")
    assert cluster.says("apply", "-f", "-", *here, given=WIDGET % 3) == "widget.example.com/w created"
    assert cluster.says("get", "wd", *here).split() == ["NAME", "SIZE", "w", "3"]
    refused = cluster.fails("apply", "-f", "-", *here, given=WIDGET % 0)
    assert "spec.size in body should be greater than or equal to 1" in refused
    versions = "jsonpath={.apiVersion}"
    assert cluster.says("get", "widgets.v1beta1.example.com", "w", "-o", versions, *here) == "example.com/v1beta1"
    assert cluster.says("get", "wd", "w", "-o", versions, *here) == "example.com/v1"
    assert "size\t<integer>" in cluster.says("explain", "widget.spec")
    cluster.says("delete", "crd", "widgets.example.com")
    assert "the server could not find the requested resource" in cluster.fails("get", "wd", *here)


def test_who_am_i(cluster: Cluster) -> None:
    assert cluster.says("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == "mizzen-admin"
    assert cluster.says("auth", "can-i", "create", "pods") == "yes"


def test_watching_shows_changes_as_they_come(cluster: Cluster, namespace: str) -> None:
    environment = {**os.environ, "KUBECONFIG": str(cluster.folder / "kubeconfig"), "HOME": str(cluster.folder)}
    assert KUBECTL is not None
    command = [KUBECTL, "get", "pods", "-w", "-n", namespace, "--request-timeout=20s"]
    watching = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    try:
        cluster.says("run", "p", "--image=x", "-n", namespace)
        assert watching.stdout.readline().split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
        assert watching.stdout.readline().split()[:3] == ["p", "0/1", "Pending"]
        cluster.says("delete", "pod", "p", "-n", namespace, "--wait=false")
        assert watching.stdout.readline().split()[:3] == ["p", "0/1", "Terminating"]
    finally:
        watching.kill()
        watching.wait()
        watching.stdout.close()
