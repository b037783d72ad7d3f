"""The embedded API server with durability on: writes, lists, watch fan-out, and a Pod until it runs; the same among
many objects.

Creates are those of a server that has just started, as the first thousand find it, and the next.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import time
from collections.abc import Sequence

import uvloop
from measuring import Row, percentile, spread, tell
from node import weights
from private_cluster import Machine, machine

from mizzen.kube.api import WELL_KNOWN, AlreadyExists, Selector
from mizzen.kube.http import HttpApi

NAMESPACE = "default"
MANY = 10_000
JSON = dict[str, object]


def config_map(name: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x" * 1024}}


async def creates(own: Machine, names: Sequence[str], connections: int) -> float:
    """Per second, each from a client of its own that waits for every answer."""
    clients = [HttpApi.from_kubeconfig(own.kubeconfig) for _ in range(connections)]

    async def work(number: int, api: HttpApi) -> None:
        for name in names[number::connections]:
            await api.create(WELL_KNOWN.configmaps, config_map(name), NAMESPACE)

    await asyncio.gather(*(api.get(WELL_KNOWN.namespaces, NAMESPACE) for api in clients))
    start = time.perf_counter()
    await asyncio.gather(*(work(number, api) for number, api in enumerate(clients)))
    took = time.perf_counter() - start
    await asyncio.gather(*(api.close() for api in clients))
    return len(names) / took


async def pages(api: HttpApi, size: int) -> list[float]:
    """Seconds of each page of the whole collection, read once, while somebody else writes into it."""
    found, seen, token = [], 0, ""
    while True:
        start = time.perf_counter()
        path = f"{WELL_KNOWN.configmaps.path(NAMESPACE)}?limit={size}&continue={token}"
        page = await api.raw("GET", path)
        found.append(time.perf_counter() - start)
        seen += len(page["items"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert page["metadata"]["remainingItemCount"] > 0
        await api.create(WELL_KNOWN.configmaps, config_map(f"between-{len(found)}-{time.time_ns()}"), NAMESPACE)
    assert seen >= MANY
    return found


async def first_sight(api: HttpApi) -> float:
    """Seconds until a watch from the present state has told of every object."""
    start = time.perf_counter()
    seen = 0
    async for event in api.watch(WELL_KNOWN.configmaps, NAMESPACE):
        seen += event.type == "ADDED"
        if seen >= MANY:
            break
    return time.perf_counter() - start


async def among_many(own: Machine, api: HttpApi) -> list[Row]:
    await creates(own, [f"m-{number}" for number in range(MANY)], 16)
    rate = await creates(own, [f"n-{number}" for number in range(1000)], 16)
    read = await pages(api, 500)
    listed = [one * 1e3 for one in await lists(api, 5)]
    sizes = weights(own)
    return [
        Row(f"creates among {MANY:,}", rate, "/s"),
        Row("a list of them in pages of 500, with a write between pages", sum(read) * 1e3, "ms"),
        *spread("one of these pages", read),
        Row("a list of them at once, p50", percentile(listed, 0.5), "ms"),
        Row("a watch that begins with them", await first_sight(api) * 1e3, "ms"),
        *spread(f"write to each of 100 watchers, among {MANY:,}", await fan_out(api, 100, 20)),
        *(Row(f"{name} then (PSS)", sizes[name], "MB") for name in ("API server and controllers", "node")),
    ]


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
    gc.collect()
    gc.freeze()  # or looking through what we have read before would be part of what we measure

    async def watch() -> None:
        selector = Selector(fields="metadata.name=watched")
        async for event in api.watch(WELL_KNOWN.configmaps, NAMESPACE, selector):
            if event.type != "BOOKMARK":
                seen.put_nowait((event.object["data"].get("round", ""), time.perf_counter()))

    with contextlib.suppress(AlreadyExists):
        await api.create(WELL_KNOWN.configmaps, config_map("watched"), NAMESPACE)
    tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
    for _ in tasks:
        await seen.get()
    found = []
    await api.get(WELL_KNOWN.configmaps, "watched", NAMESPACE)  # the watches took every connection: have one to write
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
    cold = await creates(own, [f"c-{number}" for number in range(asked.creates)], 16)
    api = HttpApi.from_kubeconfig(own.kubeconfig)
    try:
        listed = [one * 1e3 for one in await lists(api, 20)]
        warm = await creates(own, [f"d-{number}" for number in range(asked.creates)], 16)
        return [
            Row("creates of 1 KB ConfigMaps from 16 connections", cold, "/s", 1000, at_least=True),
            Row("the next as many", warm, "/s", 1000, at_least=True),
            Row(f"list of {asked.creates:,} objects, p50", percentile(listed, 0.5), "ms", 30),
            *spread("write to each of 100 watchers", await fan_out(api, 100, 20), 20),
            *spread("Pod created until Running", await pod_starts(api, 10)),
            *await among_many(own, api),
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
        rows = uvloop.run(measured(own, asked))
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
