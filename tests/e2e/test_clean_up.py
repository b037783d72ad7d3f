"""Nothing is left on the machine, however a cluster ends; and two of them do not know of each other."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2.nftables.main import NFTables

from mizzen.embedded.box.cgroups import hierarchy

from .mesh import Mesh, eventually, load

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

CRASHES = 2
KERNEL_SECONDS = 30.0
"""A network namespace whose connections were cut in their midst stays until the kernel gives up on them."""
ECHO = """
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: NodePort
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: NODE_PORT}]
  selector: {app: echo}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - {name: echo, image: "mizzen/echo:1.0", args: ["--grpc", "0"], env: [{name: SERVICE_VERSION, value: EDITION}]}
---
apiVersion: v1
kind: Pod
metadata: {name: curl}
spec: {containers: [{name: curl, image: curlimages/curl, command: [/bin/sleep, infinity]}]}
"""


@pytest.fixture
def mesh(home: Path, environment: dict[str, str]) -> Iterator[Mesh]:
    found = Mesh(home, environment)
    yield found
    found.mizzen("cluster", "delete")


def processes(home: Path) -> dict[int, str]:
    """Those that name the home in their command line or environment; a box's own call themselves after its state."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if os.fsencode(home) in words:
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def inside(box: int) -> set[int]:
    """Every process of the box, as the machine numbers them."""
    found, fresh = set(), {box}
    while fresh:
        found |= fresh
        fresh = {int(child) for pid in fresh for child in children(pid)}
    return found


def children(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


def interfaces() -> set[str]:
    with IPRoute() as route:
        return {str(link.get_attr("IFLA_IFNAME")) for link in route.get_links()}


def rules() -> list[str]:
    with NFTables() as nft:
        return sorted(str(table.get_attr("NFTA_TABLE_NAME")) for table in nft.get_tables())


def mounts(home: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(home) in line]


def cgroups(mesh: Mesh) -> list[Path]:
    known = hierarchy(mesh.state)
    return [folder for folder in known.folders.values() if folder.exists()] if known else []


def nothing_runs(inner: set[int], home: Path) -> None:
    eventually(lambda: not alive(inner))
    eventually(lambda: not processes(home))
    assert not mounts(home)


def box_of(mesh: Mesh) -> dict[str, str | int]:
    with contextlib.suppress(FileNotFoundError):
        return dict(json.loads((mesh.state / "box.json").read_text()))
    return {}


def state_of(mesh: Mesh) -> str:
    """Why a cluster does not come up: its Pods, and what the node last said."""
    pods = mesh.kubectl("get", "pods", "-A", "-o", "yaml")
    return pods + (mesh.state / "logs" / "node.log").read_text()[-5000:]


def test_down_leaves_nothing(mesh: Mesh, home: Path) -> None:
    before = rules()
    mesh.mizzen("up")
    box = box_of(mesh)
    inner = inside(int(box["pid"]))
    assert len(inner) > 10 and (os.geteuid() != 0 or box["interface"] in interfaces())
    assert rules() == before
    mesh.mizzen("down")
    nothing_runs(inner, home)
    assert box.get("interface") not in interfaces()
    assert rules() == before and not cgroups(mesh)
    assert "Stopped" in mesh.mizzen("cluster", "status", code=1)


def test_whatever_dies_while_it_comes_up_leaves_nothing(mesh: Mesh, home: Path) -> None:
    before, chance = rules(), random.Random()
    for victim in ["command", "box"] * CRASHES:
        pause, begun = chance.uniform(0, 6), time.monotonic()
        print(f"{victim} is killed after {pause:.2f} s")
        (mesh.state / "box.json").unlink(missing_ok=True)
        with subprocess.Popen(
            [*mesh.words, "up"], env=mesh.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as up:
            box = eventually(lambda: box_of(mesh), every=0.002)
            time.sleep(pause)
            inner = inside(int(box["pid"]))
            os.kill(int(box["pid"]) if victim == "box" else up.pid, signal.SIGKILL)
            assert up.stdout
            said = up.stdout.read() if victim == "box" else ""
            code = up.wait(60)
        if victim == "box":
            assert (code and "Error" in said) or "Installation complete" in said, (code, said)
        else:
            mesh.mizzen("down")
            assert box.get("interface") not in interfaces()
        nothing_runs(inner, home)
        print(f"… exit {code} at {time.monotonic() - begun:.1f} s: {said.splitlines()[-2:]}")
    eventually(lambda: box.get("interface") not in interfaces(), KERNEL_SECONDS)
    assert rules() == before
    assert mesh.succeeds("timeout", "60", *mesh.words, "up"), state_of(mesh)


def node_port(mesh: Mesh) -> str:
    """Clusters of an ordinary user answer at one address, so that they must not want the same port."""
    return "30080" if os.geteuid() == 0 or mesh.name == "one" else "30081"


def answers(mesh: Mesh) -> set[str]:
    """Who answers inside, and who at the node port, to twenty calls each."""
    inner = mesh.exec("pod/curl", "curl", "-sS", "http://echo/?n=[1-20]", container="curl")
    outer = mesh.outside(f"http://{mesh.mizzen('ip').strip()}:{node_port(mesh)}/?n=[1-20]")
    return {line.split('"')[3] for line in (inner + outer).splitlines() if '"version"' in line}


def test_two_clusters_do_not_know_of_each_other(home: Path, environment: dict[str, str]) -> None:
    one, two = Mesh(home, environment, "one"), Mesh(home, environment, "two")

    def brought_up(mesh: Mesh) -> None:
        mesh.mizzen("up")
        mesh.kubectl("label", "namespace", "default", "istio-injection=enabled")
        mesh.apply(ECHO.replace("EDITION", mesh.name).replace("NODE_PORT", node_port(mesh)))
        mesh.ready()

    try:
        with ThreadPoolExecutor() as both:
            list(both.map(brought_up, (one, two)))
        assert (answers(one), answers(two)) == ({"one"}, {"two"})
        assert os.geteuid() != 0 or one.mizzen("ip") != two.mizzen("ip")
        with load(f"http://{two.mizzen('ip').strip()}:{node_port(two)}/") as reports:
            one.mizzen("cluster", "delete")
            time.sleep(2)
        assert reports[0].failed == 0 and reports[0].sent > 400, reports
        assert answers(two) == {"two"}
    finally:
        one.mizzen("cluster", "delete")
        two.mizzen("cluster", "delete")
    eventually(lambda: not processes(home))
