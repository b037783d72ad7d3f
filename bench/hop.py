"""One hop through two sidecars against the same two Envoys with the least configuration that forwards, in one run.

Two Pods of a cluster of its own, both with a sidecar. `wrk` runs in the caller's network namespace and calls the
Service: captured, client's sidecar, server's sidecar, application. In turn it calls two Envoys with a static
configuration that stand in the same namespaces: no capture, no filter but the router. The application is a third Envoy
that answers by itself, so that it does not hide the difference. Needs root, and `wrk` on PATH.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from measuring import Row, tell
from private_cluster import Machine, machine

from mizzen.embedded.memory import descendants
from mizzen.envoy.descriptors import envoy_path
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.http import HttpApi

JSON = dict[str, Any]
APP, NEAR, FAR = 8080, 18000, 18001
PROXY_USER = 1337
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def pod(name: str) -> JSON:
    kept_out = {"traffic.sidecar.istio.io/excludeInboundPorts": str(FAR)}
    labels = {"app": name, "sidecar.istio.io/inject": "true"}
    containers = [{"name": "app", "image": "curlimages/curl", "command": ["sleep", "3600"]}]
    metadata = {"name": name, "labels": labels, "annotations": kept_out}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "server"},
    "spec": {"selector": {"app": "server"}, "ports": [{"name": "http", "port": 80, "targetPort": APP}]},
}


def static(port: int, route: JSON, upstream: tuple[str, int] | None = None) -> JSON:
    """An Envoy that does one thing with every request."""
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}]
    manager = {
        "@type": HCM,
        "stat_prefix": "hop",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    chain = {"filters": [{"name": "hcm", "typed_config": manager}]}
    listener = {"name": "hop", "address": _socket("0.0.0.0", port), "filter_chains": [chain]}
    found: JSON = {"listeners": [listener]}
    if upstream:
        ends = [{"lb_endpoints": [{"endpoint": {"address": _socket(*upstream)}}]}]
        assignment = {"cluster_name": "next", "endpoints": ends}
        found["clusters"] = [{"name": "next", "type": "STATIC", "load_assignment": assignment}]
    return {"static_resources": found}


def _socket(address: str, port: int) -> JSON:
    return {"socket_address": {"address": address, "port_value": port}}


FORWARD = {"route": {"cluster": "next", "timeout": "0s"}}
ANSWER = {"direct_response": {"status": 200, "body": {"inline_string": "x" * 1024}}}


def sidecar(box: int, address: str) -> int:
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


def concurrency(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[words.index("--concurrency") + 1] if "--concurrency" in words else "2"


@contextmanager
def envoy(inside: int, config: JSON, threads: str, user: int | None = None) -> Iterator[None]:
    """A static Envoy in the network namespace of a process."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "envoy.json").write_text(json.dumps(config))
        owner = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        enter = ["nsenter", "-t", str(inside), "--net", "--", *owner]
        flags = ["-c", f"{folder}/envoy.json", "--concurrency", threads, "--use-dynamic-base-id", "-l", "error"]
        process = subprocess.Popen([*enter, str(envoy_path()), *flags])
        try:
            yield
        finally:
            process.kill()
            process.wait()


def load(inside: int, url: str, seconds: int, connections: int) -> float:
    """Requests per second. Raises AssertionError when one failed."""
    command = ["nsenter", "-t", str(inside), "--net", "--", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told and "Socket errors" not in told, told
    found = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert found, told
    return float(found[1])


async def deploy(own: Machine) -> tuple[dict[str, str], str]:
    """Addresses of the Pods by name, and of the Service, when both Pods are ready."""
    async with HttpApi.from_kubeconfig(own.kubeconfig) as api:
        service = await api.create(WELL_KNOWN.services, SERVICE, "default")
        for name in ("client", "server"):
            await api.create(WELL_KNOWN.pods, pod(name), "default")
        while True:
            pods = (await api.list(WELL_KNOWN.pods, "default")).items
            if len(pods) == 2 and all(_ready(one) for one in pods):
                break
            await asyncio.sleep(0.1)
        return {one["metadata"]["name"]: one["status"]["podIP"] for one in pods}, service["spec"]["clusterIP"]


def _ready(one: JSON) -> bool:
    conditions = one.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def measured(own: Machine, asked: argparse.Namespace) -> list[Row]:
    own.mizzen("up", "--set", "profile=minimal")
    addresses, service = asyncio.run(deploy(own))
    box = json.loads((own.state / "box.json").read_text())["pid"]
    client, server = sidecar(box, addresses["client"]), sidecar(box, addresses["server"])
    threads = concurrency(client)
    with ExitStack() as stack:
        stack.enter_context(envoy(server, static(APP, ANSWER), "1"))
        stack.enter_context(envoy(server, static(FAR, FORWARD, ("127.0.0.1", APP)), threads, PROXY_USER))
        stack.enter_context(envoy(client, static(NEAR, FORWARD, (addresses["server"], FAR)), threads, PROXY_USER))
        time.sleep(2)
        urls = {"sidecars": f"http://{service}/", "static": f"http://127.0.0.1:{NEAR}/"}
        rates: dict[str, list[float]] = {name: [] for name in urls}
        for number in range(asked.rounds + 1):
            for name, url in urls.items():
                rate = load(client, url, asked.seconds, asked.connections)
                if number:  # the first round warms up
                    rates[name].append(rate)
    ratios = [ours / least for ours, least in zip(rates["sidecars"], rates["static"], strict=True)]
    return [
        Row("two sidecars", median(rates["sidecars"]), "/s"),
        Row("two Envoys with a minimal static configuration", median(rates["static"]), "/s"),
        Row(f"ratio (median of {asked.rounds} pairs)", median(ratios), "", 0.85, at_least=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not on PATH: on Debian, `apt-get install wrk`")
    with machine() as own:
        rows = measured(own, asked)
    tell(rows, asked.json)


if __name__ == "__main__":
    main()
