"""A sidecar as it stands in a Pod: captured connections, a real Envoy, an application that may speak first."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from envoy_judge import judge
from mizzen.agent.capture import capture
from mizzen.envoy.resources import ENDPOINTS
from mizzen.scope import model
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from mizzen.xds.endpoints import cluster_load_assignment
from stories import scopes, services, world

pytestmark = [pytest.mark.process, pytest.mark.root]

POD, FAR = "10.244.0.5", "10.244.0.9"
RULES = ["-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d", "15090"]
SERVICES = {"far.default": {80: "http", 81: "", 3306: "tcp"}, "own.default": {8000: "http", 8001: "tcp", 8002: ""}}
# Ports from 3300 on greet first, as databases do; the others answer what they are asked with who asked.
ENDS = """
import json, socket, sys, threading
def greet(connection, peer):
    connection.sendall(b"hello from %d" % connection.getsockname()[1])
    connection.close()
def answer(connection, peer):
    asked = connection.recv(4096)
    text = b"%d asked by %s" % (connection.getsockname()[1], peer[0].encode())
    head = b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(text)
    connection.sendall(head + text if b"HTTP/1" in asked else text)
    connection.close()
def serve(port):
    server = socket.create_server(("0.0.0.0", port))
    while True:
        connection, peer = server.accept()
        first = 3300 <= port < 8000 or port == 8001
        threading.Thread(target=greet if first else answer, args=(connection, peer)).start()
def call(address, port, sent):
    try:
        with socket.create_connection((address, port), timeout=3) as connection:
            connection.sendall(sent.encode())
            found = b""
            while part := connection.recv(4096):
                found += part
            return found.decode()
    except OSError as error:
        return type(error).__name__
"""
RUN = """
for port in json.loads(sys.argv[1]):
    threading.Thread(target=serve, args=(port,), daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(call(*json.loads(line))), flush=True)
"""
FAR_SET_UP = """
import ctypes, os
assert ctypes.CDLL(None).unshare(0x40000000) == 0
print("apart", flush=True)
sys.stdin.readline()
from pyroute2 import IPRoute
with IPRoute() as ip:
    for name in ("lo", "far0"):
        ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
    ip.addr("add", index=ip.link_lookup(ifname="far0")[0], address="10.244.0.9", prefixlen=16)
"""


class End:
    """A process that serves ports and calls others when told to."""

    def __init__(self, script: str, ports: list[int]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, json.dumps(ports)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def tell(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    async def call(self, address: str, port: int, sent: str = "") -> str:
        self.tell(json.dumps([address, port, sent]))
        return str(json.loads(await asyncio.to_thread(self.line)))

    async def get(self, address: str, port: int, host: str) -> str:
        answer = await self.call(address, port, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        head, _, body = answer.partition("\r\n\r\n")
        return f"{head.split()[1]} {body}" if body or " " in head else answer

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def ends(private_network: None) -> Iterator[tuple[End, End]]:
    """The Pod's application here, and another Pod in a network namespace of its own."""
    far = End(ENDS + FAR_SET_UP + RUN, [80, 81, 3306, 7777])
    assert far.line() == "apart"
    with IPRoute() as ip:
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": "far0"})
        ip.link("set", index=ip.link_lookup(ifname="far0")[0], net_ns_fd=f"/proc/{far.process.pid}/ns/net")
        index = ip.link_lookup(ifname="eth0")[0]
        ip.addr("add", index=index, address=POD, prefixlen=16)
        ip.link("set", index=index, state="up")
        ip.route("add", dst="default", gateway=FAR)
    far.tell("go on")
    own = End(ENDS + RUN, [8000, 8001, 8002, 8003])
    assert (far.line(), own.line()) == ("ready", "ready")
    try:
        yield own, far
    finally:
        own.end()
        far.end()


@asynccontextmanager
async def sidecar(folder: Path) -> AsyncIterator[None]:
    capture(RULES, {})
    snapshot = Snapshot.of(services(SERVICES))
    proxy = Proxy(namespace="default", name="own-1", labels={"app": "own"})
    told: dict[str, Any] = dict(world(scopes(snapshot, proxy, gateway=False), snapshot, "default"))
    told[ENDPOINTS] = {
        cluster: cluster_load_assignment(cluster, [model.Endpoint(address=FAR, port=int(cluster.split("|")[1]))])
        for cluster in told[ENDPOINTS]
        if "far" in cluster
    }
    async with judge(folder, user=1337) as envoy:
        assert await envoy.refusals(told) == []
        yield


VIP = "10.96.0.1"


async def test_what_the_application_calls(ends: tuple[End, End], tmp_path: Path) -> None:
    own, _ = ends
    async with sidecar(tmp_path):
        assert await own.get(VIP, 80, "far") == f"200 80 asked by {POD}"
        assert await own.get(VIP, 81, "far") == f"200 81 asked by {POD}"
        assert await own.call(VIP, 81, "some bytes\n") == f"81 asked by {POD}"
        assert await own.call(VIP, 3306) == "hello from 3306"
        assert await own.get(FAR, 80, "elsewhere.example.com") == f"200 80 asked by {POD}"
        assert await own.call(FAR, 80, "some bytes\n") == f"80 asked by {POD}"
        assert await own.call(FAR, 7777) == "hello from 7777"
        assert (await own.get("10.96.0.2", 8000, "own")).startswith("503")
        assert await own.call(POD, 15001, "x") in ("", "ConnectionResetError")


async def test_what_calls_the_application(ends: tuple[End, End], tmp_path: Path) -> None:
    _, far = ends
    async with sidecar(tmp_path):
        assert await far.get(POD, 8000, "anything") == "200 8000 asked by 127.0.0.6"
        assert await far.call(POD, 8001) == "hello from 8001"
        assert await far.get(POD, 8002, "anything") == "200 8002 asked by 127.0.0.6"
        assert await far.call(POD, 8002, "some bytes\n") == "8002 asked by 127.0.0.6"
        assert await far.get(POD, 8003, "anything") == "200 8003 asked by 127.0.0.6"
        assert await far.call(POD, 8003, "some bytes\n") == "8003 asked by 127.0.0.6"
        assert await far.call(POD, 15006, "x") in ("", "ConnectionResetError")
