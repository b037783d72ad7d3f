"""What somebody finds who does not play by the rules: on the wire, at every port, in logs, dumps and files."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from envoy_judge import Mesh as Authority
from policies import key_set, signing_key

from .field import (
    BY_TARGET,
    CALLS,
    CANARY,
    DRAINED_SOON,
    DRAINING_NOBODY,
    EXCLUDED,
    FOR_A_SERVICE,
    GATEWAY,
    NOBODY,
    OLD_STYLE,
    PLAIN,
    PORT_MODE,
    SECURE_DOOR,
    SERVER,
    STREAMS,
    Field,
    early,
    listed,
    pod,
    service,
)
from .mesh import JSON, Mesh, eventually, numbers
from .wire import tapped

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("kubectl")]


@pytest.fixture(scope="module")
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"CLOUD_SECRET_KEY": CANARY}


@pytest.fixture(scope="module")
def field(mesh: Mesh) -> Field:
    mesh.kubectl("create", "namespace", "plain")
    mesh.apply(listed(pod("intruder")), "-n", "plain")
    headless = service("headless", clusterIP="None", ports=[{"name": "http", "port": 8080}])
    mesh.apply(listed(pod("server", SERVER, DRAINED_SOON), pod("client"), service("server"), headless))
    mesh.apply(GATEWAY)
    mesh.ready()
    mesh.ready(namespace="plain")
    mesh.in_force("gateway/door", "virtualservice/door")
    return Field(mesh, mesh.get("pod", "server")["status"]["podIP"])


# The wire


DRAINED_WITHIN = 60.0
"""Seconds: `drainDuration` and some."""


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
    """STRICT comes twice: what DISABLE has left open it drains."""
    if os.geteuid() != 0:
        pytest.skip("frames are read as root")

    def said() -> int:
        """How many frames hold what is said now."""
        word = uuid.uuid4().hex
        say_it_everywhere(field, word)
        return wire.seen(word.encode(), [field.server])

    with tapped(field.mesh.box()) as wire:
        for mode in ("PERMISSIVE", "STRICT"):
            field.mode(mode)
            assert said() == 0, mode
        field.mode("DISABLE")
        assert said() >= 8, "the capture sees what is plain"
        field.mode("STRICT")
        eventually(lambda: said() == 0, DRAINED_WITHIN)


# The ports

ALWAYS_PLAIN = {15020, 15021, 15090}
"""Health, metrics and probes of every proxy: Istio's table of ports."""
ISTIOD_PLAIN = {8080, 15014}
"""Readiness, version and metrics."""
ADMIN_PAGES = ("/config_dump", "/certs", "/clusters", "/memory", "/quitquitquit", "/stats")
ISTIOD_PAGES = ("/debug/config_dump?proxyID=server.default", "/debug/syncz", "/debug/mesh")
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
                    for address in sandbox.addresses:
                        yield Listening(sandbox.meta["name"], address, int(own.rpartition(":")[2], 16))


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
        (f"{one.pod} {one.port} {one.address} {name}", one.address, one.port, how, text)
        for one in ports
        for (name, how), text in said.items()
    ]
    answers = field.intrude(calls)
    answered = [tuple(name.split(maxsplit=3)) for name, text in answers.items() if text]
    plain = {(name, int(port), address) for name, port, address, how in answered if how in PLAIN}
    assert plain <= {(one.pod, one.port, one.address) for one in ports if one.port in plain_ports(one.pod)}
    for address in {one.address for one in ports if one.pod == "server"}:
        assert ("server", 15021, address) in plain, "what must answer does: the others were asked alike"
    encrypted = {(name.partition("-")[0], port) for name, port, _, how in answered if how not in PLAIN}
    assert encrypted <= {("istiod", "15017")}


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


def listening_in_box(mesh: Mesh) -> Iterator[tuple[str, str, int]]:
    """Where the API server, the node and its neighbours listen, for Pods to reach: DNS on UDP too."""
    for row in Path(f"/proc/{mesh.box()}/net/tcp").read_text().splitlines()[1:]:
        _, own, _, state, *_ = row.split()
        address, port = own.split(":")
        told = ".".join(str(part) for part in reversed(bytes.fromhex(address)))
        if state == "0A":
            yield f"box {told} {int(port, 16)}", "10.244.0.1" if told == "0.0.0.0" else told, int(port, 16)
    yield "udp DNS", "10.96.0.10", 53


