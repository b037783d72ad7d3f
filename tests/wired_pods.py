"""Processes in network namespaces of their own, wired as the node wires Pods: they answer with their name, and call."""

from __future__ import annotations

import subprocess
import sys
import time
from ipaddress import IPv6Address
from pathlib import Path

from pyroute2 import IPRoute, NetNS

from mizzen.embedded.box.network import attach

_TENTATIVE = 0x40
POD = """
import ctypes, socket, sys, threading
assert ctypes.CDLL(None).unshare(0x40000000) == 0
print("apart", flush=True)
sys.stdin.readline()
def serve_udp(server):
    while True:
        _, peer = server.recvfrom(10)
        server.sendto(sys.argv[1].encode(), peer)
def serve_tcp(server):
    while True:
        connection, peer = server.accept()
        connection.sendall(f"{sys.argv[1]} {peer[0].removeprefix('::ffff:')}".encode()); connection.close()
datagrams = socket.socket(type=socket.SOCK_DGRAM); datagrams.bind(("0.0.0.0", 53))
threading.Thread(target=serve_udp, args=(datagrams,), daemon=True).start()
both = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
threading.Thread(target=serve_tcp, args=(both,), daemon=True).start()
print("serving", flush=True)
for line in sys.stdin:
    address, port = line.split()
    try:
        connection = socket.create_connection((address, int(port)), 0.7)
        print(connection.recv(100).decode(), flush=True)
    except OSError as error:
        print(error, flush=True)
"""


class WiredPod:
    """A process in a network namespace of its own, wired as the node wires Pods: a /32 behind a bridge port."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        self.process = subprocess.Popen(
            [sys.executable, "-c", POD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "apart\n"
        self._plug_in()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "serving\n"

    def _plug_in(self):
        namespace = f"/proc/{self.process.pid}/ns/net"
        with IPRoute() as route:
            route.link("add", ifname=self.name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": namespace})
        attach(self.name)
        with NetNS(namespace, flags=0) as inside:
            eth0 = inside.link_lookup(ifname="eth0")[0]
            inside.link("set", index=1, state="up")
            inside.addr("add", index=eth0, address=self.address, prefixlen=32)
            inside.link("set", index=eth0, state="up")
            inside.route("add", dst="10.244.0.1/32", oif=eth0, scope="link")
            inside.route("add", dst="default", gateway="10.244.0.1", oif=eth0)

    @property
    def link_local(self):
        """Its address on the bridge's own link, as the others would write it; once it is not tentative any more."""
        while True:
            for line in Path(f"/proc/{self.process.pid}/net/if_inet6").read_text().splitlines():
                address, _, _, _, flags, device = line.split()
                if device == "eth0" and not int(flags, 16) & _TENTATIVE:
                    return f"{IPv6Address(bytes.fromhex(address))}%eth0"
            time.sleep(0.02)

    def call(self, address, port):
        self.process.stdin.write(f"{address} {port}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
