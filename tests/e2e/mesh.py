"""A cluster with the demo profile, and what the tests do with it: apply, call, wait for what is to become true."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mizzen.embedded.box.messages import Inventory, Message, Request, close_all, receive, send
from mizzen.explain.proxy_status import row

JSON = dict[str, Any]
T = TypeVar("T")
HERE = Path(__file__).parent
SIGMAS = 5.2
"""Beyond so many standard deviations lies less than a millionth of what chance does to a share."""


def eventually(holds: Callable[[], T], limit: float = 20.0, every: float = 0.05) -> T:
    """What `holds` answers once it is true; the last answer is in the message if it never is."""
    deadline = time.monotonic() + limit
    while not (value := holds()):
        assert time.monotonic() < deadline, f"it did not come true within {limit} s: {value!r}"
        time.sleep(every)
    return value


def within_chance(hits: int, total: int, share: float) -> bool:
    """Whether chance explains `hits` of `total` where each comes up with probability `share`."""
    return abs(hits - total * share) <= SIGMAS * math.sqrt(total * share * (1 - share))


class Mesh:
    """One cluster, named as in `mizzen … --name`."""

    words = (sys.executable, "-m", "mizzen.cli")

    def __init__(self, home: Path, environment: dict[str, str], name: str = "mizzen") -> None:
        self.name = name
        self.state = home / "state" / "mizzen" / name
        self.environment = environment | {
            "KUBECONFIG": str(self.state / "kubeconfig"),
            "MIZZEN_CLUSTER": name,
        }

    # Commands

    def mizzen(self, *arguments: str, code: int = 0) -> str:
        return self.command(*self.words, *arguments, code=code)

    def kubectl(self, *arguments: str, stdin: str | None = None, code: int = 0) -> str:
        return self.command("kubectl", *arguments, stdin=stdin, code=code)

    def command(self, *words: str, stdin: str | None = None, code: int = 0) -> str:
        """What it printed on both streams; it must end with `code`."""
        done = subprocess.run(
            words, input=stdin, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert done.returncode == code, f"$ {' '.join(words)}\n{stdin or ''}\n{done.stdout}\n(exit {done.returncode})"
        return done.stdout

    def succeeds(self, *words: str) -> bool:
        return subprocess.run(words, env=self.environment, capture_output=True).returncode == 0

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """kubectl in the background, killed at the end of the block if it still runs."""
        with subprocess.Popen(
            ["kubectl", *arguments], env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def apply(self, text: str, *flags: str, code: int = 0) -> str:
        return self.kubectl("apply", *flags, "-f", "-", stdin=text, code=code)

    def get(self, kind: str, name: str = "", namespace: str = "default", *flags: str) -> JSON:
        found: JSON = json.loads(
            self.kubectl("get", kind, *([name] if name else []), "-n", namespace, "-o", "json", *flags)
        )
        return found

    def ready(self, selector: str = "", namespace: str = "default") -> None:
        which = ["-l", selector] if selector else ["--all"]
        self.kubectl("wait", "--for=condition=ready", "pod", *which, "-n", namespace, "--timeout=60s")

    def pods(self, selector: str, namespace: str = "default") -> list[JSON]:
        """Those that are not on their way out."""
        items = self.get("pods", "", namespace, "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    # Configuration

    def condition(self, kind: str, name: str, namespace: str = "default") -> JSON | None:
        """What istiod says of an object, if it has seen its newest version."""
        obj = self.get(kind, name, namespace)
        for one in obj.get("status", {}).get("conditions", ()):
            if one["type"] == "Reconciled" and one["observedGeneration"] == obj["metadata"]["generation"]:
                return dict(one)
        return None

    def in_force(self, *objects: str) -> None:
        """Wait until istiod has seen these (`KIND/NAME`) as they are, and every proxy what follows from it."""
        for one in objects:
            kind, _, name = one.partition("/")
            eventually(lambda kind=kind, name=name: self.condition(kind, name))
        eventually(self.in_sync)

    def in_sync(self, number: int = 0) -> bool:
        """As `mizzen proxy-status` says, but asked as often as this is, it costs a quarter. `number`: so many proxies
        must be connected, if it matters."""
        syncz = ("curl", "-sS", "http://localhost:15014/debug/syncz")
        proxies = [
            row(one) for one in json.loads(self.kubectl("exec", "deploy/istiod", "-nistio-system", "--", *syncz))
        ]
        refused = [(proxy.name, one) for proxy in proxies for one in proxy.refused]
        assert not refused, refused
        words = [word for proxy in proxies for word in proxy.types.values()]
        return number in (0, len(proxies)) and bool(words) and not any("STALE" in word for word in words)

    # Calls

    def gateway(self) -> str:
        """Where the ingress gateway answers, as the tutorial finds it."""
        path = '{.spec.ports[?(@.name=="http2")].nodePort}'
        service = ("get", "service", "istio-ingressgateway", "-n", "istio-system")
        return f"http://{self.mizzen('ip').strip()}:{self.kubectl(*service, '-o', f'jsonpath={path}')}"

    def exec(self, target: str, *words: str, container: str = "", code: int = 0) -> str:
        return self.kubectl("exec", target, *(["-c", container] if container else []), "--", *words, code=code)

    def curl(self, *words: str, source: str = "deploy/curl", code: int = 0) -> str:
        """From a Pod."""
        return self.exec(source, "curl", "-sS", "--max-time", "20", *words, code=code)

    def outside(self, *words: str, code: int = 0) -> str:
        """From the machine."""
        return self.command("curl", "-sS", "--max-time", "20", *words, code=code)

    def stats(self, pod: str, pattern: str, namespace: str = "istio-system") -> dict[str, int]:
        """Counters and gauges of a proxy whose names match."""
        text = self.kubectl(
            "exec", pod, "-n", namespace, "-c", "istio-proxy", "--",
            "curl", "-s", "-g", f"http://localhost:15000/stats?filter={pattern}",
        )  # fmt: skip
        pairs = (line.rpartition(": ") for line in text.splitlines() if ": " in line)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    # Processes

    def inventory(self) -> Inventory:
        """What pid 1 of the box runs."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(self.state / "run" / "init.sock"))
            send(connection, Request(seq=1, op="list"))
            while True:
                received = receive(connection, Message)
                assert received
                close_all(received[1])
                if received[0].seq == 1 and received[0].inventory:
                    return received[0].inventory

    def box(self) -> int:
        """Pid 1 of the box, as the machine numbers it."""
        return int(json.loads((self.state / "box.json").read_text())["pid"])

    def container(self, pod: str, container: str) -> int:
        """The machine's pid of a container in the Pod whose name begins so; 0 while it does not run."""
        inventory = self.inventory()
        sandboxes = {one.id for one in inventory.sandboxes if one.meta["name"].startswith(pod)}
        inner = [
            one.pid
            for one in inventory.processes
            if one.sandbox in sandboxes and one.meta.get("container") == container and not one.exit
        ]
        return next((pid for pid in self.children() if numbers(pid)[1:2] == inner), 0)

    def daemon(self, module: str) -> int:
        """The machine's pid of the API server or the node; 0 while it does not run."""
        return next((pid for pid in self.children() if f"\0{module}\0".encode() in command_line(pid)), 0)

    def killed(self, find: Callable[[], int]) -> None:
        """Kill what `find` finds, and wait for what takes its place."""
        first = find()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: find() not in (0, first))

    def children(self) -> list[int]:
        """Of pid 1 of the box."""
        box = self.box()
        return [int(pid) for pid in Path(f"/proc/{box}/task/{box}/children").read_text().split()]


