"""Pods with sidecars in a cluster of a bench's own, Envoys with a static configuration beside them, and load.

Needs root, to enter the Pods' network namespaces, and `wrk` (some of it `h2load`) on PATH: on Debian,
`apt-get install wrk nghttp2-client`.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from private_cluster import Machine

from mizzen.embedded.box.kernel import CLONE_NEWNET, setns
from mizzen.embedded.memory import descendants
from mizzen.envoy.descriptors import envoy_path
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.http import HttpApi

JSON = dict[str, Any]
APP = 8080
PROXY_USER = 1337
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A Pod of the cluster as this machine sees it. `service` is the address of the Service of its name."""

    address: str
    service: str
    pid: int
    """Of its Envoy; the Pod's network namespace is this process's."""

    @property
    def concurrency(self) -> str:
        words = Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")
        return words[words.index("--concurrency") + 1] if "--concurrency" in words else "2"


def pod(name: str, annotations: Mapping[str, str]) -> JSON:
    labels = {"app": name, "sidecar.istio.io/inject": "true"}
    containers = [{"name": "app", "image": "curlimages/curl", "command": ["sleep", "3600"]}]
    metadata = {"name": name, "labels": labels, "annotations": dict(annotations)}
    spec = {"serviceAccountName": name, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(name: str) -> JSON:
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": APP}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


async def deploy(own: Machine, names: Iterable[str], annotations: Mapping[str, str]) -> dict[str, Sidecar]:
    """A Pod, a Service and a service account of each name; returns when all are ready."""
    names, services = tuple(names), {}
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api, asyncio.timeout(_PATIENCE):
        for name in names:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            await api.create(WELL_KNOWN.serviceaccounts, account, "default")
            services[name] = await api.create(WELL_KNOWN.services, service(name), "default")
            await api.create(WELL_KNOWN.pods, pod(name, annotations), "default")
        while not all(map(_ready, pods := (await api.list(WELL_KNOWN.pods, "default")).items)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    addresses = {one["metadata"]["name"]: one["status"]["podIP"] for one in pods}
    box = json.loads((own.state / "box.json").read_text())["pid"]
    return {
        name: Sidecar(addresses[name], services[name]["spec"]["clusterIP"], _envoy_of(box, addresses[name]))
        for name in names
    }


def _ready(one: JSON) -> bool:
    conditions = one.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _envoy_of(box: int, address: str) -> int:
    """The pid of the Envoy in the Pod of this address, as this machine numbers it."""
    for pid in descendants(box):
        place = Path(f"/proc/{pid}")
        try:
            envoy = (place / "exe").readlink().name == "envoy"
            here = f"-- {address}\n" in (place / "net/fib_trie").read_text()
        except OSError:
            continue
        if envoy and here:
            return pid
    raise LookupError(f"no Envoy in the Pod of {address}")


FORWARD: JSON = {"route": {"cluster": "next", "timeout": "0s"}}
ANSWERED = "x" * 1024
ANSWER: JSON = {"direct_response": {"status": 200, "body": {"inline_string": ANSWERED}}}
_BLOCK = 150


def static(port: int, route: JSON, upstream: tuple[str, int] | None = None, **secured: JSON) -> JSON:
    """The least that an Envoy needs to do one thing with every request.

    `secured`: the transport sockets, `downstream` and `upstream_tls`, where there is TLS.
    """
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}]
    manager = {
        "@type": _HCM,
        "stat_prefix": "hop",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
    }
    chain: JSON = {"filters": [{"name": "hcm", "typed_config": manager}]}
    if "downstream" in secured:
        chain["transport_socket"] = secured["downstream"]
    found: JSON = {"listeners": [{"name": "hop", "address": _socket("0.0.0.0", port), "filter_chains": [chain]}]}
    if upstream:
        found["clusters"] = [_next(upstream, secured.get("upstream_tls"))]
    return {"static_resources": found}


def _next(upstream: tuple[str, int], tls: JSON | None) -> JSON:
    ends = [{"lb_endpoints": [{"endpoint": {"address": _socket(*upstream)}}]}]
    cluster: JSON = {"name": "next", "type": "STATIC", "load_assignment": {"cluster_name": "next", "endpoints": ends}}
    return {**cluster, "transport_socket": tls} if tls else cluster


def _socket(address: str, port: int) -> JSON:
    return {"socket_address": {"address": address, "port_value": port}}


