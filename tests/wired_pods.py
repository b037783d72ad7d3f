"""Processes in network namespaces of their own, wired as the node wires Pods: they answer with their name, and call."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from ipaddress import IPv6Address
from pathlib import Path

from pyroute2 import NetNS

from mizzen.embedded.box import kernel
from mizzen.embedded.box.network import attach, plug_in, second_address

_NODAD = 0x02
HAS_IPV6 = socket.has_dualstack_ipv6()
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
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); datagrams.bind(("::", 53))
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
    """A process in a network namespace of its own, wired by what wires Pods: behind a bridge port, its addresses for
    itself alone."""

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
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        namespace = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        try:
            plug_in(self.address, home, self.name, ipv6=HAS_IPV6)
        finally:
            kernel.setns(home, kernel.CLONE_NEWNET)
            os.close(home)
            os.close(namespace)
        attach(self.name, self.address if HAS_IPV6 else "")

    @property
    def second_address(self):
        return second_address(self.address)

    def take_link_local(self):
        """An address on the bridge's own link, as a Pod with NET_ADMIN may give itself; as others would write it."""
        address = f"fe80::{int(IPv6Address(self.second_address)) & 0xFFFF:x}"
        with NetNS(f"/proc/{self.process.pid}/ns/net", flags=0) as inside:
            inside.addr("add", index=inside.link_lookup(ifname="eth0")[0], address=address, prefixlen=64, flags=_NODAD)
        return f"{address}%eth0"

    @property
    def addresses(self):
        """All of IPv6 that the kernel has given it or we have, loopback aside."""
        lines = Path(f"/proc/{self.process.pid}/net/if_inet6").read_text().splitlines()
        found = (line.split() for line in lines)
        return [str(IPv6Address(bytes.fromhex(fields[0]))) for fields in found if fields[5] == "eth0"]

    def call(self, address, port):
        self.process.stdin.write(f"{address} {port}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
