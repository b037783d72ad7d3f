"""One hop through two sidecars against the same hop through two Envoys with the least configuration that forwards.

A cluster of its own; all Pods have a sidecar. `wrk` runs in the caller's network namespace and calls a Service:
captured, client's sidecar, server's sidecar, application. In turn, in one run, it calls Envoys with a static
configuration that stand in the same namespaces: no capture, no filter but the router, no access log. Like is compared
with like, mutual TLS with mutual TLS (keys of the same kind) and plain text with plain text. The application is an
Envoy that answers by itself, so that it does not hide the difference.

Needs root, and `wrk` on PATH (on Debian, `apt-get install wrk`).
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from urllib.parse import urlsplit

from measuring import Row, resident_megabytes, tell
from private_cluster import Machine, machine
from sidecars import ANSWER, APP, FORWARD, JSON, Load, Sidecar, deploy, envoy, load, sequential, static

from mizzen.ca.authority import join, new_key, new_root, private_key_pem, sign_workload, signing_request
from mizzen.ca.spiffe import Identity
from mizzen.controlplane.watching import MESH_KINDS
from mizzen.kube.http import HttpApi

NEAR, NEAR_TLS, FAR, FAR_TLS = 18000, 18001, 18002, 18003
SERVERS = {"plain": "DISABLE", "secured": "STRICT"}
"""Server Pods, and the mTLS mode that PeerAuthentication gives them."""
PEER_AUTHENTICATIONS = next(one for one in MESH_KINDS.values() if one.kind == "PeerAuthentication")
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


@dataclass(frozen=True, slots=True)
class Path:
    """A way to the application: where it begins, and the Envoys that it leads through."""

    url: str
    proxies: tuple[int, int]


def peer_authentication(name: str, mode: str) -> JSON:
    spec = {"selector": {"matchLabels": {"app": name}}, "mtls": {"mode": mode}}
    kind = {"apiVersion": PEER_AUTHENTICATIONS.api_version, "kind": "PeerAuthentication"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


async def prepare(own: Machine, workers: int) -> dict[str, Sidecar]:
    """With one worker each, chance does not say how connections are spread over workers: it would for a whole run."""
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api:
        for name, mode in SERVERS.items():
            await api.create(PEER_AUTHENTICATIONS, peer_authentication(name, mode), "default")
    annotations = {
        "traffic.sidecar.istio.io/excludeInboundPorts": f"{FAR},{FAR_TLS}",
        "proxy.istio.io/config": f"concurrency: {workers}",
    }
    return await deploy(own, ("client", *SERVERS), annotations)


def transport_sockets() -> tuple[JSON, JSON]:
    """(downstream, upstream): mutual TLS with one certificate of an authority of its own, keys as the mesh has them."""
    now = datetime.now(UTC)
    root = new_root("cluster.local", now, secrets.randbits(64))
    identity, key = Identity("cluster.local", "default", "default"), new_key()
    request, lifetime = signing_request(key, str(identity)), timedelta(hours=1)
    chain = "".join(sign_workload(root, request, identity, now, lifetime, secrets.randbits(64)))
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"inline_string": chain},
                "private_key": {"inline_string": private_key_pem(key).decode()},
            }
        ],
        "validation_context": {"trusted_ca": {"inline_string": join(root.trusted)}},
    }
    sides: list[JSON] = [
        {"@type": f"{TLS}DownstreamTlsContext", "require_client_certificate": True, "common_tls_context": common},
        {"@type": f"{TLS}UpstreamTlsContext", "common_tls_context": common},
    ]
    downstream, upstream = ({"name": "envoy.transport_sockets.tls", "typed_config": side} for side in sides)
    return downstream, upstream


@contextmanager
def served(pods: dict[str, Sidecar]) -> Iterator[None]:
    """The applications of the servers answer while the context lasts."""
    with ExitStack() as stack:
        for name in SERVERS:
            stack.enter_context(envoy(pods[name].pid, static(APP, ANSWER), "1", user=0))
        yield


@contextmanager
def paths(pods: dict[str, Sidecar]) -> Iterator[dict[str, Path]]:
    """By name. The Envoys beside the sidecars run while the context lasts."""
    client, plain, secured = pods["client"], pods["plain"], pods["secured"]
    downstream, upstream = transport_sockets()
    workers = client.concurrency
    with ExitStack() as stack:
        start = stack.enter_context
        start(served(pods))
        app = ("127.0.0.1", APP)
        far = start(envoy(plain.pid, static(FAR, FORWARD, app), workers))
        near = start(envoy(client.pid, static(NEAR, FORWARD, (plain.address, FAR)), workers))
        far_tls = start(envoy(secured.pid, static(FAR_TLS, FORWARD, app, downstream=downstream), workers))
        beyond = (secured.address, FAR_TLS)
        near_tls = start(envoy(client.pid, static(NEAR_TLS, FORWARD, beyond, upstream_tls=upstream), workers))
        yield {
            "sidecars, plain text": Path(f"http://{plain.service}/", (client.pid, plain.pid)),
            "minimal, plain text": Path(f"http://127.0.0.1:{NEAR}/", (near, far)),
            "sidecars, mutual TLS": Path(f"http://{secured.service}/", (client.pid, secured.pid)),
            "minimal, mutual TLS": Path(f"http://127.0.0.1:{NEAR_TLS}/", (near_tls, far_tls)),
        }


COMPARED = {
    "plain text": ("sidecars, plain text", "minimal, plain text", 0.85),
    "mutual TLS": ("sidecars, mutual TLS", "minimal, mutual TLS", 0.85),
    "mutual TLS against plain text": ("sidecars, mutual TLS", "minimal, plain text", None),
    "minimal, mutual TLS against plain text": ("minimal, mutual TLS", "minimal, plain text", None),
}


def compared(found: dict[str, list[Load]]) -> Iterator[Row]:
    for name, loads in found.items():
        yield Row(f"{name}: throughput", median(one.rate for one in loads), "/s")
        yield Row(f"{name}: processor time of both", median(one.cpu for one in loads), "µs")
    for name, (ours, least, limit) in COMPARED.items():
        pairs = list(zip(found[ours], found[least], strict=True))
        rates = median(one.rate / other.rate for one, other in pairs)
        costs = median(other.cpu / one.cpu for one, other in pairs)
        yield Row(f"{name}: ratio of throughput (median of {len(pairs)} pairs)", rates, "", limit, at_least=True)
        yield Row(f"{name}: ratio of processor time", costs, "")


def one_at_a_time(inside: int, ways: dict[str, Path], blocks: int) -> Iterator[Row]:
    def end(way: Path) -> tuple[str, int, tuple[int, ...]]:
        url = urlsplit(way.url)
        return str(url.hostname), url.port or 80, way.proxies

    found = sequential(inside, {name: end(way) for name, way in ways.items()}, blocks)
    for name, cost in found.items():
        yield Row(f"{name}: processor time, one request at a time", cost, "µs")
    for name, (ours, least, _) in COMPARED.items():
        yield Row(f"{name}: ratio of processor time, one request at a time", found[least] / found[ours], "")


def measured(own: Machine, asked: argparse.Namespace) -> list[Row]:
    own.mizzen("up", "--set", f"profile={asked.profile}")
    pods = asyncio.run(prepare(own, asked.workers))
    with paths(pods) as ways:
        alone = list(one_at_a_time(pods["client"].pid, ways, asked.blocks))
        found: dict[str, list[Load]] = {name: [] for name in ways}
        for number in range(asked.rounds + 1):
            for name, way in ways.items():
                one = load(pods["client"].pid, way.url, asked.seconds, asked.connections, way.proxies)
                if number:  # the first round warms up
                    found[name].append(one)
    resident = median(resident_megabytes(pod.pid) for pod in pods.values())
    return [*compared(found), *alone, Row("resident memory of a sidecar", resident, "MB", 80)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=100, help="of 150 requests, one at a time, for each way")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1, help="of each Envoy")
    parser.add_argument("--profile", default="minimal", help="`demo` logs every request")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not on PATH: on Debian, `apt-get install wrk`")
    with machine() as own:
        rows = measured(own, asked)
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