@contextmanager
def envoy(inside: int, config: JSON, threads: str, user: int = PROXY_USER) -> Iterator[int]:
    """An Envoy in the network namespace and the processor's control group of a process: yields its pid once it listens.

    Without the latter the scheduler would give sidecars (of one cluster together) another share than their like.
    """
    port = config["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "envoy.json").write_text(json.dumps(config))
        owner = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        enter = ["nsenter", "-t", str(inside), "--net", "--", *owner]
        flags = ["-c", f"{folder}/envoy.json", "--concurrency", threads, "--disable-hot-restart", "-l", "error"]
        process = subprocess.Popen([*enter, str(envoy_path()), *flags])
        try:
            (_control_group(inside) / "cgroup.procs").write_text(str(process.pid))
            _until_it_listens(process, port)
            yield process.pid
        finally:
            process.kill()
            process.wait()


def _control_group(pid: int) -> Path:
    """Where the processor's time of a process is shared out: of its own hierarchy (v1), or of the one for all (v2)."""
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for controllers, kind in (("cpu", "cgroup"), ("", "cgroup2")):
        for _, names, path in lines:
            for _, place, found, options, *_ in mounts:
                ours = controllers in names.split(",") and (not controllers or controllers in options.split(","))
                if found == kind and ours:
                    return Path(place + path)
    raise LookupError("no control group of the processor")


def _until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    """Raises RuntimeError when it ends, or says nothing in time."""
    listening = re.compile(rf":{port:04X} \S+ 0A ")
    deadline = time.monotonic() + _PATIENCE
    while not listening.search(Path(f"/proc/{process.pid}/net/tcp").read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("an Envoy with a static configuration did not start")
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk found."""

    rate: float
    """Requests per second."""
    cpu: float
    """Microseconds of processor time per request, of the processes that were asked about."""


def load(inside: int, url: str, seconds: int, connections: int, watched: Iterable[int] = ()) -> Load:
    """As fast as it goes, from the network namespace of a process. Raises AssertionError when a request failed."""
    command = ["nsenter", "-t", str(inside), "--net", "--", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    pids = tuple(watched)
    before = sum(map(processor_time, pids))
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = sum(map(processor_time, pids)) - before
    assert "Non-2xx" not in told and "Socket errors" not in told, told
    rate, requests = re.search(r"Requests/sec:\s+([\d.]+)", told), re.search(r"(\d+) requests in", told)
    assert rate and requests, told
    return Load(float(rate[1]), spent / int(requests[1]) / 1e3)


def sequential(inside: int, ways: Mapping[str, tuple[str, int, tuple[int, ...]]], blocks: int) -> dict[str, float]:
    """Microseconds of processor time per request when there is one at a time: of all blocks the lowest quarter's mean.

    `ways`: by name, address and port as the network namespace of a process sees them, and the processes to watch. They
    take turns block by block. What else runs on the machine makes blocks dearer and never cheaper, so that this tells
    some hundredths apart where throughput does not; caches are colder than under load.
    """
    with ThreadPoolExecutor(1, initializer=_enter, initargs=(inside,)) as thread:
        return thread.submit(_blocks, ways, blocks).result()


def _enter(inside: int) -> None:
    with Path(f"/proc/{inside}/ns/net").open() as place:
        setns(place.fileno(), CLONE_NEWNET)


def _blocks(ways: Mapping[str, tuple[str, int, tuple[int, ...]]], blocks: int) -> dict[str, float]:
    open_ones = {name: http.client.HTTPConnection(address, port) for name, (address, port, _) in ways.items()}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(blocks + 1):
        for name in (*ways, *ways)[number % len(ways) :][: len(ways)]:
            before = sum(map(processor_time, ways[name][2]))
            for _ in range(_BLOCK):
                open_ones[name].request("GET", "/")
                assert len(open_ones[name].getresponse().read()) == len(ANSWERED)
            if number:  # the first block warms up
                found[name].append((sum(map(processor_time, ways[name][2])) - before) / _BLOCK / 1e3)
    return {name: mean(sorted(each)[: max(1, len(each) // 4)]) for name, each in found.items()}


def processor_time(pid: int) -> int:
    """Nanoseconds, of all threads that live."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def paced(inside: int, url: str, seconds: int, connections: int, rate: int) -> list[float]:
    """Seconds that each request took, sent at a steady rate (per second, of all connections). Needs `h2load`.

    Raises AssertionError when one failed, or when the rate could not be kept.
    """
    with tempfile.NamedTemporaryFile(prefix="mizzen-bench-") as log:
        pace = [f"-c{connections}", f"-D{seconds}", f"--rps={rate / connections:g}", f"--log-file={log.name}"]
        command = ["nsenter", "-t", str(inside), "--net", "--", "h2load", "--h1", "-t1", *pace, url]
        subprocess.run(command, capture_output=True, text=True, check=True)
        found = [line.split("\t") for line in Path(log.name).read_text().splitlines()]
    assert all(status == "200" for _, status, _ in found), "a request failed"
    assert len(found) > 0.9 * rate * seconds, f"only {len(found) / seconds:.0f} requests/s"
    return [int(microseconds) / 1e6 for _, _, microseconds in found]
