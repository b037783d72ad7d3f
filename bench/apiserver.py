"""The embedded API server with durability on: writes, lists, watch fan-out, and a Pod until it runs."""

from __future__ import annotations

import argparse
import asyncio
import time

from measuring import Row, percentile, spread, tell
from private_cluster import Machine, machine

from mizzen.kube.api import WELL_KNOWN, Selector
from mizzen.kube.http import HttpApi

NAMESPACE = "default"
JSON = dict[str, object]


def config_map(name: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x" * 1024}}


async def creates(own: Machine, count: int, connections: int) -> float:
    """Per second, each from a client of its own that waits for every answer."""
    clients = [HttpApi.from_kubeconfig(own.kubeconfig) for _ in range(connections)]

    async def work(number: int, api: HttpApi) -> None:
        for each in range(number, count, connections):
            await api.create(WELL_KNOWN.configmaps, config_map(f"c-{each}"), NAMESPACE)

    await asyncio.gather(*(api.list(WELL_KNOWN.configmaps, NAMESPACE) for api in clients))
    start = time.perf_counter()
    await asyncio.gather(*(work(number, api) for number, api in enumerate(clients)))
    took = time.perf_counter() - start
    await asyncio.gather(*(api.close() for api in clients))
    return count / took


async def lists(api: HttpApi, rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        listing = await api.list(WELL_KNOWN.configmaps, NAMESPACE)
        found.append(time.perf_counter() - start)
        assert len(listing.items) >= 1000
    return found


async def fan_out(api: HttpApi, watchers: int, rounds: int) -> list[float]:
    """Seconds from a write's beginning until each of many watchers has seen it."""
    seen: asyncio.Queue[tuple[str, float]] = asyncio.Queue()

    async def watch() -> None:
        selector = Selector(fields="metadata.name=watched")
        async for event in api.watch(WELL_KNOWN.configmaps, NAMESPACE, selector):
            if event.type != "BOOKMARK":
                seen.put_nowait((event.object["data"].get("round", ""), time.perf_counter()))

    await api.create(WELL_KNOWN.configmaps, config_map("watched"), NAMESPACE)
    tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
    for _ in tasks:
        await seen.get()
    found = []
    for number in range(rounds):
        start = time.perf_counter()
        await api.patch(WELL_KNOWN.configmaps, "watched", {"data": {"round": str(number)}}, NAMESPACE)
        for _ in tasks:
            text, when = await asyncio.wait_for(seen.get(), 10)
            assert text == str(number)
            found.append(when - start)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found


async def pod_starts(api: HttpApi, rounds: int) -> list[float]:
    found = []
    for number in range(rounds):
        name = f"p-{number}"
        spec = {"containers": [{"name": "app", "image": "curlimages/curl", "command": ["sleep", "60"]}]}
        start = time.perf_counter()
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        await api.create(WELL_KNOWN.pods, pod, NAMESPACE)
        selector = Selector(fields=f"metadata.name={name}")
        async for event in api.watch(WELL_KNOWN.pods, NAMESPACE, selector):
            if event.object.get("status", {}).get("phase") == "Running":
                break
        found.append(time.perf_counter() - start)
        await api.delete(WELL_KNOWN.pods, name, NAMESPACE, grace_seconds=0)
    return found


async def measured(own: Machine, asked: argparse.Namespace) -> list[Row]:
    rate = await creates(own, asked.creates, 16)
    api = HttpApi.from_kubeconfig(own.kubeconfig)
    try:
        listed = [one * 1e3 for one in await lists(api, 20)]
        return [
            Row("creates of 1 KB ConfigMaps from 16 connections", rate, "/s"),
            Row(f"list of {asked.creates:,} objects, p50", percentile(listed, 0.5), "ms"),
            *spread("write to each of 100 watchers", await fan_out(api, 100, 20)),
            *spread("Pod created until Running", await pod_starts(api, 10)),
        ]
    finally:
        await api.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--creates", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with machine() as own:
        own.mizzen("cluster", "start")
        rows = asyncio.run(measured(own, asked))
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
