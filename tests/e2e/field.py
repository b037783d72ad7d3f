"""What an adversary works with: a server and a client of the mesh, an intruder beside them, and what they do."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from envoy_judge import Mesh as Authority

from .mesh import JSON, Mesh, eventually

# HTTP on 8080 (an upgrade is taken, and then every byte said back), lines on 9000, a greeting on 9001, and 9002 that no
# Service knows; 9003 is for the Pod itself; datagrams on 5300.
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
    both = not address and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    listening = socket.create_server((address, port), family=family, dualstack_ipv6=both, backlog=256)
    while True:
        threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()
def datagrams():
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("", 5300))
    while True:
        bound.sendto(*bound.recvfrom(65536))
threading.Thread(target=datagrams, daemon=True).start()
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
# Random bytes to each of `targets`, [name, address, port]: as they are, and behind what makes a server listen on. Gives
# the beginnings of what was answered, by name.
NOISE = """
import json, random, socket, sys, threading
targets, found = json.load(sys.stdin), {}
BEGINNINGS = (
    b"", b"GET / HTTP/1.1\\r\\n", b"POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 9\\r\\n\\r\\n",
    b"\\x16\\x03\\x01", b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n", b"\\x00\\x20\\x00\\x01\\x01\\x00\\x00\\x01",
)
def annoy(name, address, port):
    chance, answers = random.Random(port), []
    for beginning in BEGINNINGS * 2:
        noise = beginning + chance.randbytes(chance.randint(1, 3000))
        try:
            if name.startswith("udp"):
                with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
                    datagrams.sendto(noise[:1400], (address, port))
            else:
                with socket.create_connection((address, port), 2) as connection:
                    connection.settimeout(0.2)
                    connection.sendall(noise)
                    answers.append(connection.recv(100).decode("latin-1"))
        except OSError:
            pass
    found[name] = answers
