"""What somebody finds who does not play by the rules: on the wire, at every port, in logs, dumps and files."""

from __future__ import annotations

import base64
import json
import os
import re
import textwrap
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from envoy_judge import Mesh as Authority

from .mesh import JSON, Mesh, eventually, numbers
from .wire import tapped

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]

# HTTP on 8080 (an upgrade is taken, and then every byte said back), lines on 9000, a greeting on 9001, and 9002 that no
# Service knows; 9003 is for the Pod itself.
SERVER = """
import socket, threading
def http(connection):
    data = b""
    while True:
        while b"\\r\\n\\r\\n" not in data:
            part = connection.recv(65536)
            if not part:
                return
            data += part
        head, _, data = data.partition(b"\\r\\n\\r\\n")
        if b"upgrade: websocket" in head.lower():
            connection.sendall(b"HTTP/1.1 101 Go on\\r\\nconnection: upgrade\\r\\nupgrade: websocket\\r\\n\\r\\n")
            return lines(connection)
        size = int((head.lower().partition(b"content-length:")[2].partition(b"\\r\\n")[0] or b"0"))
        while len(data) < size:
            data += connection.recv(65536)
        body, data = head + data[:size], data[size:]
        connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%s" % (len(body), body))
def lines(connection):
    while part := connection.recv(65536):
        connection.sendall(part)
def greeting(connection):
    connection.sendall(b"welcome\\n")
    lines(connection)
def serve(address, port, talk):
    def one(connection):
        with connection:
            try:
                talk(connection)
            except OSError:
                pass
    listening = socket.create_server((address, port), backlog=256)
    while True:
        threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()
for served in ("", 8080, http), ("", 9000, lines), ("", 9001, greeting), ("", 9002, lines), ("127.0.0.1", 9003, lines):
    threading.Thread(target=serve, args=served).start()
"""
SERVED = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "tcp", "port": 9000},
    {"name": "tcp-greets", "port": 9001},
]
# Each of `calls` is [name, address, port, how, text]; how is plain, or tls with or without a certificate.
INTRUDER = """
import json, socket, ssl, sys, tempfile, threading
calls, key, found = json.load(sys.stdin)["calls"], json.loads(sys.argv[1]), {}
def context(how):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if "mesh" in how:
        made.set_alpn_protocols(["istio-http/1.1", "istio"])
    if "foreign" in how:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(key)
            file.flush()
            made.load_cert_chain(file.name)
    return made
def call(name, address, port, how, text):
    answer = b""
    try:
        with socket.create_connection((address, port), timeout=3) as connection:
            connection.settimeout(1.5)
            end = context(how).wrap_socket(connection, server_hostname="a") if how.startswith("tls") else connection
            end.sendall(text.encode("latin-1"))
            while len(answer) < 100000 and (part := end.recv(65536)):
                answer += part
    except OSError as error:
        pass
    found[name] = answer.decode("latin-1")
threads = [threading.Thread(target=call, args=one) for one in calls]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(found))
"""
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: door}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: server}}]}]}
"""
SECURE_DOOR = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: secure}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [door.example.com]
    tls: {mode: SIMPLE, credentialName: door}
"""
CANARY = "what-a-shell-knows"
"""The value of an environment variable of whoever starts the cluster."""
MODE = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def pod(name: str, script: str = "", **spec: Any) -> JSON:
    command = {"command": ["python3", "-c", script]} if script else {}
    probe = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}} if script else {}
    container = {"name": name, "image": "mizzen/curl:1.0", **command, **probe}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


def service(name: str, **spec: Any) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "server"}, "ports": SERVED, **spec},
    }


def listed(*items: JSON) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


class Field(NamedTuple):
    """The cluster, and where the server's Pod is."""

    mesh: Mesh
    server: str

    def mode(self, mode: str) -> None:
        self.mesh.apply(MODE.format(mode=mode))
        eventually(lambda: self.mesh.condition("peerauthentication", "default", "istio-system"))
        eventually(self.mesh.in_sync)

    def intrude(self, calls: Sequence[tuple[str, str, int, str, str]]) -> dict[str, str]:
        """What each call was answered, by its name, from a Pod that is not of the mesh."""
        pair = Authority().workload("intruder")
        key = json.dumps((pair.key + pair.chain).decode())
        command = ("exec", "-i", "-n", "plain", "intruder", "--", "python3", "-c", INTRUDER, key)
        answers: dict[str, str] = json.loads(self.mesh.kubectl(*command, stdin=json.dumps({"calls": calls})))
        return answers

    def python(self, script: str, *arguments: str, container: str = "client", pod: str = "client") -> str:
        return self.mesh.exec(pod, "python3", "-c", textwrap.dedent(script), *arguments, container=container)


@pytest.fixture(scope="module")
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"CLOUD_SECRET_KEY": CANARY}


