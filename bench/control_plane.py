"""The control plane at its scale target: a thousand proxies, a thousand services, every proxy sees the whole mesh.

The real `mizzen.controlplane` in one process, with an in-memory cluster as its Kubernetes API; the proxies, simulated,
in another (`simulated_proxies.py`), over mutual TLS. `--envoys N` adds real ones. From the write to the API until the
last proxy's acknowledgement is one latency.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from measuring import PYTHON, ROOT, Row, cpu_seconds, quiet_environment, resident_megabytes, spread, tell
from mesh_objects import JSON, Size, endpoint_slice, everything, virtual_service

from mizzen.ads.server import Stream
from mizzen.agent.bootstrap import stats_config
from mizzen.agent.certificates import KeyPair
from mizzen.agent.sds import Secrets, serve_secrets
from mizzen.ca.authority import Root, join, new_key, private_key_pem, sign_workload, signing_request
from mizzen.ca.spiffe import Identity
from mizzen.controlplane.app import ControlPlane, Ports, Settings
from mizzen.controlplane.histogram import Histogram
from mizzen.controlplane.watching import CORE_KINDS, MESH_KINDS
from mizzen.install.manifests import manifests
from mizzen.install.options import read_options
from mizzen.install.types import resource_of
from mizzen.kube.api import WELL_KNOWN, Resource
from mizzen.kube.memory import MemoryApi

sys.path.insert(0, str(ROOT / "tests"))
import own_network
from envoys import bootstrap, envoy, upstream_tls

VIRTUAL_SERVICES = next(one for one in MESH_KINDS.values() if one.kind == "VirtualService")
PATIENCE = 240.0
_fresh = itertools.count(1)
"""No two changes are alike."""


class Acknowledged(Histogram):
    """Tells whoever waits that a change has reached all proxies."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    def observe(self, value: float) -> None:
        super().observe(value)
        self.reached.set()


