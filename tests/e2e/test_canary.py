"""The tutorial's complete canary: two images, 3 + 1 replicas, and every step under load from inside the mesh."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mizzen.samples import canary

from .mesh import Mesh, within_chance

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

HERE = Path(__file__).parent
DEPLOYMENT = """
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: my-app-v%(number)d
spec:
  replicas: %(replicas)d
  selector:
    matchLabels:
      app: my-app
      version: v%(number)d
  template:
    metadata:
      labels:
        app: my-app
        version: v%(number)d           # Version label!
    spec:
      containers:
        - name: my-app
          image: my-app:%(number)d.0
"""
SERVICE = """
---
apiVersion: v1
kind: Service
metadata:
  name: my-app
spec:
  selector:
    app: my-app               # Matches BOTH v1 and v2
  ports:
    - port: 80
"""
RULES = """
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: my-app-dr
spec:
  host: my-app
  subsets:
    - name: v1
      labels:
        version: v1
    - name: v2
      labels:
        version: v2
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: my-app-vs
spec:
  hosts:
    - my-app
  http:
    - route:
        - destination:
            host: my-app
            subset: v1
          weight: 90          # 90% to v1
        - destination:
            host: my-app
            subset: v2
          weight: 10          # 10% to v2 (canary)
"""
CLIENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: client}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: client, image: "client:1.0"}]}
"""


@pytest.fixture(scope="module")
def deployed(mesh: Mesh) -> Iterator[Mesh]:
    app = Path(canary.__file__).parent
    for version in ("1.0", "2.0"):
        line = f"{sys.executable} app.py {version}"
        mesh.mizzen("image", "add", f"my-app:{version}", "--command", line, "--workdir", str(app))
    mesh.mizzen("image", "add", "client:1.0", "--command", "sleep infinity", "--workdir", str(HERE))
    canary_parts = (DEPLOYMENT % {"number": 1, "replicas": 3}, DEPLOYMENT % {"number": 2, "replicas": 1})
    mesh.apply("".join((*canary_parts, SERVICE, RULES)))
    mesh.apply(CLIENT)
    mesh.ready()
    mesh.in_force("destinationrule/my-app-dr", "virtualservice/my-app-vs")
    yield mesh


def loaded(mesh: Mesh, seconds: int) -> tuple[int, int]:
    """How often v1 and v2 answered a load; nothing may have failed."""
    words = (sys.executable, "load.py", "http://my-app/", "--seconds", str(seconds), "--count", r'"version": "\d')
    report = json.loads(mesh.exec("deploy/client", *words, container="client").splitlines()[-1])
    print(report)
    assert report["failed"] == 0, report
    seen = report["versions"]
    first, second = seen.get('"version": "1', 0), seen.get('"version": "2', 0)
    assert first + second == report["sent"] == 200 * seconds
    return first, second


def weigh(mesh: Mesh, first: int, second: int) -> None:
    mesh.apply(RULES.replace("weight: 90 ", f"weight: {first} ").replace("weight: 10 ", f"weight: {second} "))
    mesh.in_force("virtualservice/my-app-vs")


@pytest.mark.parametrize(("first", "second"), [(90, 10), (75, 25), (50, 50)])
def test_each_step_gives_its_share_whatever_the_replicas(deployed: Mesh, first: int, second: int) -> None:
    weigh(deployed, first, second)
    seen = loaded(deployed, 5)
    assert within_chance(seen[1], sum(seen), second / 100), seen


def test_the_last_step_leaves_the_first_version_nothing(deployed: Mesh) -> None:
    weigh(deployed, 0, 100)
    assert loaded(deployed, 3)[0] == 0


def test_the_steps_are_taken_under_load_and_nothing_fails(deployed: Mesh) -> None:
    weigh(deployed, 90, 10)
    script = f"{sys.executable} load.py http://my-app/ --seconds 600 & echo $! > /tmp/load; wait"
    with deployed.running("exec", "deploy/client", "-c", "client", "--", "bash", "-c", script) as process:
        assert process.stdout and process.stdout.readline() == "started\n"
        for first, second in ((75, 25), (50, 50), (0, 100)):
            weigh(deployed, first, second)
        deployed.kubectl("scale", "deployment/my-app-v1", "--replicas=0")
        deployed.kubectl("wait", "--for=delete", "pod", "-l", "app=my-app,version=v1", "--timeout=60s")
        deployed.exec("deploy/client", "bash", "-c", "kill $(cat /tmp/load)", container="client")
        report = json.loads(process.stdout.read())
    print(report)
    assert report["failed"] == 0 and report["sent"] > 300, report
