"""The API server's HTTP itself: compression, and rights over the wire."""

from __future__ import annotations

import gzip
import json
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