class Proxies:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def report(self) -> dict[str, int]:
        """What they received so far: responses, resources, bytes, connects."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(b"report\n")
        found: dict[str, int] = json.loads(await self._process.stdout.readline())
        return found


def _resource(obj: JSON) -> Resource:
    known = {one.kind: one for one in (*MESH_KINDS.values(), *CORE_KINDS.values())}
    return known.get(obj["kind"]) or resource_of(obj["apiVersion"], obj["kind"])


async def cluster(size: Size) -> MemoryApi:
    api = MemoryApi()
    for obj in [*manifests(read_options(["profile=minimal"])), *everything(size)]:
        await api.create(_resource(obj), obj, obj["metadata"].get("namespace"))
    api.compact()
    return api


@asynccontextmanager
async def istiod(api: MemoryApi, ports: Ports) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(Settings(host="127.0.0.1", ports=ports), api)
    plane.fleet.latency = Acknowledged()
    work = asyncio.create_task(plane.run())
    try:
        await _until(lambda: plane.serving.is_set() or work.done())
        yield plane
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _until(condition: Callable[[], bool], pause: float = 0.02) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is somebody else's state
            await asyncio.sleep(pause)


def certificate(root: Root, namespace: str) -> dict[str, str]:
    key = new_key()
    identity = Identity("cluster.local", namespace, "default")
    csr, serial = signing_request(key, str(identity)), secrets.randbits(64)
    chain = sign_workload(root, csr, identity, datetime.now(UTC), timedelta(hours=1), serial)
    return {"key": private_key_pem(key).decode(), "chain": "".join(chain), "root": join(root.trusted)}


def node_id(size: Size, number: int, replica: int) -> str:
    namespace = size.namespace(number)
    return f"sidecar~10.0.0.1~svc-{number}-{replica}.{namespace}~{namespace}.svc.cluster.local"


@asynccontextmanager
async def proxies(size: Size, count: int, port: int, certificates: list[dict[str, str]]) -> AsyncIterator[Proxies]:
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        str(ROOT / "bench" / "simulated_proxies.py"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=quiet_environment(),
    )
    try:
        asked = [
            {
                "node": node_id(size, number % size.services, number // size.services),
                "certificate": number % size.namespaces,
            }
            for number in range(count)
        ]
        told = {"port": port, "proxies": asked, "certificates": certificates}
        assert process.stdin
        process.stdin.write(json.dumps(told).encode() + b"\n")
        yield Proxies(process)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def real_envoys(size: Size, count: int, port: int, certificates: list[dict[str, str]]) -> AsyncIterator[None]:
    """Each is a last replica, so no workload's only proxy; their secrets come by a socket as from an agent. They record
    what our sidecars do: to look through all that Envoy could record takes it a while every few seconds."""
    async with AsyncExitStack() as stack:
        for number in range(count):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            pem = [certificates[number % size.namespaces][part].encode() for part in ("key", "chain", "root")]
            secrets = Secrets()
            secrets.publish(KeyPair(*pem).secrets())
            agent = await serve_secrets(secrets, str(folder / "sds.sock"))
            stack.push_async_callback(agent.stop, None)
            node = node_id(size, number, size.endpoints - 1)
            config: Any = bootstrap(port, upstream_tls(*pem), node, sds=folder / "sds.sock")
            config["stats_config"] = stats_config({})
            await stack.enter_async_context(envoy(folder, config))
        yield


class Settling:
    """Whether all proxies have asked for all four types and acknowledged the answers.

    It is asked again and again in the process that is measured: who has asked once is not looked at closely any more.
    """

    def __init__(self, plane: ControlPlane, count: int) -> None:
        self._plane = plane
        self._count = count
        self._complete: set[Stream] = set()

    def __call__(self) -> bool:
        streams = list(self._plane.fleet.connected)
        return len(streams) == self._count and all(one.session.settled and self._has_all(one) for one in streams)

    def _has_all(self, stream: Stream) -> bool:
        if stream not in self._complete and len(stream.types) >= 4:
            self._complete.add(stream)
        return stream in self._complete


async def timed(plane: ControlPlane, change: Callable[[int], Awaitable[object]], rounds: int) -> list[float]:
    """Seconds from a write to the last acknowledgement."""
    latency = plane.fleet.latency
    assert isinstance(latency, Acknowledged)
    found = []
    for _ in range(rounds):
        await _until(lambda: plane.fleet.settled)
        await asyncio.sleep(0.05)
        latency.reached.clear()
        start = time.perf_counter()
        await change(next(_fresh))
        await asyncio.wait_for(latency.reached.wait(), 30)
        found.append(time.perf_counter() - start)
    return found


async def measured(asked: argparse.Namespace, size: Size) -> list[Row]:
    rows: list[Row] = []
    own = resident_megabytes()
    api = await cluster(size)
    gc.collect()
    stored = resident_megabytes() - own
    rows.append(Row("memory of the in-memory cluster itself", stored, "MB"))
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(istiod(api, Ports(0, 0, 0, 0, 0)))
        root = plane.certificates.authority.current.signing
        pems = [certificate(root, f"ns-{number}") for number in range(size.namespaces)]
        await quiet(plane, api)
        rows.append(Row("control plane alone, resident", resident_megabytes(), "MB"))
        start, cpu = time.perf_counter(), time.process_time()
        simulated = asked.proxies - asked.envoys
        async with proxies(size, simulated, plane.ports.ads, pems) as fleet:
            await _until(Settling(plane, simulated), 0.5)
            rows += [
                Row("cold connect of all", time.perf_counter() - start, "s"),
                Row("cold connect of all, CPU of the control plane", time.process_time() - cpu, "s"),
            ]
            await stack.enter_async_context(real_envoys(size, asked.envoys, plane.ports.ads, pems))
            await _until(Settling(plane, asked.proxies), 0.5)
            rows += await changes(plane, api, size, asked)
            rows += held(plane, fleet.pid, stored)
            await stack.aclose()
            rows += await again(api, plane.ports, simulated, fleet)
    return rows


async def quiet(plane: ControlPlane, api: MemoryApi) -> None:
    """Until nothing is written or pushed any more: statuses, certificates of namespaces."""
    before = -1
    while before != len(api.journal):
        before = len(api.journal)
        await asyncio.sleep(0.5)
    api.journal.clear()
    api.compact()


async def changes(plane: ControlPlane, api: MemoryApi, size: Size, asked: argparse.Namespace) -> list[Row]:
    def move(number: int) -> Awaitable[JSON]:
        obj = endpoint_slice(size, number % size.services, moved=number)
        return api.replace(WELL_KNOWN.endpointslices, obj, obj["metadata"]["namespace"])

    def edit(number: int) -> Awaitable[JSON]:
        obj = virtual_service(size, number % size.rules, seconds=number + 10)
        return api.patch(VIRTUAL_SERVICES, obj["metadata"]["name"], {"spec": obj["spec"]}, obj["metadata"]["namespace"])

    await timed(plane, move, 3)
    cpu = time.process_time()
    moved = await timed(plane, move, asked.rounds)
    per_move = (time.process_time() - cpu) / asked.rounds
    rows = [
        *spread("endpoint change to the last of all ACKs", moved, 100),
        Row("endpoint change, CPU of the control plane", per_move * 1e3, "ms"),
    ]
    if not asked.edits:
        return rows
    await timed(plane, edit, 1)
    cpu = time.process_time()
    edited = await timed(plane, edit, asked.edits)
    per_edit = (time.process_time() - cpu) / asked.edits
    return [
        *rows,
        *spread("VirtualService edit to the last of all ACKs", edited),
        Row("VirtualService edit, CPU of the control plane", per_edit * 1e3, "ms"),
    ]


def held(plane: ControlPlane, clients: int, stored: float) -> list[Row]:
    """`stored`: megabytes of the in-memory cluster, which is no part of a control plane."""
    gc.collect()
    count, size = plane.fleet.store.unique
    return [
        Row("resident with all proxies, the cluster included", resident_megabytes(), "MB"),
        Row("resident with all proxies, without the cluster", resident_megabytes() - stored, "MB", 400),
        Row("views", len(plane.fleet.views), ""),
        Row("unique resources", count, ""),
        Row("unique bytes", size / 2**20, "MB"),
        Row("CPU of the simulated proxies so far", cpu_seconds(clients), "s"),
    ]


async def again(api: MemoryApi, ports: Ports, count: int, fleet: Proxies) -> list[Row]:
    """The control plane comes back; nothing has changed."""
    before = await fleet.report()
    start, cpu = time.perf_counter(), time.process_time()
    async with istiod(api, ports) as plane:
        await _until(Settling(plane, count), 0.2)
        took, used = time.perf_counter() - start, time.process_time() - cpu
    after = await fleet.report()
    return [
        Row("restart until all are connected and settled", took, "s"),
        Row("restart, CPU of the control plane", used, "s"),
        Row("restart, resources sent again", after["resources"] - before["resources"], "", 0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxies", type=int, default=1000)
    parser.add_argument("--envoys", type=int, default=0, help="how many of the proxies are real Envoys")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--rules", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=100, help="endpoint changes")
    parser.add_argument("--edits", type=int, default=30, help="VirtualService edits")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    own_network.enter()  # real Envoys listen on Istio's ports
    size = Size(services=asked.services, rules=asked.rules, namespaces=min(50, asked.services))
    tell(uvloop.run(measured(asked, size)), asked.json)


if __name__ == "__main__":
    main()
