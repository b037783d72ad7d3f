"""Capture for real: rules in a private network namespace, connections that meet them."""

import shutil
import socket
import subprocess
import sys
import threading

import pytest
from pyroute2 import IPRoute, NetNS

from mizzen.agent.capture import capture
from mizzen.agent.interception import TABLE, CaptureRefused
from mizzen.nftables.netlink import table_names

pytestmark = [pytest.mark.process, pytest.mark.root]

ISTIO = ["-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", "", "-b", "*"]
EXCLUDED = ["-d", "15090,15021,15020"]
POD, OTHER = "10.244.0.5", "10.244.0.9"
LINK_LOCAL = "fe80::77"
NODAD = 0x02
DIAL = """
import os, socket, sys
if sys.argv[3]:
    os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
connection = socket.socket()
if sys.argv[4]:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(sys.argv[4]))
if sys.argv[5]:
    connection.bind((sys.argv[5], 0))
connection.settimeout(0.5)
connection.connect((sys.argv[1], int(sys.argv[2])))
print(connection.recv(100).decode())
"""


@pytest.fixture
def pod(private_network):
    """A Pod's address, another one on the same link (both local, so that what is not captured arrives somewhere)."""
    with IPRoute() as ip:
        ip.link("add", ifname="eth0", kind="veth", peer={"ifname": "eth0-far"})
        ip.link("set", index=ip.link_lookup(ifname="eth0-far")[0], state="up")
        index = ip.link_lookup(ifname="eth0")[0]
        ip.link("set", index=index, state="up")
        ip.addr("add", index=index, address=POD, prefixlen=16)


@pytest.fixture
def listeners(pod):
    """Each accepts one connection at a time and tells its own port and where the caller wanted to go."""
    script = """
import socket, struct, sys, threading
def serve(port):
    server = socket.create_server(("0.0.0.0", port))
    while True:
        connection, peer = server.accept()
        raw = connection.getsockopt(socket.SOL_IP, 80, 16)
        wanted = "%s:%d" % (socket.inet_ntoa(raw[4:8]), struct.unpack("!H", raw[2:4])[0])
        connection.sendall(f"{port} {wanted} from {peer[0]}".encode()); connection.close()
for port in map(int, sys.argv[1:]):
    threading.Thread(target=serve, args=(port,)).start()
print("listening", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, "15001", "15006", "9080", "15020", "8443"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "listening\n"
    yield
    process.kill()
    process.wait()
    process.stdout.close()


def dial(address, port, uid="", mark="", source=""):
    """What the listener that answered says, or the error's name."""
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or sys.executable
    result = subprocess.run(
        [python, "-c", DIAL, address, str(port), str(uid), str(mark), source], capture_output=True, text=True
    )
    return result.stdout.strip() or result.stderr.strip().rpartition("\n")[2]


def test_what_the_app_calls_meets_the_outbound_port(listeners):
    assert capture([*ISTIO, *EXCLUDED], {}) == 0
    assert dial(OTHER, 9080).startswith(f"15001 {OTHER}:9080")


def test_what_the_proxy_calls_is_left_alone(listeners):
    capture([*ISTIO, *EXCLUDED], {})
    assert dial("127.0.0.1", 9080, uid=1337).startswith("9080 ")
    assert not dial(OTHER, 9080, uid=1337).startswith("15001")


def test_a_proxy_that_calls_its_own_pod_meets_the_inbound_port(listeners):
    capture([*ISTIO, *EXCLUDED], {})
    assert dial(POD, 9080, uid=1337).startswith(f"15006 {POD}:9080")


def test_what_comes_from_the_inbound_side_reaches_the_app(listeners):
    capture([*ISTIO, *EXCLUDED], {})
    assert dial(POD, 9080, uid=1337, source="127.0.0.6") == f"9080 {POD}:9080 from 127.0.0.6"


def test_the_app_calls_itself_directly(listeners):
    capture([*ISTIO, *EXCLUDED], {})
    assert dial(POD, 9080).startswith("9080 ")
    assert dial("127.0.0.1", 9080).startswith("9080 ")


