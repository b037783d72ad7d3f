"""VirtualService edits on a running cluster: from the watch event in istiod to the last proxy's acknowledgement.

The API server sends the event before it answers the writer: this is what remains after the answer, and a little more.
The proxies are the Envoys of the demo: two gateways and Bookinfo.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from measuring import Row, spread, tell
from private_cluster import Machine, machine

from mizzen.controlplane.watching import MESH_KINDS
from mizzen.explain.reach import http_get
from mizzen.kube.api import WELL_KNOWN, Selector
from mizzen.kube.http import HttpApi

VIRTUAL_SERVICES = next(one for one in MESH_KINDS.values() if one.kind == "VirtualService")
METRIC = "pilot_proxy_convergence_time"


class Istiod:
    def __init__(self, api: HttpApi, pod: str) -> None:
        self._api, self._pod = api, pod

    async def converged(self) -> tuple[int, float]:
        """How many changes all proxies have acknowledged, and the seconds of all together."""
        text = await http_get(self._api, "istio-system", self._pod, 15014, "/metrics")
        text = text.decode() if isinstance(text, bytes) else text
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(METRIC))
        return int(found[f"{METRIC}_count"]), float(found[f"{METRIC}_sum"])


async def edited(own: Machine, edits: int) -> list[Row]:
    api = HttpApi.from_kubeconfig(own.kubeconfig)
    try:
        pods = await api.list(WELL_KNOWN.pods, "istio-system", Selector(labels="app=istiod"))
        istiod = Istiod(api, pods.items[0]["metadata"]["name"])
        found, replies = [], []
        for number in range(edits):
            count, total = await istiod.converged()
            patch = [{"op": "add", "path": "/spec/http/0/timeout", "value": f"{number % 50 + 5}s"}]
            start = time.perf_counter()
            await api.patch(VIRTUAL_SERVICES, "bookinfo", patch, "default", type="json")
            replies.append(time.perf_counter() - start)
            async with asyncio.timeout(20):
                while (now := await istiod.converged())[0] == count:  # noqa: ASYNC110 - the condition is istiod's
                    await asyncio.sleep(0.01)
            found.append((now[1] - total) / (now[0] - count))
    finally:
        await api.close()
    return [*spread("VirtualService edit to the last ACK", found, 100), *spread("the write itself", replies)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with machine() as own:
        own.mizzen("demo")
        rows = asyncio.run(edited(own, asked.edits))
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