threads = [threading.Thread(target=annoy, args=target) for target in targets]
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
PORT_MODE = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: bytes}
spec: {selector: {matchLabels: {app: server}}, portLevelMtls: {"9000": {mode: DISABLE}}}
"""
# What annotations take out of the mesh: a port of the Pod's own, and one that it calls. Before the app, `early` calls
# the server; where the sidecar is no init container there is none yet.
EARLY = "curl -sS -m 5 -o /dev/null -w '%{http_code}' http://server/ || true"
EXCLUDED = {
    "traffic.sidecar.istio.io/excludeInboundPorts": "9002",
    "traffic.sidecar.istio.io/excludeOutboundPorts": "9000",
}
OLD_STYLE = {"sidecar.istio.io/nativeSidecar": "false"}
DRAINED_SOON = {"proxy.istio.io/config": "{drainDuration: 2s}"}
BY_TARGET = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: by-target, namespace: istio-system}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {name}}}]
  jwtRules: [{{issuer: here, jwks: '{keys}'}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: by-target, namespace: istio-system}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {name}}}]
  action: DENY
  rules: [{{to: [{{operation: {{paths: [/closed]}}}}]}}]
"""
FOR_A_SERVICE = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: by-service}
spec: {targetRefs: [{group: "", kind: Service, name: server}], action: DENY, rules: [{}]}
"""
NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {selector: {matchLabels: {app: server}}, action: DENY, rules: [{}]}
"""
# New and kept connections, HTTP and bytes, for so many seconds; how often each went well, and what went wrong.
CALLS = """
import http.client, json, socket, sys, threading, time
end, done, failed = time.monotonic() + float(sys.argv[1]), {}, []
def asked(connection):
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    assert response.status == 200, response.status
def echoed(connection):
    connection.sendall(b"ping")
    assert connection.recv(4) == b"ping", "closed"
def http_connection():
    return http.client.HTTPConnection("server", timeout=5)
def bytes_connection():
    return socket.create_connection(("server", 9000), 5)
def go_on(name, connect, call, kept):
    connection = connect() if kept else None
    while time.monotonic() < end:
        try:
            one = connection or connect()
            call(one)
            done[name] = done.get(name, 0) + 1
            if not kept:
                one.close()
        except Exception as error:
            failed.append(f"{name}: {error!r}")
            if kept:
                return
        time.sleep(0.02)
threads = [
    threading.Thread(target=go_on, args=(f"{call.__name__} {kept}", connect, call, kept))
    for connect, call in ((http_connection, asked), (bytes_connection, echoed)) for kept in (True, False)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([done, failed]))
"""
# Fifty WebSockets, a connection that is kept and one of bytes; after a line on standard input, what has become of them,
# or how many of them end.
STREAMS = """
import http.client, json, socket, sys
def upgraded():
    connection = socket.create_connection(("server", 80), 5)
    lines = ("GET /ws HTTP/1.1", "Host: server", "Connection: upgrade", "Upgrade: websocket", "", "")
    connection.sendall("\\r\\n".join(lines).encode())
    return connection, int(connection.recv(65536).split()[1])
def status(connection):
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    return response.status
def lives(connection):
    connection.sendall(b"still here")
    return connection.recv(100) == b"still here"
def ends(connection):
    connection.settimeout(20)
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
sockets, kept = [upgraded() for _ in range(50)], http.client.HTTPConnection("server", timeout=5)
open_bytes = socket.create_connection(("server", 9000), 5)
print(json.dumps([sorted({status for _, status in sockets}), status(kept), lives(open_bytes)]), flush=True)
if sys.stdin.readline() == "until they end\\n":
    print(json.dumps([sum(ends(connection) for connection, _ in sockets), ends(open_bytes)]), flush=True)
    sys.exit()
living = sum(lives(connection) for connection, _ in sockets)
print(json.dumps([living, lives(open_bytes), status(kept), upgraded()[1]]), flush=True)
"""
PLAIN = {"HTTP": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "bytes": "hello\n", "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}
CANARY = "what-a-shell-knows"
"""The value of an environment variable of whoever starts the cluster."""
MODE = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: istio-system}}
spec: {{mtls: {{mode: {mode}}}}}
"""


DRAINING_NOBODY = NOBODY.replace("name: nobody", "name: nobody, annotations: {mizzen.io/drain: 'true'}")


def pod(name: str, script: str = "", annotations: dict[str, str] | None = None, **spec: Any) -> JSON:
    command = {"command": ["python3", "-c", script]} if script else {}
    probe = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}} if script else {}
    container = {"name": name, "image": "mizzen/curl:1.0", **command, **probe}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": annotations or {}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


def early() -> JSON:
    """An init container that calls the server."""
    return {"name": "early", "image": "mizzen/curl:1.0", "command": ["sh", "-c", EARLY]}


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

    def annoy(self, targets: Sequence[tuple[str, str, int]]) -> dict[str, list[str]]:
        """Random bytes from the intruder's Pod, and what they were answered, by the target's name."""
        command = ("exec", "-i", "-n", "plain", "intruder", "--", "python3", "-c", NOISE)
        answers: dict[str, list[str]] = json.loads(self.mesh.kubectl(*command, stdin=json.dumps(targets)))
        return answers

    def plain(self, port: int, text: str = PLAIN["HTTP"], address: str = "") -> str:
        """What the intruder is answered at a port of the server's Pod."""
        return self.intrude([("it", address or self.server, port, "plain", text)])["it"]

    def python(self, script: str, *arguments: str, container: str = "client", pod: str = "client") -> str:
        return self.mesh.exec(pod, "python3", "-c", textwrap.dedent(script), *arguments, container=container)

    def say_everywhere(self, word: str) -> None:
        """In header and body: to the Service, to the headless one, as bytes, and through the gateway."""
        for host in ("server", "headless:8080"):
            answer = self.mesh.curl("-H", f"x-word: {word}", "-d", word, f"http://{host}/", source="pod/client")
            assert answer.count(word) == 2, answer
        talk = """
            import socket, sys
            with socket.create_connection(("server", 9000), 5) as connection:
                connection.sendall(sys.argv[1].encode())
                assert connection.recv(100).decode() == sys.argv[1]
        """
        self.python(talk, word)
        assert self.mesh.outside("-H", f"x-word: {word}", "-d", word, self.mesh.gateway()).count(word) == 2
