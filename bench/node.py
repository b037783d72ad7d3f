"""The node: one Pod from create to Running, a hundred at once, and what API server and node weigh when idle."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from measuring import Row, spread, tell
from private_cluster import Machine, machine
from start_up import kind

from mizzen.embedded.memory import descendants, pss_bytes
from mizzen.kube.api import WELL_KNOWN, Selector
from mizzen.kube.http import HttpApi

NAMESPACE = "default"
IMAGE = "docker.io/kong/httpbin"
"""Of our own images: a fork of init, as istiod and the samples are."""
JSON = dict[str, object]


def pod_spec() -> JSON:
    return {"containers": [{"name": "app", "image": IMAGE}], "terminationGracePeriodSeconds": 0}


async def one_pod(api: HttpApi, name: str) -> float:
    """Seconds from the request to create it until a watch says that it runs."""
    begun = time.perf_counter()
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec()}
    await api.create(WELL_KNOWN.pods, pod, NAMESPACE)
    async for event in api.watch(WELL_KNOWN.pods, NAMESPACE, Selector(fields=f"metadata.name={name}")):
        if (event.object.get("status") or {}).get("phase") == "Running":
            break
    took = time.perf_counter() - begun
    await api.delete(WELL_KNOWN.pods, name, NAMESPACE, grace_seconds=0)
    return took


async def many_pods(api: HttpApi, count: int) -> float:
    """Seconds until a Deployment of so many has as many that are ready."""
    labels = {"app": "many"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    spec = {"replicas": count, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"}, "spec": spec}
    begun = time.perf_counter()
    await api.create(WELL_KNOWN.deployments, deployment, NAMESPACE)
    async for event in api.watch(WELL_KNOWN.deployments, NAMESPACE):
        if (event.object.get("status") or {}).get("readyReplicas") == count:
            break
    return time.perf_counter() - begun


def weights(own: Machine) -> dict[str, float]:
    """MB of proportional set size by kind of process."""
    found: dict[str, float] = {}
    for pid in descendants(json.loads((own.state / "box.json").read_text())["pid"]):
        found[kind(pid)] = found.get(kind(pid), 0.0) + pss_bytes(pid) / 2**20
    return found


async def measured(own: Machine, asked: argparse.Namespace) -> list[Row]:
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api:
        await one_pod(api, "first")
        idle = weights(own)
        ours = [idle[name] for name in ("API server and controllers", "node")]
        single = [await one_pod(api, f"p-{number}") for number in range(asked.rounds)]
        many = await many_pods(api, asked.pods)
    return [
        *spread("Pod of a forked image, created until Running", single),
        Row(f"{asked.pods} such Pods of one Deployment, created until all are ready", many, "s", 15),
        Row("idle API server and node (PSS)", sum(ours), "MB", 150),
        *(Row(f"  {name}", size, "MB") for name, size in idle.items()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with machine() as own:
        own.mizzen("cluster", "start")
        rows = asyncio.run(measured(own, asked))
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