def test_the_mark_exempts_where_there_is_no_uid(listeners):
    capture([*ISTIO, *EXCLUDED], {"MIZZEN_CAPTURE": "mark"})
    assert dial(POD, 9080, mark=0x539).startswith(f"15006 {POD}:9080")
    assert dial("127.0.0.1", 9080, mark=0x539).startswith("9080 ")
    assert dial(OTHER, 9080).startswith(f"15001 {OTHER}:9080")


def test_capturing_again_replaces_the_rules(listeners):
    capture([*ISTIO, *EXCLUDED], {})
    capture([*ISTIO, *EXCLUDED, "-o", "9080"], {})
    assert table_names() == [TABLE]
    assert not dial(OTHER, 9080).startswith("15001")
    assert dial(OTHER, 9081).startswith(f"15001 {OTHER}:9081")


def test_inbound_connections_meet_the_inbound_port_but_for_excluded_ports(listeners, neighbour):
    capture([*ISTIO, *EXCLUDED], {})
    assert neighbour(POD, 9080).startswith(f"15006 {POD}:9080")
    assert neighbour(POD, 15020).startswith("15020 ")


def test_only_listed_ports_are_captured_when_they_are_listed(listeners, neighbour):
    capture([*ISTIO, "-b", "8443"], {})
    assert neighbour(POD, 8443).startswith(f"15006 {POD}:8443")
    assert neighbour(POD, 9080).startswith("9080 ")


def test_nothing_is_written_when_the_arguments_are_refused(pod):
    with pytest.raises(CaptureRefused, match="TPROXY"):
        capture([*ISTIO, "-m", "TPROXY"], {})
    assert table_names() == []


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")
def test_nobody_gets_past_by_link_local_ipv6(listeners, neighbour):
    """The application listens there, and the Pod has no address of IPv6 that Envoy would be told of."""
    with socket.create_server(("::", 9080), family=socket.AF_INET6) as application:

        def greet():
            with application.accept()[0] as connection:
                connection.sendall(b"the application")

        greeting = threading.Thread(target=greet)
        greeting.start()
        assert neighbour(f"{LINK_LOCAL}%far", 9080) == "the application"
        greeting.join()
        capture([*ISTIO, *EXCLUDED], {})
        assert "refused" in neighbour(f"{LINK_LOCAL}%far", 9080)


def _add_ipv6(route, index, address):
    if socket.has_dualstack_ipv6():
        route.addr("add", index=index, address=address, prefixlen=64, flags=NODAD)


NEIGHBOUR = """
import ctypes, socket, sys
assert ctypes.CDLL(None).unshare(0x40000000) == 0
print("apart", flush=True)
for line in sys.stdin:
    address, port = line.split()
    try:
        connection = socket.create_connection((address, int(port)), 2)
        print(connection.recv(100).decode(), flush=True)
    except OSError as error:
        print(error, flush=True)
"""


@pytest.fixture
def neighbour(pod):
    """Calls the Pod from another network namespace, at the far end of a veth pair."""
    process = subprocess.Popen(
        [sys.executable, "-c", NEIGHBOUR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "apart\n"
    with IPRoute() as ip:
        ip.link("add", ifname="near", kind="veth", peer={"ifname": "far", "net_ns_fd": f"/proc/{process.pid}/ns/net"})
        index = ip.link_lookup(ifname="near")[0]
        ip.addr("add", index=index, address="10.77.0.1", prefixlen=24)
        _add_ipv6(ip, index, LINK_LOCAL)
        ip.link("set", index=index, state="up")
    with NetNS(f"/proc/{process.pid}/ns/net", flags=0) as far:
        index = far.link_lookup(ifname="far")[0]
        far.addr("add", index=index, address="10.77.0.2", prefixlen=24)
        _add_ipv6(far, index, "fe80::78")
        far.link("set", index=index, state="up")
        far.route("add", dst="default", gateway="10.77.0.1")

    def call(address, port):
        process.stdin.write(f"{address} {port}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield call
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