def numbers(pid: int) -> list[int]:
    """What a process is called here, in the box, in its Pod; nothing if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(number) for line in lines if line.startswith("NSpid:") for number in line.split()[1:]]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


class Load:
    """What `load.py` said when it was over; `failed` requests come with their reasons."""

    def __init__(self, report: JSON) -> None:
        self.sent: int = report["sent"]
        self.failed: int = report["failed"]
        self.failures: dict[str, int] = report["failures"]
        self.versions: dict[str, int] = report["versions"]
        self.p99_ms: float = report["p99_ms"]

    def __repr__(self) -> str:
        return f"{self.sent} sent, {self.failed} failed {self.failures}, p99 {self.p99_ms} ms, {self.versions}"


@contextmanager
def load(url: str, host: str = "", rate: int = 200) -> Iterator[list[Load]]:
    """A steady load on `url` from this machine as long as the block runs; its report is then the list's one entry."""
    command = [sys.executable, str(HERE / "load.py"), url, "--rate", str(rate), "--seconds", "600", "--host", host]
    found: list[Load] = []
    with subprocess.Popen([*command, "--count", '"version": "v[0-9]"'], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "started\n"
            yield found
        finally:
            process.send_signal(signal.SIGTERM)
            report = process.stdout.read()
            process.wait(30)
    found.append(Load(json.loads(report)))
