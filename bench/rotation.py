"""Certificates that live two seconds, renewed every second in every proxy of the demo, under load; then a new root.

Requests come through the ingress gateway to productpage and what is behind it. Every connection between proxies carries
one request, so that every hop shakes hands with the certificates of that moment. Also: a signing request to a
certificate, over gRPC, with the token reviewed by a real API server.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import grpc
from measuring import PYTHON, Row, percentile, spread, tell
from private_cluster import NAME, Machine, machine

from mizzen.ca.authority import new_key, signing_request
from mizzen.ca.messages import CA_METHOD, IstioCertificateRequest, IstioCertificateResponse
from mizzen.controlplane.authority import DEFAULT_ROOT
from mizzen.controlplane.certificates import Certificates, Surroundings
from mizzen.controlplane.ledger import CONFIG_MAP
from mizzen.controlplane.watching import MESH_KINDS
from mizzen.kube.api import WELL_KNOWN, NotFound
from mizzen.kube.http import HttpApi
from mizzen.scope.snapshot import Snapshot

DESTINATION_RULES = next(one for one in MESH_KINDS.values() if one.kind == "DestinationRule")
SHORT_LIVES = "meshConfig.defaultConfig.proxyMetadata.SECRET_TTL=2s"
ONE_REQUEST_EACH = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "one-request-each", "namespace": "istio-system"},
    "spec": {
        "host": "*.default.svc.cluster.local",
        "trafficPolicy": {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}},
    },
}


def told(own: Machine, *arguments: str) -> str:
    command = [PYTHON, "-m", "mizzen.cli", *arguments]
    environment = {**own.environment, "MIZZEN_CLUSTER": NAME, "KUBECONFIG": str(own.kubeconfig)}
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


async def restarted(api: HttpApi) -> None:
    """All proxies, with the new settings; istiod stays."""
    for namespace in ("default", "istio-system"):
        for pod in (await api.list(WELL_KNOWN.pods, namespace)).items:
            if pod["metadata"]["labels"].get("app") != "istiod":
                await api.delete(WELL_KNOWN.pods, pod["metadata"]["name"], namespace, grace_seconds=0)
    async with asyncio.timeout(180):
        while not all(_ready(pod) for pod in (await api.list(WELL_KNOWN.pods)).items):  # noqa: ASYNC110 - the cluster's
            await asyncio.sleep(0.3)


def _ready(pod: dict[str, object]) -> bool:
    status = pod.get("status")
    conditions = status.get("conditions", ()) if isinstance(status, dict) else ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class Load:
    """Requests at a steady rate, each on a connection of its own to the gateway."""

    def __init__(self, url: str, rate: float) -> None:
        self.url, self.rate = url, rate
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as calls:
            start = time.monotonic()
            for number in range(int(seconds * self.rate)):
                calls.create_task(self._call(session))
                await asyncio.sleep(max(0.0, start + (number + 1) / self.rate - time.monotonic()))

    async def _call(self, session: aiohttp.ClientSession) -> None:
        start = time.perf_counter()
        try:
            async with session.get(self.url) as answer:
                body = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures[type(error).__name__] += 1
            return
        # productpage answers 200 when what is behind it fails, and says so.
        if answer.status != 200 or "Sorry, product" in body or "Error fetching" in body:
            self.failures[str(answer.status)] += 1
        self.seconds.append(time.perf_counter() - start)


async def issued(api: HttpApi, seen: set[tuple[str, str]]) -> None:
    """Gathers (Pod, moment) of every certificate until cancelled."""
    while True:
        try:
            found = await api.get(WELL_KNOWN.configmaps, CONFIG_MAP, "istio-system")
        except NotFound:
            found = {}
        seen.update((pod, text.split(" ")[2]) for pod, text in (found.get("data") or {}).items())
        await asyncio.sleep(0.2)


async def under_load(own: Machine, asked: argparse.Namespace) -> list[Row]:
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api:
        await api.create(DESTINATION_RULES, ONE_REQUEST_EACH, "istio-system")
        await restarted(api)
        proxies = len((await api.list(WELL_KNOWN.pods)).items) - 1
        load = Load(await asyncio.to_thread(told, own, "url") + "/productpage", asked.rate)
        await load.run(5)
        warm, load.seconds, load.failures = len(load.failures), [], Counter()
        assert not warm, "the mesh does not answer"
        seen: set[tuple[str, str]] = set()
        counting, running = asyncio.create_task(issued(api, seen)), asyncio.create_task(load.run(asked.seconds))
        await asyncio.sleep(asked.seconds / 4)
        start = time.monotonic()
        await asyncio.to_thread(told, own, "ca", "rotate")
        rotation = time.monotonic() - start
        await running
        counting.cancel()
    sent = len(load.seconds) + load.failures.total()
    print(f"failures: {dict(load.failures)}") if load.failures else None
    return [
        Row("requests", sent, ""),
        Row("of them failed", load.failures.total(), "", 0),
        Row("certificates seen, each second and proxy", len(seen) / asked.seconds / proxies, ""),
        Row("request, p50", percentile(load.seconds, 0.5) * 1e3, "ms"),
        Row("request, p99", percentile(load.seconds, 0.99) * 1e3, "ms"),
        Row("a new root from the word to the end", rotation, "s"),
    ]


@asynccontextmanager
async def authority(api: HttpApi) -> AsyncIterator[grpc.aio.UnaryUnaryMultiCallable]:
    """A CA of its own in namespace `default`, before the cluster's API server."""
    certificates = Certificates(api, "default", Surroundings(Snapshot, lambda: True), DEFAULT_ROOT)
    following = asyncio.create_task(certificates.authority.run())
    server = grpc.aio.server()
    try:
        await certificates.authority.loaded()
        server.add_generic_rpc_handlers((certificates.service(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary(
                CA_METHOD,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=IstioCertificateResponse.FromString,
            )
    finally:
        following.cancel()
        await server.stop(None)


async def signed(own: Machine, count: int) -> list[Row]:
    found = []
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api, authority(api) as create:
        pod = next(one for one in (await api.list(WELL_KNOWN.pods, "default")).items)
        bound = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        spec = {"spec": {"audiences": ["istio-ca"], "boundObjectRef": bound, "expirationSeconds": 3600}}
        account = pod["spec"]["serviceAccountName"]
        answer = await api.post_subresource(WELL_KNOWN.serviceaccounts, account, "token", spec, "default")
        metadata = (("authorization", f"Bearer {answer['status']['token']}"),)
        for _ in range(count):
            request = IstioCertificateRequest(csr=signing_request(new_key(), "spiffe://a/ns/b/sa/c").decode())
            start = time.perf_counter()
            await create(request, metadata=metadata)
            found.append(time.perf_counter() - start)
    rows = spread("signing request to certificate", found)
    return [Row(rows[0].name, rows[0].value, rows[0].unit, 5), *rows[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with machine() as own:
        own.mizzen("demo")
        rows = asyncio.run(signed(own, 200))
        own.mizzen("up", "--set", SHORT_LIVES)
        rows += asyncio.run(under_load(own, asked))
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