@pytest.fixture(scope="module")
def field(mesh: Mesh) -> Field:
    mesh.kubectl("create", "namespace", "plain")
    mesh.apply(listed(pod("intruder")), "-n", "plain")
    headless = service("headless", clusterIP="None", ports=[{"name": "http", "port": 8080}])
    mesh.apply(listed(pod("server", SERVER), pod("client"), service("server"), headless))
    mesh.apply(GATEWAY)
    mesh.ready()
    mesh.ready(namespace="plain")
    mesh.in_force("gateway/door", "virtualservice/door")
    return Field(mesh, mesh.get("pod", "server")["status"]["podIP"])


# The wire


def say_it_everywhere(field: Field, word: str) -> None:
    """In header and body: to the Service, to the headless one, as bytes, and through the gateway."""
    for host in ("server", "headless:8080"):
        answer = field.mesh.curl("-H", f"x-word: {word}", "-d", word, f"http://{host}/", source="pod/client")
        assert answer.count(word) == 2, answer
    talk = """
        import socket, sys
        with socket.create_connection(("server", 9000), 5) as connection:
            connection.sendall(sys.argv[1].encode())
            assert connection.recv(100).decode() == sys.argv[1]
    """
    field.python(talk, word)
    assert field.mesh.outside("-H", f"x-word: {word}", "-d", word, field.mesh.gateway()).count(word) == 2


def test_words_are_on_the_wire_where_mutual_tls_is_off_and_nowhere_else(field: Field) -> None:
    """STRICT comes twice: it also ends what DISABLE has left open."""
    if os.geteuid() != 0:
        pytest.skip("frames are read as root")
    with tapped(field.mesh.box()) as wire:
        for mode, low, high in (("PERMISSIVE", 0, 0), ("STRICT", 0, 0), ("DISABLE", 8, 99), ("STRICT", 0, 0)):
            field.mode(mode)
            word = uuid.uuid4().hex
            say_it_everywhere(field, word)
            seen = wire.seen(word.encode(), [field.server])
            assert low <= seen <= high, f"{seen} frames hold the word under {mode}"


# The ports