def is_ours(name: str, port: str) -> bool:
    """Not Envoy, which answers 503 where what it passes on is not taken."""
    return name.startswith(("istiod", "box", "udp")) or port in ("15020", "15021")


def test_random_bytes_at_any_port_do_no_harm(field: Field) -> None:
    mesh = field.mesh
    pods = [(f"{one.pod} {one.port}", one.address, one.port) for one in sorted(set(listening(mesh)))]
    box = list(listening_in_box(mesh))
    assert {port for _, _, port in box} >= {53, 443, 15901} and len(pods) > 20
    daemons = [mesh.daemon(f"mizzen.embedded.{name}") for name in ("apiserver", "node")]
    with mesh.running("get", "configmaps", "-w", "-o", "name") as watch:
        answers = field.annoy(pods + box)
        ours = {name: said for name, said in answers.items() if is_ours(*name.split()[:2])}
        assert len(ours) > 15 and not [said for said in ours.items() if "HTTP/1.1 5" in "".join(said[1])], ours
        assert any(said for said in answers.values()), "somebody answered"
        mesh.kubectl("create", "configmap", "after-noise")
        assert watch.stdout and any("after-noise" in line for line in watch.stdout)
    assert daemons == [mesh.daemon(f"mizzen.embedded.{name}") for name in ("apiserver", "node")]
    statuses = [
        one for pod in mesh.get("pods", "", "default", "-A")["items"] for one in pod["status"]["containerStatuses"]
    ]
    assert not [one["name"] for one in statuses if one["restartCount"]]
    complaints = [(name, text.partition(b"Traceback")[2][:3000]) for name, text in told(mesh) if b"Traceback" in text]
    assert not complaints, complaints
    assert mesh.curl("http://server/", source="pod/client")
    assert mesh.outside(mesh.gateway())
    eventually(mesh.in_sync)


# Modes, and what is open while they change


def test_permissive_takes_both_on_one_port_and_a_port_may_differ(field: Field) -> None:
    field.mode("PERMISSIVE")
    assert field.plain(8080).startswith("HTTP/1.1 200") and field.plain(9000, "hello") == "hello"
    field.mode("STRICT")
    field.mesh.apply(PORT_MODE)
    field.mesh.in_force("peerauthentication/bytes")
    assert field.plain(9000, "hello") == "hello" and field.plain(8080) == ""
    say_it_everywhere(field, "to the port in plain text, to the others not")
    field.mesh.kubectl("delete", "peerauthentication/bytes")
    eventually(lambda: field.plain(9000, "hello") == "")


def test_under_strict_who_speaks_first_is_heard_the_pod_calls_itself_and_probes_go_on(field: Field) -> None:
    field.mode("STRICT")
    first = """
        import socket
        with socket.create_connection(("server", 9001), 5) as connection:
            print(connection.recv(100).decode())
    """
    assert field.python(first).strip() == "welcome"
    itself = """
        import urllib.request
        print([urllib.request.urlopen(f"http://{host}/").status for host in ("server.default", "127.0.0.1:8080")])
    """
    assert field.python(itself, pod="server", container="server").strip() == "[200, 200]"
    (status,) = (one for one in field.mesh.get("pod", "server")["status"]["conditions"] if one["type"] == "Ready")
    assert status["status"] == "True"


def test_no_way_around_the_sidecar_from_the_machine(field: Field) -> None:
    """A node port leads to the same Pod, whose proxy asks for the same certificate."""
    field.mesh.apply(listed(service("by-node", type="NodePort", ports=[{"name": "http", "port": 8080}])))
    port = field.mesh.get("service", "by-node")["spec"]["ports"][0]["nodePort"]
    url = f"http://{field.mesh.mizzen('ip').strip()}:{port}/"
    field.mode("PERMISSIVE")
    eventually(lambda: field.mesh.succeeds("curl", "-sf", "-m", "2", url))
    field.mode("STRICT")
    assert not field.mesh.succeeds("curl", "-sf", "-m", "2", url)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")
