"""Mesh TLS between a real Envoy and Python's own TLS: what a Pod accepts in each mode, and what it shows to others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from captured import FAR, POD, RULES, VIP, End, pods
from envoy_judge import Judge, Mesh, judge
from mizzen.agent.capture import capture
from mizzen.agent.certificates import KeyPair
from mizzen.envoy.resources import ENDPOINTS
from mizzen.scope import model
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from mizzen.xds.endpoints import cluster_load_assignment
from stories import objects, scopes, services, world

pytestmark = [pytest.mark.process, pytest.mark.root]

# The far end can speak mesh TLS: ports from 8443 on ask for a certificate and tell what they were shown.
TLS = """
import os, ssl
FOLDER = %r
def context(protocol, name):
    found = ssl.SSLContext(protocol)
    if name:
        found.load_cert_chain(f"{FOLDER}/{name}.chain", f"{FOLDER}/{name}.key")
    found.load_verify_locations(f"{FOLDER}/root.pem")
    found.check_hostname = False
    return found
plain_answer = answer
def answer(connection, peer):
    if connection.getsockname()[1] < 8443:
        return plain_answer(connection, peer)
    server, seen = context(ssl.PROTOCOL_TLS_SERVER, "far"), {}
    server.verify_mode = ssl.CERT_REQUIRED
    server.set_alpn_protocols(["istio-http/1.1", "istio"])
    server.sni_callback = lambda _, name, __: seen.update(sni=name)
    try:
        with server.wrap_socket(connection, server_side=True) as inside:
            asked = inside.recv(4096)
            names = [value for _, value in inside.getpeercert()["subjectAltName"]]
            text = f"{inside.selected_alpn_protocol()} {seen['sni']} {names[0]}".encode()
            head = b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: %%d\\r\\n\\r\\n" %% len(text)
            inside.sendall(head + text if b"HTTP/1" in asked else text)
    except OSError:
        connection.close()
plain_call = call
def call(address, port, sent, alpn=None, name=None):
    if alpn is None:
        return plain_call(address, port, sent)
    client = context(ssl.PROTOCOL_TLS_CLIENT, name)
    client.set_alpn_protocols(alpn)
    try:
        with socket.create_connection((address, port), timeout=3) as connection:
            with client.wrap_socket(connection) as inside:
                inside.sendall(sent.encode())
                found = b""
                while part := inside.recv(4096):
                    found += part
                return found.decode()
    except OSError as error:
        return type(error).__name__
