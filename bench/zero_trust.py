"""What zero trust costs: mutual TLS with authorization on both sides against the same sidecars in plain text, the time
from a request to a certificate, and a thousand AuthorizationPolicies.

A cluster of its own with three Pods: a client, a server in plain text without policies, and one that takes only mutual
TLS and has policies, as the client has. Latency is of paced requests on few connections. An edit is in force when a
request of the client, sent again and again on one connection, is answered by the new rule.

Needs root, `wrk` and `h2load` (Debian: `apt-get install wrk nghttp2-client`).
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from authorization_policies import cold_translation, edits, for_bystanders, policy
from hop import prepare, served
from measuring import PYTHON, ROOT, Row, percentile, spread, tell
from private_cluster import Machine, machine
from sidecars import APP, JSON, Load, Sidecar, load, paced, sequential

from mizzen.controlplane.watching import MESH_KINDS
from mizzen.embedded.box.kernel import CLONE_NEWNET, setns
from mizzen.kube.api import WELL_KNOWN, Selector
from mizzen.kube.http import HttpApi

POLICIES = next(one for one in MESH_KINDS.values() if one.kind == "AuthorizationPolicy")
CLIENT = "cluster.local/ns/default/sa/client"
CLOSED = "/closed"
SYSTEM, ISTIOD, CA_PORT = "istio-system", "istiod.istio-system.svc", 15012
PATIENCE = 20.0


def guards(app: str) -> list[JSON]:
    """Who may, and what nobody may."""
    callers = {"from": [{"source": {"principals": [CLIENT]}}], "to": [{"operation": {"methods": ["GET", "POST"]}}]}
    return [policy(f"{app}-allow", app, "ALLOW", [callers]), policy(f"{app}-deny", app, "DENY", [_paths("/admin/*")])]


def _paths(path: str) -> JSON:
    return {"to": [{"operation": {"paths": [path]}}]}


async def create_policies(own: Machine, wanted: Sequence[JSON]) -> None:
    some = asyncio.Semaphore(16)
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api:

        async def create(one: JSON) -> None:
            async with some:
                await api.create(POLICIES, one, "default")

        await asyncio.gather(*map(create, wanted))


class Probe:
    """One connection from a Pod to an address, kept open."""

    def __init__(self, inside: int, address: str) -> None:
        with ThreadPoolExecutor(1) as thread:  # one that enters the Pod's network, and ends
            self._http = http.client.HTTPConnection(address, timeout=PATIENCE)
            self._http.sock = thread.submit(_connected, inside, address).result()

    def status(self, path: str) -> int:
        self._http.request("GET", path)
        answer = self._http.getresponse()
        answer.read()
        return answer.status

    def until(self, path: str, status: int) -> float:
        """When that was answered, as `time.perf_counter` has it. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while self.status(path) != status:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is not answered with {status}")
        return time.perf_counter()


def _connected(inside: int, address: str) -> socket.socket:
    with Path(f"/proc/{inside}/ns/net").open() as place:
        setns(place.fileno(), CLONE_NEWNET)
    found = socket.create_connection((address, 80), timeout=PATIENCE)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def throughput(pods: dict[str, Sidecar], asked: argparse.Namespace) -> list[Row]:
    client, found = pods["client"], dict[str, list[Load]](plain=[], secured=[])
    for number in range(asked.rounds + 1):
        for name, loads in found.items():
            server = pods[name]
            proxies = (client.pid, server.pid)
            one = load(client.pid, f"http://{server.service}/", asked.seconds, asked.connections, proxies)
            if number:  # the first round warms up
                loads.append(one)
    pairs = list(zip(found["secured"], found["plain"], strict=True))
    ratio = median(secured.rate / plain.rate for secured, plain in pairs)
    return [
        *(Row(f"{name}: throughput", median(one.rate for one in loads), "/s") for name, loads in found.items()),
        *(Row(f"{name}: processor time", median(one.cpu for one in loads), "µs") for name, loads in found.items()),
        Row(f"secured to plain: throughput (median of {len(pairs)} pairs)", ratio, "", 0.9, at_least=True),
        Row("secured to plain: processor time", median(plain.cpu / secured.cpu for secured, plain in pairs), ""),
    ]


def one_at_a_time(pods: dict[str, Sidecar], blocks: int) -> Iterator[Row]:
    client = pods["client"].pid
    ways = {name: (pods[name].service, 80, (client, pods[name].pid)) for name in ("plain", "secured")}
    found = sequential(client, ways, blocks)
    yield from (Row(f"{name}: processor time, one request at a time", cost, "µs") for name, cost in found.items())
    yield Row("secured to plain: processor time, one request at a time", found["plain"] / found["secured"], "")


def latency(pods: dict[str, Sidecar], asked: argparse.Namespace) -> list[Row]:
    """Run by run: a disturbance of the machine then spoils one pair. `direct` asks the application from beside it."""
    client, server = pods["client"].pid, pods["secured"].pid
    ways = {name: (client, f"http://{pods[name].service}/") for name in ("plain", "secured")}
    ways["direct"] = (server, f"http://127.0.0.1:{APP}/")
    found: dict[str, list[list[float]]] = {name: [] for name in ways}
    for number in range(asked.rounds + 1):
        for name, (inside, url) in ways.items():
            one = paced(inside, url, asked.seconds, 2, asked.rate)
            if number:
                found[name].append([value * 1e3 for value in one])
    return [row for share in (0.5, 0.9, 0.99) for row in _at(share, found)]


