"""The box on a real kernel: it holds Pods, and nothing is left of it however it ends."""

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from mizzen.embedded.box import create, record
from mizzen.embedded.box.messages import Message, Mount, Process, Request, close_all, receive, send
from mizzen.embedded.node.container import DEFAULT_CAPABILITIES
from mizzen.embedded.paths import ClusterPaths

pytestmark = [
    pytest.mark.process,
    pytest.mark.root,
]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="links to the machine and other users' ids need root")
MOUNTS = Path("/proc/self/mounts")


@pytest.fixture
def paths(tmp_path_factory):
    """A short folder: socket paths have 107 bytes."""
    found = ClusterPaths(tmp_path_factory.mktemp("b"))
    yield found
    create.stop(found)


def eventually(holds, limit=10.0):
    deadline = time.monotonic() + limit
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
    return value


def interface_exists(name):
    with IPRoute() as route:
        return bool(route.link_lookup(ifname=name))


def outside(address, port):
    """What the machine itself gets when it calls; 0 is success."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(3)
        return client.connect_ex((address, port))


def processes_of(paths):
    """Every process of this machine that names the state folder or runs in the box's pid namespace."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if str(paths.root).encode() in line and entry.name != str(os.getpid()):
                    found.append(line.replace(b"\0", b" "))
    return found


def mounted(paths):
    """Where something is mounted; what other people mount in /tmp meanwhile is not ours."""
    places = [line.split()[1] for line in MOUNTS.read_text().splitlines()]
    return [place for place in places if not place.startswith("/tmp/") or place.startswith(str(paths.root))]


def assert_nothing_left(paths, mounts_before):
    eventually(lambda: not interface_exists(create.interface_name(paths)))
    eventually(lambda: not processes_of(paths))
    assert mounted(paths) == mounts_before
    eventually(lambda: record.running(paths) is None)


class Node:
    """A client of init's, as the node daemon is one."""

    def __init__(self, paths):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        eventually(lambda: self.socket.connect_ex(str(paths.init_socket)) == 0)
        self.socket.settimeout(20)
        self.events = []
        self.number = 0

    def ask(self, op, descriptors=(), **fields):
        self.number += 1
        send(self.socket, Request(seq=self.number, op=op, **fields), descriptors)
        while True:
            message, attached = receive(self.socket, Message)
            if message.event:
                self.events.append(message)
            else:
                return message, attached

    def output(self, id, *argv, **fields):
        reader, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        defaults = {"sandbox": "pod", "env": {"PATH": "/usr/bin:/bin"}, "capabilities": DEFAULT_CAPABILITIES}
        process = Process(**{**defaults, "id": id, "argv": list(argv), **fields})
        reply, _ = self.ask("run", [null, writer, writer], process=process)
        close_all([null, writer])
        with os.fdopen(reader, "rb") as output:
            return output.read().decode() if not reply.error else reply.error

    def exit_of(self, id):
        def found():
            self.ask("list")
            return next((event.process.exit for event in self.events if event.id == id and event.process), None)

        return eventually(found)


@pytest.fixture
def node(paths):
    create.start(paths, bare=True)
    client = Node(paths)
    reply, _ = client.ask("create_sandbox", id="pod", hostname="web-0")
    assert not reply.error, reply.error
    client.address = reply.sandbox.address
    yield client
    client.socket.close()


@as_root
def test_start_finds_the_running_box_and_stop_leaves_nothing(paths):
    mounts = mounted(paths)
    box = create.start(paths)
    assert create.start(paths) == box == record.running(paths)
    assert interface_exists(box.interface)
    assert paths.box.stat().st_mode & 0o077 == 0
    assert outside(box.address, 1) == errno.ECONNREFUSED
    if socket.has_dualstack_ipv6():
        assert outside(box.second_address, 1) == errno.ECONNREFUSED
    assert create.stop(paths)
    assert not create.stop(paths)
    assert_nothing_left(paths, mounts)
    assert create.start(paths).api_port == box.api_port


@as_root
def test_two_boxes_have_addresses_of_their_own(paths, tmp_path_factory):
    other = ClusterPaths(tmp_path_factory.mktemp("b"))
    try:
        first, second = create.start(paths), create.start(other)
        assert first.address != second.address and first.interface != second.interface
    finally:
        create.stop(other)