"""
SERVICES = {
    "far.default": {8443: "http", 8444: "tcp", 8445: ""},
    "own.default": {8000: "http", 8001: "tcp", 8002: ""},
}
REQUEST = "GET / HTTP/1.1\r\nHost: own\r\nConnection: close\r\n\r\n"


def keep(folder: Path, name: str, pair: KeyPair) -> None:
    (folder / f"{name}.key").write_bytes(pair.key)
    (folder / f"{name}.chain").write_bytes(pair.chain)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    found = Mesh()
    (tmp_path / "root.pem").write_bytes(found.root.to_pem()[0])
    keep(tmp_path, "far", found.workload("far"))
    keep(tmp_path, "stranger", Mesh().workload("far"))
    return found


@pytest.fixture
def ends(private_network: None, mesh: Mesh, tmp_path: Path) -> Iterator[tuple[End, End]]:
    with pods([8443, 8444, 8445], TLS % str(tmp_path)) as found:
        yield found


def policy(mode: str) -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def told(given: str) -> Any:
    snapshot = Snapshot.of([*services(SERVICES), *objects(given)])
    found = scopes(snapshot, Proxy(namespace="default", name="own-1", labels={"app": "own"}), gateway=False)
    everything: dict[str, Any] = dict(world(found, snapshot, "default"))
    everything[ENDPOINTS] = {
        cluster: cluster_load_assignment(
            cluster, [model.Endpoint(address=FAR, port=int(cluster.split("|")[1]), tls_mode="istio")]
        )
        for cluster in everything[ENDPOINTS]
        if "far" in cluster
    }
    return everything


@asynccontextmanager
async def sidecar(folder: Path, mesh: Mesh, given: str) -> AsyncIterator[Judge]:
    capture(RULES, {})
    async with judge(folder, user=1337, workload=mesh.workload("own")) as envoy:
        assert await envoy.refusals(told(given)) == []
        yield envoy


async def ask(far: End, port: int, *tls: Any, sent: str = REQUEST) -> str:
    """`tls`: the ALPN words, and whose certificate is shown. The last line of the answer, or how it failed."""
    far.tell(json.dumps([POD, port, sent, *tls]))
    answer = str(json.loads(await asyncio.to_thread(far.line)))
    return answer.rpartition("\r\n")[2]


REFUSED = (
    "",
    "BrokenPipeError",
    "ConnectionResetError",
    "SSLError",
    "SSLEOFError",
    "SSLZeroReturnError",
    "SSLCertVerificationError",
)
MESH_HTTP, MESH_TCP = ["istio-http/1.1"], ["istio-peer-exchange", "istio"]


async def test_permissive_takes_both(ends: tuple[End, End], mesh: Mesh, tmp_path: Path) -> None:
    _, far = ends
    async with sidecar(tmp_path, mesh, ""):
        for port in (8000, 8002, 8003):
            assert await ask(far, port) == f"{port} asked by 127.0.0.6"
            assert await ask(far, port, MESH_HTTP, "far") == f"{port} asked by 127.0.0.6"
        assert await ask(far, 8001, MESH_TCP, "far") == "hello from 8001"
        assert await ask(far, 8002, MESH_TCP, "far", sent="bytes") == "8002 asked by 127.0.0.6"
        for port in (8000, 8002):
            assert await ask(far, port, MESH_HTTP, None) in REFUSED
            assert await ask(far, port, MESH_HTTP, "stranger") in REFUSED


async def test_strict_takes_nobody_without_a_certificate_of_the_mesh(
    ends: tuple[End, End], mesh: Mesh, tmp_path: Path
) -> None:
    _, far = ends
    async with sidecar(tmp_path, mesh, policy("STRICT")):
        for port in (8000, 8001, 8002, 8003):
            assert await ask(far, port) in REFUSED
            assert await ask(far, port, ["http/1.1"], None) in REFUSED
            assert await ask(far, port, MESH_HTTP, None) in REFUSED
            assert await ask(far, port, MESH_HTTP, "stranger") in REFUSED
        for port in (8000, 8002, 8003):
            assert await ask(far, port, MESH_HTTP, "far") == f"{port} asked by 127.0.0.6"
            assert await ask(far, port, MESH_TCP, "far", sent=REQUEST) == f"{port} asked by 127.0.0.6"
        assert await ask(far, 8000, ["http/1.1"], "far") == "8000 asked by 127.0.0.6"
        assert await ask(far, 8001, MESH_TCP, "far") == "hello from 8001"


async def test_applications_are_told_which_certificate_was_shown(
    ends: tuple[End, End], mesh: Mesh, tmp_path: Path
) -> None:
    """Word for word what Istio's proxies say; nobody in plain text says it himself."""
    _, far = ends
    chain = (tmp_path / "far.chain").read_bytes()
    digest = x509.load_pem_x509_certificate(chain).fingerprint(SHA256()).hex()
    account = "spiffe://cluster.local/ns/default/sa"
    said = f'By={account}/own;Hash={digest};Subject="";URI={account}/far'
    claims = REQUEST.replace("GET /", "GET /shown").replace(
        "\r\n\r\n", "\r\nx-forwarded-client-cert: By=before\r\n\r\n"
    )
    async with sidecar(tmp_path, mesh, ""):
        assert await ask(far, 8000, MESH_HTTP, "far", sent=REQUEST.replace("GET /", "GET /shown")) == said
        assert await ask(far, 8000, MESH_HTTP, "far", sent=claims) == f"By=before,{said}"
        assert await ask(far, 8003, MESH_HTTP, "far", sent=claims) == f"By=before,{said}"
        assert await ask(far, 8000, sent=claims) == ""


async def test_disable_takes_plain_text(ends: tuple[End, End], mesh: Mesh, tmp_path: Path) -> None:
    _, far = ends
    async with sidecar(tmp_path, mesh, policy("DISABLE")):
        for port in (8000, 8002, 8003):
            assert await ask(far, port) == f"{port} asked by 127.0.0.6"
        assert await ask(far, 8001, sent="") == "hello from 8001"
        assert await ask(far, 8000, MESH_HTTP, "far") in REFUSED


async def test_callers_show_who_they_are_and_check_whom_they_reach(
    ends: tuple[End, End], mesh: Mesh, tmp_path: Path
) -> None:
    own, _ = ends
    shown = "outbound_.{}_._.far.default.svc.cluster.local spiffe://cluster.local/ns/default/sa/own"
    async with sidecar(tmp_path, mesh, "") as envoy:
        assert await own.get(VIP, 8443, "far") == f"200 istio-http/1.1 {shown.format(8443)}"
        assert await own.call(VIP, 8444, "bytes") == f"istio {shown.format(8444)}"
        assert await own.get(VIP, 8445, "far") == f"200 istio-http/1.1 {shown.format(8445)}"
        assert await own.call(VIP, 8445, "bytes\n") == f"istio {shown.format(8445)}"
        keep(tmp_path, "far", Mesh().workload("far"))
        assert (await own.get(VIP, 8443, "far")).startswith("503")
        keep(tmp_path, "far", mesh.workload("far", "elsewhere"))
        assert (await own.get(VIP, 8443, "far")).startswith("503")
        keep(tmp_path, "far", mesh.workload("far"))
        rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far}
spec: {host: far, trafficPolicy: {tls: {mode: DISABLE}}}
"""
        assert await envoy.refusals(told(rule)) == []
        assert (await own.get(VIP, 8443, "far")).startswith("503")
