"""Who gets a sidecar, what it captures, and that the application does not notice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .mesh import Mesh, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

ECHO = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME LABELS}, annotations: {ANNOTATIONS}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: echo
        image: mizzen/echo:1.0
        args: ["--grpc", "0", "--port", "PORT"]
        ports: [{name: web, containerPort: PORT}]
"""
CLIENT = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}, annotations: {ANNOTATIONS}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: curl, image: curlimages/curl, command: [/bin/sleep, infinity]}]
"""
SERVICES = """
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: NodePort
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: http-named, port: 81, targetPort: web}
  selector: {app: echo}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec:
  clusterIP: None
  ports: [{name: http, port: 8080}]
  selector: {app: echo}
---
apiVersion: v1
kind: Service
metadata: {name: greeting}
spec:
  ports: [{name: tcp, port: 9000}]
  selector: {app: greeting}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: greeting}
spec:
  selector: {matchLabels: {app: greeting}}
  template:
    metadata: {labels: {app: greeting}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: tcp-echo, image: "mizzen/tcp-echo:1.0", args: ["9000", hello, --server-first, 220 ready]}
"""
PROBED = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: echo
        image: mizzen/echo:1.0
        args: ["--grpc", "0"]
        PROBE: {periodSeconds: 1, failureThreshold: 2, httpGet: {port: 8080, path: "PATH"}}
"""


def written(template: str, name: str, namespace: str = "default", **more: str) -> str:
    words = {"NAMESPACE": namespace, "NAME": name, "ANNOTATIONS": "", "LABELS": "", "PORT": "8080", **more}
    for word, value in words.items():
        template = template.replace(word, value)
    return template


INJECT = '"sidecar.istio.io/inject": "%s"'
OBJECTS = "".join(
    [
        written(ECHO, "echo"),
        written(ECHO, "label-off", LABELS=", " + INJECT % "false"),
        written(ECHO, "annotation-off", ANNOTATIONS=INJECT % "false"),
        written(ECHO, "label-on", "plain", LABELS=", " + INJECT % "true"),
        written(ECHO, "outside", "plain", PORT="80"),
        written(ECHO, "open", ANNOTATIONS='traffic.sidecar.istio.io/excludeInboundPorts: "8080"'),
        written(CLIENT, "curl"),
        written(CLIENT, "curl", "plain"),
        written(CLIENT, "direct", ANNOTATIONS='traffic.sidecar.istio.io/includeOutboundIPRanges: "10.96.0.10/32"'),
        written(CLIENT, "other-port", ANNOTATIONS='traffic.sidecar.istio.io/excludeOutboundPorts: "80"'),
        written(PROBED, "slow-to-start", PROBE="readinessProbe", PATH="/?fail=2&fail-key=ready"),
        written(PROBED, "sick", PROBE="livenessProbe", PATH="/?fail=99&fail-key=live"),
        SERVICES,
    ]
)


@pytest.fixture(scope="module")
def deployed(mesh: Mesh) -> Iterator[Mesh]:
    mesh.kubectl("create", "namespace", "plain")
    mesh.apply(OBJECTS)
    for name in ("default", "plain"):
        mesh.ready("app!=sick", name)
    eventually(mesh.in_sync)
    yield mesh


def names(mesh: Mesh, app: str, namespace: str = "default") -> list[str]:
    """Of all containers of the one Pod."""
    (pod,) = mesh.pods(f"app={app}", namespace)
    spec = pod["spec"]
    return [one["name"] for one in (*spec.get("initContainers", ()), *spec["containers"])]


def address(mesh: Mesh, app: str, namespace: str = "default") -> str:
    (pod,) = mesh.pods(f"app={app}", namespace)
    return str(pod["status"]["podIP"])


def test_who_gets_a_sidecar(deployed: Mesh) -> None:
    injected = ["istio-init", "istio-proxy", "echo"]
    assert names(deployed, "echo") == injected
    assert names(deployed, "label-on", "plain") == injected
    assert names(deployed, "outside", "plain") == ["echo"]
    assert names(deployed, "label-off") == names(deployed, "annotation-off") == ["echo"]


def comparable(pod: dict[str, Any]) -> dict[str, Any]:
    """Of a Pod what does not differ between two of one Deployment; when a volume was added does not matter."""
    text = re.sub(r"kube-api-access-\w+", "kube-api-access", json.dumps(pod["spec"]))
    spec = json.loads(text)
    spec["volumes"].sort(key=lambda one: one["name"])
    for container in (*spec["initContainers"], *spec["containers"]):
        container["volumeMounts"].sort(key=lambda one: one["mountPath"])
    return {**spec, "annotations": pod["metadata"].get("annotations")}


def test_kube_inject_gives_what_the_webhook_gives_and_never_twice(deployed: Mesh) -> None:
    file = deployed.state.parent / "twin.yaml"
    file.write_text(written(ECHO, "twin"))
    deployed.kubectl("apply", "-f", str(file))
    deployed.ready("app=twin")
    (by_webhook,) = deployed.pods("app=twin")
    deployed.kubectl("delete", "-f", str(file), "--cascade=foreground")
    line = f"kubectl apply -f <({' '.join((*deployed.words, 'kube-inject', '-f', str(file)))})"
    deployed.command("bash", "-c", line)
    deployed.ready("app=twin")
    (by_hand,) = deployed.pods("app=twin")
    assert names(deployed, "twin") == ["istio-init", "istio-proxy", "echo"]
    assert comparable(by_hand) == comparable(by_webhook)
    deployed.kubectl("delete", "-f", str(file))


