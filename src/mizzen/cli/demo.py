"""`mizzen demo`: cluster, mesh, Bookinfo, traffic, and a short report of what was seen."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from mizzen.cli import exits, talk
from mizzen.cli.clusters import name_option, running_cluster, with_cluster
from mizzen.cli.samples import manifests
from mizzen.cli.up import bring_up
from mizzen.cli.url import url_of
from mizzen.kube.api import JSON, WELL_KNOWN, Resource
from mizzen.kube.conditions import holds

if TYPE_CHECKING:
    from mizzen.kube.http import HttpApi

BOOKINFO = (
    "bookinfo/platform/kube/bookinfo.yaml",
    "bookinfo/networking/bookinfo-gateway.yaml",
    "bookinfo/networking/destination-rule-all.yaml",
    "bookinfo/networking/virtual-service-reviews-50-v3.yaml",
)
NAMESPACE = "default"
READY_SECONDS = 120.0
LOG_SECONDS = 5.0


class Traffic(msgspec.Struct, frozen=True):
    """What the requests through the gateway met."""

    versions: dict[str, int]
    failed: int
    seconds: list[float]

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


@click.command()
@click.option("--requests", default=100, show_default=True, help="How many requests to send.")
@name_option
def command(requests: int, name: str) -> None:
    """Cluster, mesh, Bookinfo behind the gateway, traffic; the mesh stays up."""
    start = time.monotonic()
    bring_up(name)
    with talk.step("Deploying Bookinfo with sidecars", "Bookinfo is ready, a sidecar in every Pod"):
        with_cluster(name, deploy)
    page = url_of(name, "istio-ingressgateway", "istio-system") + "/productpage"
    with talk.step(f"Sending {requests} requests through the ingress gateway", f"{requests} requests sent"):
        asyncio.run(until_served(page))
        traffic = asyncio.run(send(page, requests))
    hop = with_cluster(name, lambda api: follow(api, page))
    click.echo(report(name, page, traffic, hop, time.monotonic() - start))


async def deploy(api: HttpApi) -> None:
    """Label the namespace, apply the samples, wait for the Pods."""
    await api.patch(WELL_KNOWN.namespaces, NAMESPACE, {"metadata": {"labels": {"istio-injection": "enabled"}}})
    for file in BOOKINFO:
        await apply(api, (manifests() / file).read_text())
    deadline = time.monotonic() + READY_SECONDS
    while waiting := await unready(api):
        if time.monotonic() > deadline:
            raise exits.Failure(f"not ready: {', '.join(waiting)}", "`kubectl describe pod` says why")
        await asyncio.sleep(0.1)


async def apply(api: HttpApi, text: str) -> None:
    """Server-side apply of every document."""
    from mizzen.api.documents import load

    for document in load(text):
        obj = document.value
        metadata = obj["metadata"]
        resource = resource_of(obj)
        namespace = metadata.get("namespace", NAMESPACE)
        await api.patch(resource, metadata["name"], obj, namespace, type="apply")


def resource_of(obj: JSON) -> Resource:
    from mizzen.api.registry import kind_of
    from mizzen.install.types import resource_of as resource_of_kubernetes

    version, kind = obj["apiVersion"], obj["kind"]
    if found := kind_of(version, kind):
        return Resource(found.group, version.rpartition("/")[2], found.plural, found.kind)
    return resource_of_kubernetes(version, kind)


async def unready(api: HttpApi) -> list[str]:
    """Names of Pods that are not ready."""
    pods = (await api.list(WELL_KNOWN.pods, NAMESPACE)).items
    return [pod["metadata"]["name"] for pod in pods if not holds(pod, "Ready")]


async def until_served(page: str) -> None:
    """The gateway learns its routes within milliseconds of the Pods; the page needs all of them."""
    import aiohttp

    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            async with session.get(page) as response:
                if response.status == 200 and "Reviews served by" in await response.text():
                    return
            await asyncio.sleep(0.1)
    raise exits.Failure(f"{page} is not served", "`mizzen proxy-status` says which proxy was not told")


async def send(page: str, requests: int) -> Traffic:
    """Four clients, kept-alive connections."""
    import aiohttp

    versions: Counter[str] = Counter()
    seconds: list[float] = []
    failed = 0

    async def client(session: aiohttp.ClientSession, count: int) -> None:
        nonlocal failed
        for _ in range(count):
            start = time.perf_counter()
            async with session.get(page) as response:
                body = await response.text()
            seconds.append(time.perf_counter() - start)
            found = re.search(r"reviews-v\d", body)
            if response.status == 200 and found:
                versions[found.group()] += 1
            else:
                failed += 1

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as clients:
        for share in shares(requests, 4):
            clients.create_task(client(session, share))
    return Traffic(dict(versions), failed, seconds)


def shares(total: int, parts: int) -> list[int]:
    return [total // parts + (index < total % parts) for index in range(parts)]


class Hop(msgspec.Struct, frozen=True):
    """The two access-log lines of one request between two Pods."""

    request_id: str
    client: str
    server: str


async def follow(api: HttpApi, page: str) -> Hop | None:
    """One request by its id: out of productpage's proxy, into that of reviews. None if no log tells within seconds."""
    import aiohttp

    mark = f"demo-{secrets.token_hex(4)}"
    async with aiohttp.ClientSession() as session, session.get(f"{page}?{mark}"):
        pass
    deadline = time.monotonic() + LOG_SECONDS
    while time.monotonic() < deadline:
        gateway = await logged(api, "istio-system", "istio=ingressgateway", mark)
        if gateway and (request_id := request_id_of(gateway)):
            client = await logged(api, NAMESPACE, "app=productpage", request_id, "/reviews/")
            server = await logged(api, NAMESPACE, "app=reviews", request_id, "/reviews/", "inbound|")
            if client and server:
                return Hop(request_id, client, server)
        await asyncio.sleep(0.3)
    return None


