"""What somebody finds who does not play by the rules: on the wire, at every port, in logs, dumps and files."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import textwrap
import uuid

import pytest

from envoy_judge import Mesh as Authority
from policies import key_set, signing_key

from .dual_stack import ECHO, NAMES, NOT_FROM, ONLY_CLIENT, SLICES, from_machine, status
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
from .leaks import SECRET, STEAL, open_to_others, processes, told
from .mesh import JSON, Mesh, eventually
from .ports import is_ours, listening, listening_in_box, plain_ports
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


def test_words_are_on_the_wire_where_mutual_tls_is_off_and_nowhere_else(field: Field) -> None:
    """STRICT comes twice: what DISABLE has left open it drains."""
    if os.geteuid() != 0:
        pytest.skip("frames are read as root")

    def said() -> int:
        """How many frames hold what is said now."""
        word = uuid.uuid4().hex
        field.say_everywhere(word)
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

ADMIN_PAGES = ("/config_dump", "/certs", "/clusters", "/memory", "/quitquitquit", "/stats")
ISTIOD_PAGES = ("/debug/config_dump?proxyID=server.default", "/debug/syncz", "/debug/mesh")
ENCRYPTED = ("tls", "tls mesh", "tls foreign", "tls mesh foreign")


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


def test_the_api_server_believes_no_stranger(field: Field) -> None:
    claims = (
        "X-A: b",
        "Authorization: Bearer x",
        "X-Remote-User: admin\r\nX-Remote-Group: system:masters",
        "Impersonate-User: admin",
    )
    pages = ("/api/v1/secrets", "/apis/security.istio.io/v1/peerauthentications", "/openapi/v2", "/metrics")
    calls = [
        (
            f"{page} {claim}",
            "10.96.0.1",
            443,
            "tls",
            f"GET {page} HTTP/1.1\r\nHost: a\r\n{claim}\r\nConnection: close\r\n\r\n",
        )
        for page in pages
        for claim in claims
    ]
    assert {text.partition("\r\n")[0] for text in field.intrude(calls).values()} == {"HTTP/1.1 401 Unauthorized"}
    theirs = 'T=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token); curl -sk -H "Authorization: Bearer $T" $0'
    command = ("exec", "-n", "plain", "intruder", "--", "sh", "-c", theirs)
    for page in pages[:2]:
        assert json.loads(field.mesh.kubectl(*command, f"https://10.96.0.1{page}"))["code"] == 403


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
    field.say_everywhere("to the port in plain text, to the others not")
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
    families = {one["addressType"]: one for one in mesh.get("endpointslices", "", "default", "-l", SLICES)["items"]}
    assert {name: one["endpoints"][0]["addresses"] for name, one in families.items()} == {
        "IPv4": [server[0]],
        "IPv6": [server[1]],
    }
    assert field.python(NAMES).split() == [vip, old_vip, "both.default.svc.cluster.local"]
    field.mode("STRICT")
    ways = ("both", f"[{vip}]", old_vip)
    for host in ways:
        assert status(field, host) == "200"
    assert field.python(ECHO, vip).strip() == "ping"
    assert field.plain(8080, address=server[1]) == "" == field.plain(9000, "hello", server[1])
    assert field.plain(80, address=vip) == ""
    assert len(from_machine(mesh)) == (2 if os.geteuid() == 0 else 1) and not any(from_machine(mesh))
    mesh.apply(NOT_FROM.replace("ADDRESS", client[1]))
    mesh.in_force("authorizationpolicy/not-from")
    assert [status(field, host) for host in (*ways, "server")] == ["403", "403", "403", "200"]
    mesh.kubectl("delete", "authorizationpolicy/not-from")
    field.mode("PERMISSIVE")
    eventually(lambda: field.plain(80, address=vip).startswith("HTTP/1.1 200"))
    assert field.plain(8080, address=server[1]).startswith("HTTP/1.1 200")
    eventually(lambda: all(from_machine(mesh)))
    mesh.apply(ONLY_CLIENT)
    eventually(lambda: field.plain(8080, address=server[1]) == "")
    assert field.plain(80, address=vip) == "" and [status(field, host) for host in ways] == ["200"] * 3
    mesh.kubectl("delete", "networkpolicy/only-client", "service/both")
    eventually(lambda: field.plain(8080, address=server[1]).startswith("HTTP/1.1 200"))


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


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's cluster has one user for app and proxy")
def test_an_app_that_is_root_does_not_reach_the_proxy_beside_it(field: Field) -> None:
    assert field.python("import os; print(os.getuid())").strip() == "0"
    assert field.python(STEAL).strip() == "0"
    theirs = field.mesh.exec("client", "ls", "-l", "/var/run/secrets/workload-spiffe-uds/", container="istio-proxy")
    assert "srw------- 1 istio-proxy" in theirs, "where it is, it is for the proxy alone"


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
