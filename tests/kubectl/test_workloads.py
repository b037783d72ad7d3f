"""Workloads as kubectl sees them: the real API server and controllers, and a node that only says that Pods run."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mizzen.embedded.apiserver.pki_files import Pki, kubeconfig
from mizzen.kube import api as kube
from mizzen.kube.http import HttpApi

KUBECTL = shutil.which("kubectl")
pytestmark = [pytest.mark.process, pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on PATH")]
KNOWN = kube.WELL_KNOWN
PODS = KNOWN.pods


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "kubeconfig"
        self.api: HttpApi
        self._process: asyncio.subprocess.Process
        self._node: asyncio.Task[None]
        self._addresses = itertools.count(10)

    async def start(self) -> None:
        port = self.folder / "port"
        arguments = ("--state", str(self.folder / "state"), "--port", "0", "--port-file", str(port))
        with (self.folder / "log").open("wb") as log:
            command = [sys.executable, "-m", "mizzen.embedded.apiserver", *arguments]
            self._process = await asyncio.create_subprocess_exec(*command, stderr=log)
        async with asyncio.timeout(20):
            while not port.exists():
                assert self._process.returncode is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.02)
        server = f"https://127.0.0.1:{port.read_text()}"
        self.config.write_text(kubeconfig(Pki(self.folder / "state" / "pki"), server))
        self.api = HttpApi.from_kubeconfig(self.config)
        node = {"metadata": {"name": "mizzen"}, "spec": {}}
        await self.api.create(KNOWN.nodes, node)
        self._node = asyncio.create_task(self._play_node())

    async def stop(self) -> None:
        self._node.cancel()
        await asyncio.gather(self._node, return_exceptions=True)
        await self.api.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()

    async def kubectl(self, *arguments: str, given: str = "") -> str:
        assert KUBECTL is not None
        environment = {**os.environ, "KUBECONFIG": str(self.config), "HOME": str(self.folder)}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            KUBECTL, *arguments, env=environment, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(given.encode()), 40)
        assert process.returncode == 0, output.decode()
        return output.decode().strip()

    async def _play_node(self) -> None:
        async for event in self.api.watch(PODS):
            if event.type in ("ADDED", "MODIFIED"):
                await self._look_after(event.object)

    async def _look_after(self, pod: kube.JSON) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        try:
            if "deletionTimestamp" in pod["metadata"]:
                await self.api.delete(PODS, name, namespace, grace_seconds=0)
            elif "podIP" not in pod["status"]:
                status = self._status(pod)
                await self.api.patch(PODS, name, {"status": status}, namespace, subresource="status")
        except kube.NotFound:
            return

    def _status(self, pod: kube.JSON) -> kube.JSON:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": stamp}
        over = pod["spec"]["restartPolicy"] != "Always"
        conditions = [*pod["status"].get("conditions", ()), *([] if over else [ready])]
        address = f"10.244.0.{next(self._addresses) % 250}"
        return {"phase": "Succeeded" if over else "Running", "podIP": address, "conditions": conditions}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_a_deployments_life(cluster: Cluster) -> None:
    """Apply, wait, scale, update, history, undo, restart, and the three ways to delete."""
    kubectl = cluster.kubectl
    await kubectl("create", "deployment", "web", "--image=app:1", "--replicas=2")
    waited = await kubectl("wait", "--for=condition=ready", "pod", "--all", "--timeout=20s")
    assert waited.count("condition met") == 2
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    await kubectl("scale", "deploy/web", "--replicas=4")
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    await kubectl("set", "image", "deploy/web", "app=app:2")
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    history = await kubectl("rollout", "history", "deploy/web")
    assert [line.split()[0] for line in history.splitlines()[2:]] == ["1", "2"]
    await kubectl("rollout", "undo", "deploy/web")
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    images = await kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}")
    assert set(images.split()) == {"app:1"} and len(images.split()) == 4
    await kubectl("rollout", "restart", "deploy/web")
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/web", "--timeout=20s")
    history = await kubectl("rollout", "history", "deploy/web")
    assert [line.split()[0] for line in history.splitlines()[2:]] == ["2", "3", "4"]
    assert "ScalingReplicaSet" in await kubectl("describe", "deploy/web")
    await kubectl("delete", "deploy/web", "--cascade=orphan")
    assert len((await kubectl("get", "rs", "-o", "name")).split()) == 3
    await kubectl("delete", "rs", "--all", "--cascade=foreground", "--timeout=20s")
    assert await kubectl("get", "pods", "-o", "name") == ""


JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: app}]
"""
STATEFUL = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: c, image: app}]
      volumes: [{name: other, emptyDir: {}}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers: [{name: c, image: app}]
"""


async def test_the_other_workloads_and_the_namespaces_end(cluster: Cluster) -> None:
    kubectl = cluster.kubectl
    await kubectl("create", "namespace", "shop")
    await kubectl("apply", "-n", "shop", "-f", "-", given=JOB)
    assert "condition met" in await kubectl(
        "wait", "-n", "shop", "--for=condition=complete", "job/once", "--timeout=20s"
    )
    selector = await kubectl("get", "-n", "shop", "job/once", "-o", "jsonpath={.spec.selector.matchLabels}")
    labels = await kubectl("get", "-n", "shop", "pods", "-o", "jsonpath={.items[0].metadata.labels}")
    assert json.loads(selector).items() <= json.loads(labels).items()
    await kubectl("apply", "-n", "shop", "-f", "-", given=STATEFUL)
    assert "complete" in await kubectl("rollout", "status", "-n", "shop", "sts/db", "--timeout=20s")
    assert "success" in await kubectl("rollout", "status", "-n", "shop", "ds/agent", "--timeout=20s")
    claims = await kubectl("get", "pvc", "-n", "shop", "-o", "jsonpath={.items[*].status.phase}")
    assert claims.split() == ["Bound", "Bound"]
    await kubectl("create", "service", "clusterip", "-n", "shop", "db", "--tcp=80")
    addresses = await kubectl("get", "endpoints", "-n", "shop", "db", "-o", "jsonpath={.subsets[0].addresses[*].ip}")
    assert len(addresses.split()) == 2
    await kubectl("delete", "namespace", "shop", "--timeout=20s")
    left = await kubectl("get", "pods,pvc,rs,deploy,sts,jobs,svc,endpointslices,events", "-n", "shop", "-o", "name")
    assert left == ""