def test_ipv6_is_served_and_guarded_as_ipv4_is(field: Field) -> None:
    mesh = field.mesh
    both = {"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack", "type": "LoadBalancer"}
    mesh.apply(listed(service("both", **both)))
    vip, old_vip = mesh.kubectl("get", "service", "both", "-o", "jsonpath={.spec.clusterIPs[*]}").split()
    server, client = (
        mesh.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIPs[*].ip}").split()
        for name in ("server", "client")
    )
    families = {one["addressType"]: one for one in mesh.get("endpointslices", "", "default", "-l", _SLICES)["items"]}
    assert {name: one["endpoints"][0]["addresses"] for name, one in families.items()} == {
        "IPv4": [server[0]],
        "IPv6": [server[1]],
    }
    assert field.python(_NAMES).split() == [vip, old_vip, "both.default.svc.cluster.local"]
    field.mode("STRICT")
    ways = ("both", f"[{vip}]", old_vip)
    for host in ways:
        assert status(field, host) == "200"
    assert field.python(_ECHO, vip).strip() == "ping"
    assert field.plain(8080, address=server[1]) == "" == field.plain(9000, "hello", server[1])
    assert field.plain(80, address=vip) == ""
    assert len(from_machine(mesh)) == (2 if os.geteuid() == 0 else 1) and not any(from_machine(mesh))
    mesh.apply(_NOT_FROM.replace("ADDRESS", client[1]))
    mesh.in_force("authorizationpolicy/not-from")
    assert [status(field, host) for host in (*ways, "server")] == ["403", "403", "403", "200"]
    mesh.kubectl("delete", "authorizationpolicy/not-from")
    field.mode("PERMISSIVE")
    eventually(lambda: field.plain(80, address=vip).startswith("HTTP/1.1 200"))
    assert field.plain(8080, address=server[1]).startswith("HTTP/1.1 200")
    eventually(lambda: all(from_machine(mesh)))
    mesh.apply(_ONLY_CLIENT)
    eventually(lambda: field.plain(8080, address=server[1]) == "")
    assert field.plain(80, address=vip) == "" and [status(field, host) for host in ways] == ["200"] * 3
    mesh.kubectl("delete", "networkpolicy/only-client", "service/both")
    eventually(lambda: field.plain(8080, address=server[1]).startswith("HTTP/1.1 200"))


_SLICES = "kubernetes.io/service-name=both"
_NAMES = """
    import socket
    def asked(family):
        return socket.getaddrinfo("both", 80, family, socket.SOCK_STREAM)[0][4][0]
    print(asked(socket.AF_INET6), asked(socket.AF_INET), socket.gethostbyaddr(asked(socket.AF_INET6))[0])
"""
_ECHO = """
    import socket, sys
    with socket.create_connection((sys.argv[1], 9000), 5) as connection:
        connection.sendall(b"ping")
        print(connection.recv(4).decode())
"""
_NOT_FROM = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-from}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{from: [{source: {ipBlocks: [ADDRESS]}}]}]
"""
_ONLY_CLIENT = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-client}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
"""


def from_machine(mesh: Mesh) -> list[bool]:
    """Whether the Service answers the machine at its node port, by each address of its load balancer."""
    found = mesh.get("service", "both")
    port, ingress = found["spec"]["ports"][0]["nodePort"], found["status"]["loadBalancer"]["ingress"]
    hosts = [f"[{one['ip']}]" if ":" in one["ip"] else one["ip"] for one in ingress]
    return [mesh.succeeds("curl", "-g", "-sf", "-m", "2", f"http://{host}:{port}/") for host in hosts]


