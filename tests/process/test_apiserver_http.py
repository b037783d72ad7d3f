"""The API server's HTTP itself: compression, and rights over the wire."""

from __future__ import annotations

import gzip
import json
import random
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPSConnection

import pytest

from apiservers import ApiServer

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    started = ApiServer(tmp_path_factory.mktemp("server"))
    yield started
    started.stop()


@pytest.fixture
def connection(server: ApiServer, request: pytest.FixtureRequest) -> Iterator[HTTPSConnection]:
    """As the identity that the test names: admin, node, or nobody."""
    context = ssl.create_default_context(cafile=str(server.pki.ca))
    who = getattr(request, "param", "admin")
    if who != "nobody":
        context.load_cert_chain(server.pki.certificate(who), server.pki.key(who))
    made = HTTPSConnection("127.0.0.1", int(server.server.rpartition(":")[2]), context=context, timeout=20)
    yield made
    made.close()


def test_long_answers_are_compressed_for_who_takes_it(connection: HTTPSConnection) -> None:
    bodies = []
    for encoding in ("gzip", "identity"):
        connection.request("GET", "/openapi/v3/apis/apps/v1", headers={"Accept-Encoding": encoding})
        answer = connection.getresponse()
        assert (answer.headers.get("Content-Encoding") == "gzip") is (encoding == "gzip")
        body = answer.read()
        bodies.append(gzip.decompress(body) if encoding == "gzip" else body)
    assert bodies[0] == bodies[1]
    connection.request("GET", "/version", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    assert "Content-Encoding" not in answer.headers and json.loads(answer.read())["minor"]


def _status(connection: HTTPSConnection, method: str, path: str, body: object = None) -> int:
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("connection", ["node"], indirect=True)
def test_the_node_may_what_a_node_does(connection: HTTPSConnection) -> None:
    assert _status(connection, "GET", "/api/v1/pods") == 200
    assert _status(connection, "GET", "/api/v1/namespaces/default/secrets") == 200
    lease = {"metadata": {"name": "n", "namespace": "kube-node-lease"}, "spec": {}}
    assert _status(connection, "POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease) == 201
    assert _status(connection, "DELETE", "/api/v1/namespaces/default/secrets/x") == 403
    role = {"metadata": {"name": "mine"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    assert _status(connection, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role) == 403


@pytest.mark.parametrize("connection", ["nobody"], indirect=True)
def test_nobody_may_ask_whether_it_is_well(connection: HTTPSConnection) -> None:
    for path in ("/version", "/healthz", "/livez", "/readyz"):
        assert _status(connection, "GET", path) == 200
    for path in ("/api", "/apis/apps/v1", "/api/v1/pods", "/openapi/v3", "/metrics"):
        assert _status(connection, "GET", path) == 401


def _raw(server: ApiServer, encrypted: bool) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", int(server.server.rpartition(":")[2])), 20)
    if not encrypted:
        return plain
    context = ssl.create_default_context(cafile=str(server.pki.ca))
    context.load_cert_chain(server.pki.certificate("admin"), server.pki.key("admin"))
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_random_bytes_do_no_harm(server: ApiServer, connection: HTTPSConnection, encrypted: bool) -> None:
    chance = random.Random(5)
    beginnings = (
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST /api/v1/pods HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"\x16\x03\x01",
    )
    for number in range(40):
        with _raw(server, encrypted) as made:
            made.sendall(beginnings[number % 4] + chance.randbytes(chance.randint(1, 3000)))
            made.settimeout(0.05)
            try:
                answer = made.recv(100)
            except (TimeoutError, ConnectionError, ssl.SSLError):
                continue
            assert not answer.startswith(b"HTTP/1.1 5")
    assert _status(connection, "GET", "/readyz") == 200
    assert "Traceback" not in server.log()


NONSENSE = {
    "yaml with a loop": ("application/yaml", b"metadata: {name: a}\ndata: &a {b: *a}"),
    "yaml that explodes": (
        "application/yaml",
        b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 40)),
    ),
    "yaml that is no json": ("application/yaml", b"metadata: {name: a}\ndata: {d: .inf, e: !!binary aGk=}\n? [1]\n: 2"),
    "deep json": ("application/json", b"[" * 200_000),
    "half a character": ("application/json", b'{"metadata": {"name": "a"}, "data": {"x": "\\ud800"}}'),
    "a field without a name": ("application/apply-patch+yaml", b'"": 3\n"[]": 1\n"\\n": 4'),
    "torn protobuf": ("application/vnd.kubernetes.protobuf", b"k8s\0" + b"\xff" * 50),
    "too much": ("application/json", b"x" * 4_000_000),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_in_words(server: ApiServer, connection: HTTPSConnection, name: str) -> None:
    media, body = NONSENSE[name]
    path = "/api/v1/namespaces/default/configmaps"
    method, path = ("PATCH", f"{path}/a?fieldManager=x") if "apply" in media else ("POST", path)
    connection.request(method, path, body=body, headers={"Content-Type": media})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    assert 400 <= answer.status < 500 and document["kind"] == "Status" and document["message"]
    assert "Traceback" not in server.log()


def test_numbers_have_64_bits(connection: HTTPSConnection) -> None:
    assert _status(connection, "GET", f"/api/v1/pods?limit={2**63}") == 400
    assert _status(connection, "GET", f"/api/v1/pods?limit={2**62}") == 200


@pytest.mark.parametrize("connection", ["nobody"], indirect=True)
def test_what_nobody_sends_is_not_read(connection: HTTPSConnection) -> None:
    connection.putrequest("POST", "/api/v1/namespaces/default/configmaps")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"only the beginning")
    assert connection.getresponse().status == 401


def test_a_watch_goes_on_after_a_restart(server: ApiServer, connection: HTTPSConnection) -> None:
    place = "/api/v1/namespaces/default/configmaps"
    for name in ("before", "between"):
        assert _status(connection, "POST", place, {"metadata": {"name": name}}) == 201
    connection.request("GET", f"{place}/before")
    since = json.loads(connection.getresponse().read())["metadata"]["resourceVersion"]
    assert _status(connection, "DELETE", f"{place}/between") == 200
    server.restart()
    connection.close()
    connection.request("GET", f"{place}?watch=1&resourceVersion={since}&timeoutSeconds=1")
    events = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    assert [(each["type"], each["object"]["metadata"]["name"]) for each in events] == [
        ("ADDED", "between"),
        ("DELETED", "between"),
    ]
