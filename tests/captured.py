"""A Pod whose connections are captured, and another one beside it, in private network namespaces."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2 import IPRoute

POD, FAR = "10.244.0.5", "10.244.0.9"
POD6, FAR6 = "fd00:10:244::5", "fd00:10:244::9"
RULES = ["-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*", "-d", "15090"]
VIP = "10.96.0.1"
_NODAD = 0x02
HAS_IPV6 = socket.has_dualstack_ipv6()
# Ports from 3300 on greet first, as databases do; the others answer what they are asked with who asked, or under
# /shown with the certificate that the proxy says was shown.
ENDS = """
import json, socket, sys, threading
def greet(connection, peer):
    connection.sendall(b"hello from %d" % connection.getsockname()[1])
    connection.close()
def answer(connection, peer):
    asked = connection.recv(4096)
    text = b"%d asked by %s" % (connection.getsockname()[1], peer[0].removeprefix("::ffff:").encode())
    if asked.startswith(b"GET /shown "):
        lines = [line.partition(b": ") for line in asked.split(b"\\r\\n")]
        text = b"&".join(value for name, _, value in lines if name.lower() == b"x-forwarded-client-cert")
    head = b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(text)
    connection.sendall(head + text if b"HTTP/1" in asked else text)
    connection.close()
def serve(port):
    if socket.has_dualstack_ipv6():
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
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
    if socket.has_dualstack_ipv6():
        ip.addr("add", index=ip.link_lookup(ifname="far0")[0], address="fd00:10:244::9", prefixlen=64, flags=2)
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

    async def get(self, address: str, port: int, host: str, path: str = "/") -> str:
        answer = await self.call(address, port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        head, _, body = answer.partition("\r\n\r\n")
        return f"{head.split()[1]} {body}" if body or " " in head else answer

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def pods(far_ports: list[int], more: str = "") -> Iterator[tuple[End, End]]:
    """The Pod's application here, and another Pod without a sidecar in a network namespace of its own. `more` is what
    its script can do besides."""
    far = End(ENDS + more + FAR_SET_UP + RUN, far_ports)
    assert far.line() == "apart"
    with IPRoute() as ip:
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": "far0"})
        ip.link("set", index=ip.link_lookup(ifname="far0")[0], net_ns_fd=f"/proc/{far.process.pid}/ns/net")
        index = ip.link_lookup(ifname="eth0")[0]
        ip.addr("add", index=index, address=POD, prefixlen=16)
        ip.link("set", index=index, state="up")
        ip.route("add", dst="default", gateway=FAR)
        if HAS_IPV6:
            ip.addr("add", index=index, address=POD6, prefixlen=64, flags=_NODAD)
            ip.route("add", dst="default", gateway=FAR6)
    far.tell("go on")
    own = End(ENDS + RUN, [8000, 8001, 8002, 8003])
    assert (far.line(), own.line()) == ("ready", "ready")
    try:
        yield own, far
    finally:
        own.end()
        far.end()