def inbound_is_captured(mesh: Mesh, app: str) -> bool:
    """Asked from outside the mesh: only a sidecar at the server writes this header."""
    answer = mesh.kubectl(
        "exec", "-n", "plain", "deploy/curl", "--", "curl", "-sS", "-i", f"http://{address(mesh, app)}:8080/"
    )
    assert " 200 OK" in answer
    return "x-envoy-upstream-service-time" in answer.lower()


def outbound_is_captured(mesh: Mesh, client: str) -> bool:
    """Asking an application without sidecar: only a sidecar at the client writes this header."""
    answer = mesh.curl(f"http://{address(mesh, 'outside', 'plain')}/", source=f"deploy/{client}")
    return "x-envoy-attempt-count" in answer or "x-request-id" in answer


def test_annotations_say_what_is_captured(deployed: Mesh) -> None:
    assert inbound_is_captured(deployed, "echo")
    assert not inbound_is_captured(deployed, "open")
    assert outbound_is_captured(deployed, "curl")
    assert not outbound_is_captured(deployed, "direct")
    assert not outbound_is_captured(deployed, "other-port")


def test_probes_reach_the_application(deployed: Mesh) -> None:
    (slow,) = deployed.pods("app=slow-to-start")
    conditions = {one["type"]: one["lastTransitionTime"] for one in slow["status"]["conditions"]}
    assert conditions["Ready"] > conditions["PodScheduled"]
    asked = deployed.curl(f"http://{address(deployed, 'slow-to-start')}:8080/count?key=ready")
    assert '"count": ' in asked and '"count": 0' not in asked

    def restarts() -> int:
        (sick,) = deployed.pods("app=sick")
        statuses = {one["name"]: one["restartCount"] for one in sick["status"]["containerStatuses"]}
        return int(statuses["echo"])

    eventually(restarts, 30)


def test_a_server_that_speaks_first(deployed: Mesh) -> None:
    script = (
        "exec 3<>/dev/tcp/greeting/9000; read -t 5 -r line <&3; echo $line; echo you >&3; read -r line <&3; echo $line"
    )
    assert deployed.exec("deploy/curl", "bash", "-c", script, container="curl") == "220 ready\nhello you\n"


@pytest.mark.parametrize("host", ["echo", "echo:81", "echo.default.svc.cluster.local", "headless:8080"])
def test_services_of_many_kinds(deployed: Mesh, host: str) -> None:
    answer = deployed.curl(f"http://{host}/")
    assert '"x-envoy-attempt-count": "1"' in answer, answer


def test_node_ports(deployed: Mesh) -> None:
    port = deployed.get("service", "echo")["spec"]["ports"][0]["nodePort"]
    assert '"hostname": "echo-' in deployed.outside(f"http://{deployed.mizzen('ip').strip()}:{port}/")


def test_a_service_without_selector(deployed: Mesh) -> None:
    deployed.apply(f"""
apiVersion: v1
kind: Service
metadata: {{name: by-hand}}
spec: {{ports: [{{name: http, port: 8000, targetPort: 80}}]}}
---
apiVersion: v1
kind: Endpoints
metadata: {{name: by-hand}}
subsets: [{{addresses: [{{ip: {address(deployed, "outside", "plain")}}}], ports: [{{name: http, port: 80}}]}}]
""")
    eventually(lambda: '"hostname": "outside-' in deployed.curl("http://by-hand:8000/"))


def answered(mesh: Mesh, url: str) -> str:
    """The answer's status; 000 where there was none."""
    script = f"curl -s -o /dev/null -w '%{{http_code}}' {url}; true"
    return mesh.exec("deploy/curl", "bash", "-c", script, container="curl")


def test_what_is_not_in_the_registry(deployed: Mesh) -> None:
    """On port 80 there are HTTP services, so it is read as HTTP; port 8085 is nobody's."""
    deployed.apply(written(ECHO, "elsewhere", "plain", PORT="8085"))
    deployed.ready("app=elsewhere", "plain")
    web = f"http://{address(deployed, 'outside', 'plain')}/"
    other = f"http://{address(deployed, 'elsewhere', 'plain')}:8085/"
    assert (answered(deployed, web), answered(deployed, other)) == ("200", "200")
    setting = "meshConfig.outboundTrafficPolicy.mode"
    deployed.mizzen("install", "--set", "profile=demo", "--set", f"{setting}=REGISTRY_ONLY", "-y")
    eventually(lambda: answered(deployed, web) == "502")
    eventually(lambda: answered(deployed, other) == "000")
    assert answered(deployed, "http://echo/") == "200"
    deployed.mizzen("install", "--set", "profile=demo", "--set", f"{setting}=ALLOW_ANY", "-y")
    eventually(lambda: (answered(deployed, web), answered(deployed, other)) == ("200", "200"))