def _at(share: float, found: dict[str, list[list[float]]]) -> Iterator[Row]:
    name, each = f"p{share * 100:.0f}", {way: [percentile(run, share) for run in runs] for way, runs in found.items()}
    yield from (Row(f"{way}: {name} of a run", median(runs), "ms") for way, runs in each.items())
    for more, less, limit in (("secured", "plain", 0.1 if share == 0.9 else None), ("secured", "direct", None)):
        added = median(one - other for one, other in zip(each[more], each[less], strict=True))
        yield Row(f"added by {more} to {less}: {name}", added, "ms", limit)


async def certificates(own: Machine, client: Sidecar, count: int) -> list[Row]:
    """The real istiod, and the cluster's API server that it asks about the token; the caller stands in a Pod."""
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api:
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "client"}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": ["istio-ca"], "expirationSeconds": 3600, "boundObjectRef": bound},
        }
        token = await api.post_subresource(WELL_KNOWN.serviceaccounts, "client", "token", body, "default")
        roots = await api.get(WELL_KNOWN.configmaps, "istio-ca-root-cert", "default")
        istiod = (await api.list(WELL_KNOWN.pods, SYSTEM, Selector(labels="app=istiod"))).items[0]
    asked = {
        "target": f"{istiod['status']['podIP']}:{CA_PORT}",
        "authority": ISTIOD,
        "roots": roots["data"]["root-cert.pem"],
        "token": token["status"]["token"],
        "identity": "spiffe://cluster.local/ns/default/sa/client",
        "count": count,
    }
    return await asyncio.to_thread(_asked_from_inside, client, asked)


def _asked_from_inside(client: Sidecar, asked: JSON) -> list[Row]:
    user = ["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups"]  # whom capture lets pass
    caller = [PYTHON, str(ROOT / "bench/certificate_requests.py")]
    command = ["nsenter", "-t", str(client.pid), "--net", "--", *user, *caller]
    told = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
    found = json.loads(told)
    opened = [value * 1e3 for value in found["open"]]
    return [
        Row("CSR to certificate, p50", median(opened), "ms", 5),
        Row("CSR to certificate, p99", percentile(opened, 0.99), "ms"),
        Row("the same with a connection of its own, p50", median(found["own"]) * 1e3, "ms"),
    ]


async def edits_in_force(own: Machine, pods: dict[str, Sidecar], count: int) -> list[Row]:
    """One of a thousand policies changes, and closes or opens a path of the secured server."""
    probe = Probe(pods["client"].pid, pods["secured"].service)
    assert probe.status(CLOSED) == 200
    from_start, from_answer = [], []
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api:
        for number in range(count):
            path, status = (CLOSED, 403) if number % 2 == 0 else (f"{CLOSED}-not", 200)
            patch = [{"op": "replace", "path": "/spec/rules/0/to/0/operation/paths/0", "value": path}]
            start = time.perf_counter()
            await api.patch(POLICIES, "secured-deny", patch, "default", type="json")
            answered = time.perf_counter()
            there = await asyncio.to_thread(probe.until, CLOSED, status)
            from_start.append(there - start)
            from_answer.append(max(0.0, there - answered))
    return [*spread("edit of one in 1,000 to in force", from_start, 100), *spread("after the answer", from_answer)]


def measured(own: Machine, asked: argparse.Namespace) -> list[Row]:
    own.mizzen("up", "--set", "profile=minimal")
    pods = asyncio.run(prepare(own, asked.workers))
    asyncio.run(create_policies(own, [one for app in ("secured", "client") for one in guards(app)]))
    with served(pods):
        probe = Probe(pods["client"].pid, pods["secured"].service)
        probe.until("/admin/x", 403)
        rows = [*throughput(pods, asked), *one_at_a_time(pods, asked.blocks), *latency(pods, asked)]
        rows += asyncio.run(certificates(own, pods["client"], asked.certificates))
        asyncio.run(create_policies(own, list(for_bystanders(996))))
        return [*rows, *asyncio.run(edits_in_force(own, pods, asked.edits))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=100, help="of 150 requests, one at a time, for each way")
    parser.add_argument("--connections", type=int, default=16, help="for throughput")
    parser.add_argument("--workers", type=int, default=1, help="of each Envoy")
    parser.add_argument("--rate", type=int, default=300, help="requests per second, for latency")
    parser.add_argument("--certificates", type=int, default=100)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if missing := [name for name in ("wrk", "h2load") if not shutil.which(name)]:
        sys.exit(f"{', '.join(missing)} not on PATH: on Debian, `apt-get install wrk nghttp2-client`")
    rows = [*cold_translation(), *edits(1)]
    with machine() as own:
        rows += measured(own, asked)
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