def test_starts_at_the_same_time_make_one_box(paths):
    boxes = []
    threads = [threading.Thread(target=lambda: boxes.append(create.start(paths))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(boxes) == 3 and len({box.pid for box in boxes}) == 1


def test_a_pid_that_is_someone_elses_is_not_killed(paths):
    """box.json of a box that died may name a pid that lives on as another process."""
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        box = create.start(paths)
        create.stop(paths)
        paths.box.write_bytes(paths.box.read_bytes().replace(str(box.pid).encode(), str(bystander.pid).encode()))
        assert not create.stop(paths)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_killing_init_leaves_nothing(paths):
    mounts = mounted(paths)
    box = create.start(paths, bare=True)
    client = Node(paths)
    client.ask("create_sandbox", id="pod", hostname="web-0")
    null = os.open(os.devnull, os.O_RDWR)
    process = Process(id="x", sandbox="pod", argv=["sleep", "1000"], env={"PATH": "/usr/bin:/bin"})
    assert not client.ask("run", [null] * 3, process=process)[0].error
    os.close(null)
    os.kill(box.pid, signal.SIGKILL)
    assert_nothing_left(paths, mounts)
    client.socket.close()


def test_whoever_dies_in_the_middle_of_a_start_leaves_nothing(paths):
    """The starting program is killed at random moments, with everything it may have started so far."""
    mounts, chance = mounted(paths), random.Random(5)
    code = (
        "import sys, pathlib; from mizzen.embedded.box import create; from mizzen.embedded.paths import ClusterPaths; "
    )
    code += "print('go', flush=True); create.start(ClusterPaths(pathlib.Path(sys.argv[1])))"
    for _ in range(8):
        with subprocess.Popen([sys.executable, "-c", code, str(paths.root)], stdout=subprocess.PIPE) as starter:
            starter.stdout.read(1)
            time.sleep(chance.uniform(0, 0.35))
            starter.kill()
        # Either the box was complete and recorded, and can be stopped, or it goes away by itself.
        time.sleep(0.3)
        create.stop(paths)
        assert_nothing_left(paths, mounts)


def test_init_killed_at_random_moments(paths):
    mounts, chance = mounted(paths), random.Random(6)
    for _ in range(4):
        box = create.start(paths)
        time.sleep(chance.uniform(0, 0.6))
        os.kill(box.pid, signal.SIGKILL)
        assert_nothing_left(paths, mounts)


def test_a_container_has_a_root_of_its_own(node):
    file = f"/tmp/{random.getrandbits(64):x}"
    script = f"ls / /root /home; touch /usr/x; touch {file} && echo wrote; hostname; pwd"
    listing = node.output("ls", "sh", "-c", script)
    assert "usr" in listing and "lost+found" not in listing
    assert "Read-only file system" in listing and "wrote" in listing and "web-0" in listing
    assert not Path(file).exists()
    assert node.exit_of("ls").code == 0


@as_root
def test_a_container_is_its_user_with_few_rights(node):
    assert node.output("id", "id", "-u", uid=1337, gid=1337) == "1337\n"
    caps = "grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    root = node.output("root", "sh", "-c", caps)
    assert "00000000a80425fb" in root and "NoNewPrivs:\t0" in root
    user = node.output("user", "sh", "-c", caps, uid=1337, gid=1337, no_new_privileges=True)
    assert "0000000000000000" in user and "NoNewPrivs:\t1" in user


def test_a_pod_has_an_address_and_no_way_out_but_says_so_at_once(node):
    found = node.output("net", "cat", "/proc/net/fib_trie", "/proc/net/route")
    gateway = int.from_bytes(IPv4Address("10.244.0.1").packed, "little")
    assert node.address in found and f"eth0\t00000000\t{gateway:08X}\t" in found
    begun = time.monotonic()
    call = "import socket; socket.create_connection(('192.0.2.99', 80), 5)"
    assert "Network is unreachable" in node.output("out", sys.executable, "-c", call)
    assert time.monotonic() - begun < 3


def test_exit_codes_and_signals(node):
    node.output("three", "sh", "-c", "exit 3")
    assert (node.exit_of("three").code, node.exit_of("three").signal) == (3, 0)
    node.output("killed", "sh", "-c", "kill -9 $$")
    assert (node.exit_of("killed").code, node.exit_of("killed").signal) == (137, 9)
    assert 'exec: "nosuch": executable file not found' in node.output("nosuch", "nosuch")
    assert "workingDir /nowhere" in node.output("cwd", "true", cwd="/nowhere")


def test_a_function_runs_in_a_fork(node):
    assert len(node.output("f", "x", function="mizzen.embedded.box.proc:boot_id")) == 37
    assert node.exit_of("f").code == 1  # a returned text is an error message, as of sys.exit
    assert "No module named" in node.output("g", "x", function="mizzen.nosuch:main")


def test_a_function_survives_a_closed_connection_and_a_program_begins_with_the_defaults(node):
    null = os.open(os.devnull, os.O_RDWR)
    waiting = Process(id="waiting", sandbox="pod", argv=["x"], function="signal:pause")
    assert not node.ask("run", [null] * 3, process=waiting)[0].error
    os.close(null)
    ignored = "for one in /proc/[2-9]*; do sed -n 's/^SigIgn:.*\\(.\\)...$/\\1/p' $one/status; done | sort -u"
    assert node.output("beside", "sh", "-c", ignored, join="waiting").split() == ["0", "1"]
    assert node.output("alone", "sh", "-c", ignored).split()[0] == "0"


def test_exec_joins_a_container(node):
    null = os.open(os.devnull, os.O_RDWR)
    process = Process(id="main", sandbox="pod", argv=["sleep", "1000"], env={"PATH": "/usr/bin:/bin"})
    assert not node.ask("run", [null] * 3, process=process)[0].error
    os.close(null)
    assert node.output("w", "sh", "-c", "echo hi > /tmp/shared", join="main") == ""
    assert node.output("r", "cat", "/tmp/shared", join="main") == "hi\n"
    assert "No such file" in node.output("other", "cat", "/tmp/shared")


def running(*argv):
    """Whether some process of this machine was started so."""
    wanted = "\0".join((*argv, "")).encode()
    return any(_command_line(entry) == wanted for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _command_line(entry):
    with contextlib.suppress(OSError):
        return (entry / "cmdline").read_bytes()
    return b""


@pytest.mark.parametrize("shares_pids", [False, True])
def test_what_a_container_leaves_behind_ends_with_it_and_nothing_else_does(node, shares_pids):
    stays, leaves = (f"{random.randrange(10**6, 10**7)}" for _ in range(2))
    null = os.open(os.devnull, os.O_RDWR)
    process = Process(id="stays", sandbox="pod", argv=["sleep", stays], env={"PATH": "/usr/bin:/bin"})
    assert not node.ask("run", [null] * 3, process=process)[0].error
    for number in range(5):
        daemonising = ["sh", "-c", f"setsid sleep {leaves} </dev/null >/dev/null 2>&1 & echo started"]
        assert node.output(f"leaver{number}", *daemonising, shares_pids=shares_pids) == "started\n"
        node.exit_of(f"leaver{number}")
    os.close(null)
    eventually(lambda: not running("sleep", leaves))
    assert running("sleep", stays)
    node.ask("remove_sandbox", id="pod")
    eventually(lambda: not running("sleep", stays))
    assert eventually(lambda: node.ask("list")[0].inventory.sandboxes == [])


def test_a_container_sees_its_own_processes_unless_the_pod_shares_them(node):
    """Root may become any user: were the proxy among what it sees, the proxy's files and memory would be open to it."""
    null = os.open(os.devnull, os.O_RDWR)
    proxy = Process(id="proxy", sandbox="pod", argv=["sleep", "1003"], env={"PATH": "/usr/bin:/bin"}, uid=1337)
    assert not node.ask("run", [null] * 3, process=proxy)[0].error
    os.close(null)
    first = "$(tr '\\0' ' ' </proc/1/cmdline)"
    settled = f"until [ \"{first}\" = 'sleep infinity ' ]; do :; done"
    seen = node.output("alone", "sh", "-c", f"{settled}; echo /proc/[0-9]*; echo /proc/$$")
    everyone, itself = seen.splitlines()
    assert everyone.split() == ["/proc/1", itself]
    what_runs = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 1003" in node.output("inside", *what_runs, join="proxy")
    assert "sleep 1003" not in node.output("together", *what_runs, shares_pids=True)


def test_a_removed_sandbox_takes_its_processes_along(node):
    null = os.open(os.devnull, os.O_RDWR)
    process = Process(id="main", sandbox="pod", argv=["sleep", "1000"], env={"PATH": "/usr/bin:/bin"})
    node.ask("run", [null] * 3, process=process)
    os.close(null)
    node.ask("remove_sandbox", id="pod")
    assert node.exit_of("main").signal == signal.SIGKILL
    eventually(lambda: node.ask("list")[0].inventory.sandboxes == [])
    assert any(event.event == "sandbox_gone" and event.id == "pod" for event in node.events)
    assert node.ask("forget", id="main")[0].error == ""
    assert node.ask("list")[0].inventory.processes == []


def test_what_cannot_be_is_refused(node):
    assert "no sandbox nope" in node.output("x", "true", sandbox="nope")
    assert "no process nope" in node.output("x", "true", join="nope")
    assert node.ask("forget", id="nope")[0].reason == "NotFound"


def test_mounts(node, tmp_path):
    (tmp_path / "file").write_text("content")
    mounts = [
        Mount(source=str(tmp_path), target="/data/ro", read_only=True),
        Mount(source=str(tmp_path), target="/var/run/secrets/x"),
        Mount(source=str(tmp_path / "file"), target="/etc/one/file"),
        Mount(target="/scratch", size=1 << 20),
    ]
    script = (
        "cat /data/ro/file /etc/one/file; touch /data/ro/new; touch /var/run/secrets/x/new; df -k /scratch | tail -1"
    )
    found = node.output("m", "sh", "-c", script, mounts=mounts, read_only_root=True)
    assert found.startswith("contentcontent") and "Read-only" in found and "1024" in found
    assert (tmp_path / "new").exists()
    assert "Read-only" in node.output("n", "sh", "-c", "touch /new 2>&1", read_only_root=True)


@as_root
def test_a_device_that_a_container_makes_leads_nowhere(node, tmp_path):
    """Root there may make one of the machine's disk."""
    mounts = [Mount(source=str(tmp_path), target="/data"), Mount(target="/scratch")]
    made = (
        "for place in / /tmp/ /data/ /scratch/ /dev/ /dev/shm/; do mknod ${place}x c 1 3; (: > ${place}x) && echo open"
    )
    found = node.output("d", "sh", "-c", f"{made}; done; : > /dev/null && echo ok", mounts=mounts)
    assert found.count("Permission denied") == 6 and "open" not in found and found.endswith("ok\n"), found
