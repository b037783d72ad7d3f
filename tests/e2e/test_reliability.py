"""200 requests a second through the gateway, over kept and over new connections, GET and POST, while something dies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from .mesh import Mesh, eventually, load

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

WORKLOAD = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: echo}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: ["*"]
  gateways: [echo]
  http: [{route: [{destination: {host: echo}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  ports: [{name: http, port: 80, targetPort: 8080}]
  selector: {app: echo}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 3
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec: {containers: [{name: echo, image: "mizzen/echo:1.0", args: ["--grpc", "0"]}]}
"""
SMALL = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: small, namespace: plain}
spec:
  selector: {matchLabels: {app: small}}
  template:
    metadata: {labels: {app: small}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: small, image: "mizzen/sleep:1.0"}]}
"""


@pytest.fixture(scope="module")
def url(mesh: Mesh) -> Iterator[str]:
    mesh.apply(WORKLOAD)
    mesh.kubectl("rollout", "status", "deployment/echo", "--timeout=60s")
    mesh.in_force("gateway/echo", "virtualservice/echo")
    yield mesh.gateway()


def under_load(url: str, happening: Callable[[], None], seconds_after: float = 2.0) -> None:
    """Nothing of it may be felt: not when it happens, nor in the seconds after it is over."""
    with load(url) as reports:
        happening()
        time.sleep(seconds_after)
    (report,) = reports
    print(report)
    assert report.failed == 0, report
    assert report.sent > 200 * seconds_after


def test_istiod_is_killed_and_resends_nothing(mesh: Mesh, url: str) -> None:
    # The egress gateway is left out: it holds no listener, so it cannot say that it holds none since before.
    pods = [*mesh.pods("app=echo"), *mesh.pods("app=istio-ingressgateway", "istio-system")]
    proxies = {pod["metadata"]["name"]: pod["metadata"]["namespace"] for pod in pods}
    assert len(proxies) == 4

    def updates() -> dict[str, dict[str, int]]:
        return {
            pod: mesh.stats(pod, "(cds|lds|rds.*|eds).update_success|^cluster.outbound.*update_success", namespace)
            for pod, namespace in proxies.items()
        }

    def restarted() -> None:
        mesh.killed(lambda: mesh.container("istiod", "discovery"))
        mesh.ready("app=istiod", "istio-system")
        eventually(lambda: mesh.in_sync(len(proxies) + 1))

    before = updates()
    under_load(url, restarted)
    assert any(before.values())
    assert updates() == before


def test_a_deployment_is_restarted_three_times(mesh: Mesh, url: str) -> None:
    def restarted() -> None:
        for _ in range(3):
            mesh.kubectl("rollout", "restart", "deployment/echo")
            mesh.kubectl("rollout", "status", "deployment/echo", "--timeout=60s")

    under_load(url, restarted, seconds_after=4)


def test_the_node_is_killed(mesh: Mesh, url: str) -> None:
    before = {pod["metadata"]["name"] for pod in mesh.pods("app=echo")}

    def restarted() -> None:
        mesh.killed(lambda: mesh.daemon("mizzen.embedded.node"))
        eventually(lambda: mesh.succeeds("kubectl", "exec", "deploy/echo", "-c", "echo", "--", "true"))

    if os.geteuid() == 0:
        under_load(url, restarted)
    else:
        restarted()  # what comes from the machine is relayed by an ordinary user's node itself, and dies with it
    pods = mesh.pods("app=echo")
    assert {pod["metadata"]["name"] for pod in pods} == before
    assert all(one["restartCount"] == 0 for pod in pods for one in pod["status"]["containerStatuses"])


def test_the_api_server_is_killed(mesh: Mesh, url: str) -> None:
    def restarted() -> None:
        mesh.killed(lambda: mesh.daemon("mizzen.embedded.apiserver"))
        mesh.kubectl("rollout", "restart", "deployment/echo")
        mesh.kubectl("rollout", "status", "deployment/echo", "--timeout=60s")

    under_load(url, restarted)


def test_the_gateway_is_restarted(mesh: Mesh, url: str) -> None:
    def restarted() -> None:
        mesh.kubectl("rollout", "restart", "deployment/istio-ingressgateway", "-n", "istio-system")
        mesh.kubectl("rollout", "status", "deployment/istio-ingressgateway", "-n", "istio-system", "--timeout=60s")

    under_load(url, restarted, seconds_after=7)


def test_apply_followed_at_once_by_wait(mesh: Mesh) -> None:
    mesh.kubectl("create", "namespace", "plain")
    for _ in range(50):
        mesh.apply(SMALL)
        mesh.kubectl("wait", "--for=condition=ready", "pod", "--all", "-n", "plain", "--timeout=60s")
        mesh.kubectl("delete", "deployment", "small", "-n", "plain", "--cascade=foreground")