def status(field: Field, host: str) -> str:
    """What the client is answered."""
    words = ("-g", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{host}/")
    return field.mesh.curl(*words, source="pod/client")


def test_what_is_taken_out_of_the_mesh_is_that_and_nothing_more(field: Field) -> None:
    """Under STRICT. Excluded ports, UDP, and what a Pod says before its sidecar can speak for it."""
    field.mode("STRICT")
    field.mesh.apply(
        listed(
            pod("odd", SERVER, EXCLUDED, initContainers=[early()]),
            pod("old", SERVER, OLD_STYLE, initContainers=[early()]),
        )
    )
    field.mesh.ready("app in (odd, old)")
    odd = field.mesh.get("pod", "odd")["status"]["podIP"]
    assert field.mesh.kubectl("logs", "odd", "-c", "early").strip() == "200", "a native sidecar is there before"
    assert "000" in field.mesh.kubectl("logs", "old", "-c", "early"), "Istio captures after it: plain text is refused"
    answers = field.intrude([(str(port), odd, port, "plain", PLAIN["HTTP"]) for port in (8080, 9000, 9001, 9002)])
    assert {port for port, answer in answers.items() if answer} == {"9002"}
    call = """
        import socket, sys
        with socket.create_connection(("server", int(sys.argv[1])), 5) as connection:
            connection.sendall(b"GET / HTTP/1.1\\r\\nHost: server\\r\\n\\r\\n")
            try:
                print(len(connection.recv(100)) > 0)
            except OSError:
                print(False)
    """
    said = [field.python(call, port, pod="odd", container="odd").strip() for port in ("9000", "80")]
    assert said == ["False", "True"], "what goes out past the proxy is plain text, and refused as such"
    datagram = """
        import socket, sys
        asks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asks.settimeout(5)
        asks.sendto(b"hello", (sys.argv[1], 5300))
        print(asks.recv(100).decode())
    """
    command = ("python3", "-c", textwrap.dedent(datagram), odd)
    assert field.mesh.kubectl("exec", "-n", "plain", "intruder", "--", *command).strip() == "hello"


def test_policies_hold_for_the_gateway_that_they_target(field: Field) -> None:
    url = field.mesh.gateway()

    def asked(path: str, *headers: str) -> str:
        flags = [word for header in headers for word in ("-H", header)]
        return field.mesh.outside("-o", "/dev/null", "-w", "%{http_code}", *flags, url + path)

    bad = "authorization: Bearer x.y.z"
    label = ("label", "pod", "-n", "istio-system", "-l", "istio=ingressgateway", "--overwrite")
    field.mesh.kubectl(*label, "gateway.networking.k8s.io/gateway-name=door")
    field.mesh.apply(BY_TARGET.format(name="other", keys=key_set(signing_key())))
    eventually(lambda: field.mesh.condition("authorizationpolicy", "by-target", "istio-system"))
    assert [asked("/closed"), asked("/open", bad)] == ["200", "200"], "another gateway is meant"
    field.mesh.apply(BY_TARGET.format(name="door", keys=key_set(signing_key())))
    eventually(lambda: [asked("/closed"), asked("/open", bad), asked("/open")] == ["403", "401", "200"])
    assert field.mesh.curl("http://server/closed", source="pod/client", code=0).startswith("GET /closed")
    told = field.mesh.apply(FOR_A_SERVICE, code=1)
    assert "waypoint" in told
    field.mesh.kubectl("delete", "authorizationpolicy,requestauthentication", "by-target", "-n", "istio-system")
    eventually(lambda: asked("/closed") == "200")


def test_changes_of_mode_lose_no_call_between_members_of_the_mesh(field: Field) -> None:
    field.mode("PERMISSIVE")
    with field.mesh.running("exec", "client", "-c", "client", "--", "python3", "-c", CALLS, "6") as calls:
        for mode in ("STRICT", "PERMISSIVE", "STRICT", "PERMISSIVE"):
            field.mode(mode)
        output = calls.communicate(timeout=60)[0]
    done, failed = json.loads(output)
    assert failed == [] and len(done) == 4 and min(done.values()) > 50, (done, failed)


def streams_under(field: Field, policy: str, word: str) -> JSON:
    """Open streams, apply the policy, ask what has become of them, and take the policy away."""
    command = ("kubectl", "exec", "-i", "client", "-c", "client", "--", "python3", "-c", STREAMS)
    with subprocess.Popen(
        command, env=field.mesh.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as streams:
        assert streams.stdin and streams.stdout
        assert json.loads(streams.stdout.readline()) == [[101], 200, True]
        field.mesh.apply(policy)
        field.mesh.in_force("authorizationpolicy/nobody")
        after, _ = streams.communicate(f"{word}\n", timeout=60)
    field.mesh.kubectl("delete", "authorizationpolicy/nobody")
    eventually(lambda: "GET /" in field.mesh.curl("http://server/", source="pod/client"))
    return json.loads(after)


def test_fifty_websockets_survive_a_policy_that_every_new_request_meets(field: Field) -> None:
    assert streams_under(field, NOBODY, "now") == [50, True, 403, 403]


def test_they_end_with_a_policy_that_says_so(field: Field) -> None:
    assert streams_under(field, DRAINING_NOBODY, "until they end") == [50, True]


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


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's cluster has one user for app and proxy")
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