ALWAYS_PLAIN = {15020, 15021, 15090}
"""Health, metrics and probes of every proxy: Istio's table of ports."""
ISTIOD_PLAIN = {8080, 15014}
"""Readiness, version and metrics."""
ADMIN_PAGES = ("/config_dump", "/certs", "/clusters", "/memory", "/quitquitquit", "/stats")
ISTIOD_PAGES = ("/debug/config_dump?proxyID=server.default", "/debug/syncz", "/debug/mesh")
PLAIN = {"HTTP": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "bytes": "hello\n", "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}
ENCRYPTED = ("tls", "tls mesh", "tls foreign", "tls mesh foreign")


class Listening(NamedTuple):
    pod: str
    address: str
    port: int


def listening(mesh: Mesh) -> Iterator[Listening]:
    """Every TCP port that anything in any Pod listens on, whatever address it has chosen, and 15008."""
    outer = {numbers(pid)[1]: pid for pid in mesh.children() if len(numbers(pid)) > 1}
    for sandbox in mesh.inventory().sandboxes:
        for table in ("tcp", "tcp6"):
            rows = Path(f"/proc/{outer[sandbox.pid]}/net/{table}").read_text().splitlines()[1:]
            for row in rows:
                _, own, _, state, *_ = row.split()
                if state == "0A":
                    yield Listening(sandbox.meta["name"], sandbox.address, int(own.rpartition(":")[2], 16))


def plain_ports(name: str) -> set[int]:
    if name.startswith("istiod"):
        return ISTIOD_PLAIN
    if name == "intruder":
        return set()
    return ALWAYS_PLAIN | ({8080} if name.startswith("istio-ingressgateway") else set())


def test_no_port_of_any_pod_answers_strangers_but_those_that_must(field: Field) -> None:
    field.mode("STRICT")
    ports = sorted(set(listening(field.mesh)))
    assert {8080, 9000, 9001, 9002, 9003, 15001, 15006, 15000} <= {one.port for one in ports if one.pod == "server"}
    said = {(name, "plain"): text for name, text in PLAIN.items()} | {(how, how): PLAIN["HTTP"] for how in ENCRYPTED}
    calls = [
        (f"{one.pod} {one.port} {name}", one.address, one.port, how, text)
        for one in ports
        for (name, how), text in said.items()
    ]
    answers = field.intrude(calls)
    answered = {tuple(name.split(maxsplit=2)) for name, text in answers.items() if text}
    assert {(name, int(port)) for name, port, how in answered if how in PLAIN} == {
        (one.pod, one.port) for one in ports if one.port in plain_ports(one.pod)
    }
    assert {(name.partition("-")[0], port) for name, port, how in answered if how not in PLAIN} == {("istiod", "15017")}


def test_what_must_answer_in_plain_text_tells_no_secret_and_obeys_nobody(field: Field) -> None:
    istiod = next(one for one in listening(field.mesh) if one.pod.startswith("istiod"))
    refused = {
        ("POST", 15020, "/quitquitquit"): "403",
        ("POST", 15020, "/drain"): "403",
        ("GET", 15020, "/config_dump"): "404",
        ("GET", 15020, "/app-health/istio-proxy/readyz"): "404",
        **{("GET", port, path): "404" for port in (15021, 15090) for path in ADMIN_PAGES},
    }
    calls = [
        (f"{method} {port} {path}", field.server, port, "plain", f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")
        for method, port, path in refused
    ]
    calls += [
        (page, istiod.address, 15014, "plain", f"GET {page} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n")
        for page in ISTIOD_PAGES
    ]
    answers = {name: text.partition("\r\n")[0].split(" ")[1] for name, text in field.intrude(calls).items()}
    assert answers == {" ".join(map(str, name)): status for name, status in refused.items()} | dict.fromkeys(
        ISTIOD_PAGES, "403"
    )


# Keys and tokens

STEAL = """
    import glob, os
    os.setgid(1337)
    os.setuid(1337)
    found = []
    for process in glob.glob("/proc/[0-9]*"):
        for path in ("/root/var/run/secrets/tokens/istio-token", "/root/var/run/secrets/workload-spiffe-uds/socket"):
            try:
                os.stat(process + path)
                found.append(process + path)
            except OSError:
                pass
    print(len(found))
"""


def test_an_app_that_is_root_does_not_reach_the_proxy_beside_it(field: Field) -> None:
    assert field.python("import os; print(os.getuid())").strip() == "0"
    assert field.python(STEAL).strip() == "0"
    theirs = field.mesh.exec("client", "ls", "-l", "/var/run/secrets/workload-spiffe-uds/", container="istio-proxy")
    assert "srw------- 1 istio-proxy" in theirs, "where it is, it is for the proxy alone"


SECRET = re.compile(rb"PRIVATE KEY-----|eyJ[\w-]{16,}\.eyJ[\w-]{16,}\.[\w-]{16,}")
"""A key in PEM, or a token."""


ADMIN = "http://localhost:15000"
PAGES = [f"{ADMIN}/{page}" for page in ("config_dump?include_eds", "certs", "stats", "clusters", "listeners")]
TOLD = """
import sys, urllib.request
for proxy in sys.argv[1:]:
    print(urllib.request.urlopen(f"http://localhost:15014/debug/config_dump?proxyID={proxy}").read().decode())
"""


def told(mesh: Mesh) -> Iterator[tuple[str, bytes]]:
    """Whatever logs, dumps and commands say, by who says it."""
    pods = [(pod["metadata"]["name"], pod["metadata"]["namespace"]) for pod in mesh.get("pods", "", "", "-A")["items"]]
    for name, namespace in pods:
        yield f"logs of {name}", mesh.kubectl("logs", name, "-n", namespace, "--all-containers").encode()
    proxies = [(name, namespace) for name, namespace in pods if name.startswith(("client", "server", "istio-"))]
    for name, namespace in proxies:
        proxy = ("exec", name, "-n", namespace, "-c", "istio-proxy", "--", "curl", "-s", *PAGES)
        yield f"pages of {name}", mesh.kubectl(*proxy).encode()
        secret = mesh.mizzen("proxy-config", "secret", f"{name}.{namespace}", "-o", "json")
        assert "ROOTCA" in secret
        yield f"secrets of {name}", secret.encode()
    names = [".".join(proxy) for proxy in proxies]
    yield (
        "istiod",
        mesh.kubectl("exec", "-n", "istio-system", "deploy/istiod", "--", "python3", "-c", TOLD, *names).encode(),
    )
    yield "Pods", mesh.kubectl("get", "pods,events,configmaps,gateways", "-A", "-o", "yaml").encode()
    for log in (mesh.state / "logs").iterdir():
        yield str(log), log.read_bytes()


def processes(mesh: Mesh) -> Iterator[tuple[str, bytes]]:
    """Command line and environment of everything in the box."""
    waiting = [mesh.box()]
    for pid in waiting:
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
            for name in ("cmdline", "environ"):
                yield f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended


def open_to_others(top: Path) -> Iterator[Path]:
    """Files that any user of this machine may read. What is above `top` is not ours."""
    if top.stat().st_mode & 0o001:
        for path in top.iterdir():
            if path.is_dir() and not path.is_symlink():
                yield from open_to_others(path)
            elif path.is_file() and path.stat().st_mode & 0o004:
                yield path


def test_no_key_or_token_is_told_or_lies_about(field: Field) -> None:
    key = Authority().workload("door")
    data = {name: base64.b64encode(text).decode() for name, text in (("tls.crt", key.chain), ("tls.key", key.key))}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "door"}, "data": data}
    field.mesh.apply(listed(secret), "-n", "istio-system")
    field.mesh.apply(SECURE_DOOR)
    field.mesh.in_force("gateway/secure")
    where = [name for name, text in told(field.mesh) if SECRET.search(text)]
    assert not where, where
    seen = list(processes(field.mesh))
    assert sum(b"PATH=" in text for _, text in seen) > 10, "environments are read"
    shown = [name for name, text in seen if SECRET.search(text) or CANARY.encode() in text]
    assert not shown, shown
    lying = [path for path in open_to_others(field.mesh.state.parent) if SECRET.search(path.read_bytes())]
    assert not lying, lying