async def logged(api: HttpApi, namespace: str, labels: str, *words: str) -> str | None:
    """The first line of the proxies' logs that holds all the words."""
    from mizzen.kube.api import Selector
    from mizzen.kube.streams import logs

    for pod in (await api.list(WELL_KNOWN.pods, namespace, Selector(labels=labels))).items:
        pieces = [
            piece
            async for piece in logs(api, namespace, pod["metadata"]["name"], container="istio-proxy", tail_lines=400)
        ]
        for line in b"".join(pieces).decode(errors="replace").splitlines():
            if all(word in line for word in words):
                return line
    return None


def request_id_of(line: str) -> str | None:
    found = re.search(r'"([0-9a-f]{8}-[0-9a-f-]{27})"', line)
    return found.group(1) if found else None


def report(name: str, page: str, traffic: Traffic, hop: Hop | None, seconds: float) -> str:
    """What was seen, and where to look."""
    total = sum(traffic.versions.values()) + traffic.failed
    seen = [f"  {version}: {count} of {total}" for version, count in sorted(traffic.versions.items())]
    return "\n".join(
        [
            f"Bookinfo is up after {seconds:.1f} s: {page}",
            "",
            "Which reviews answered (its VirtualService asks for half and half):",
            *seen,
            f"  failed: {traffic.failed}",
            f"Latency through the gateway: p50 {traffic.percentile(0.5):.1f} ms, p99 {traffic.percentile(0.99):.1f} ms",
            *followed(hop),
            *weight(name),
            "Between Pods the traffic is mutual TLS; callers without a sidecar are served in plain text (PERMISSIVE).",
            "",
            'Next: eval "$(mizzen env)", then for example',
            "  kubectl get pods                       istioctl proxy-status",
            f"  kubectl apply -f {manifests() / 'bookinfo/networking/virtual-service-all-v1.yaml'}",
            "  mizzen down                            stops everything",
        ]
    )


def followed(hop: Hop | None) -> Sequence[str]:
    if hop is None:
        return ["One request followed: no proxy logged it within 5 s (mizzen proxy-status)"]
    return [
        f"One request followed, x-request-id {hop.request_id}:",
        f"  productpage's proxy: {shortened(hop.client)}",
        f"  reviews' proxy:      {shortened(hop.server)}",
    ]


def shortened(line: str) -> str:
    """The parts of an access-log line that show the way: request, code, cluster and addresses."""
    request = re.search(r'"[A-Z]+ [^"]*" \d+', line)
    way = re.search(r'"([\d.]+:\d+)" (\S+\|\S*)', line)
    return f"{request.group() if request else line} to {way.group(2)} at {way.group(1)}" if way and request else line


def weight(name: str) -> Sequence[str]:
    from mizzen.embedded.memory import by_program

    parts = by_program(running_cluster(name).pid)
    total = sum(parts.values()) / 1e6
    return [f"Memory of everything (PSS): {total:.0f} MB, of which Envoys {parts.get('envoy', 0) / 1e6:.0f} MB"]
