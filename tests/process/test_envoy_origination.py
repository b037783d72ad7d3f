"""TLS that a gateway begins towards hosts outside, and mesh TLS that it passes on: Envoy between Python's TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from .test_envoy_edge import REFUSED, Authority, Edge, edge, gateway, secret, tls_secret

pytestmark = pytest.mark.process

OUTSIDE = "bank.default.svc.cluster.local"


def outside(port: int, tls: str) -> str:
    """A host outside (a Service without selector), behind the gateway's host a.org, and how it is called."""
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: bank}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: bank-1, labels: {{kubernetes.io/service-name: bank}}}}
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: bank}}
spec: {{host: bank, trafficPolicy: {{tls: {{{tls}}}}}}}
"""


WAY_IN = gateway("gw", "a.org", "mode: SIMPLE, credentialName: own").replace(
    "{directResponse: {status: 204}}", "{route: [{destination: {host: bank}}]}"
)


@asynccontextmanager
async def server(certificate: Path, clients: str = "", alpn: str = "") -> AsyncIterator[int]:
    """Answers 200, each time on a new connection; with `clients` (PEM) only to whom that authority knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients)
    if alpn:
        context.set_alpn_protocols([alpn])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_mutual_tls_by_a_secret_that_comes_changes_and_goes(tmp_path: Path, authority: Authority) -> None:
    bank, strangers = Authority(tmp_path, "bank"), Authority(tmp_path, "strangers")
    own = tls_secret("own", authority.pair("a.org"))
    good = tls_secret("client", bank.pair("us"), **{"ca.crt": bank.pem})
    async with server(bank.file("bank.example.com"), bank.pem) as port, edge(tmp_path, authority) as gate:
        rule = outside(port, "mode: MUTUAL, credentialName: client, sni: bank.example.com")
        await gate.serve(WAY_IN, own, rule)
        await gate.until("503", "a.org")
        await gate.serve(WAY_IN, own, rule, good)
        await gate.until("200", "a.org")
        await gate.serve(WAY_IN, own, rule, tls_secret("client", strangers.pair("us"), **{"ca.crt": bank.pem}))
        await gate.until("503", "a.org")
        await gate.serve(
            WAY_IN, own, rule, tls_secret("client", bank.pair("us")), secret("client-cacert", **{"ca.crt": bank.pem})
        )
        await gate.until("200", "a.org")
        await gate.serve(WAY_IN, own, rule)
        await gate.until("503", "a.org")


async def test_whom_the_server_must_be(tmp_path: Path, authority: Authority) -> None:
    bank, strangers = Authority(tmp_path, "bank"), Authority(tmp_path, "strangers")
    secrets = "".join(
        (
            tls_secret("own", authority.pair("a.org")),
            secret("roots", **{"ca.crt": bank.pem}),
            secret("others", **{"ca.crt": strangers.pem}),
            tls_secret("client", bank.pair("us")),
        )
    )
    told = "sni: bank.example.com"
    cases = {
        f"mode: SIMPLE, credentialName: roots, {told}": "200",
        f"mode: SIMPLE, credentialName: others, {told}": "503",
        f"mode: SIMPLE, credentialName: roots, {told}, subjectAltNames: [bank.example.com]": "200",
        f"mode: SIMPLE, credentialName: roots, {told}, subjectAltNames: [shop.example.com]": "503",
        f"mode: SIMPLE, {told}": "503",
        f"mode: SIMPLE, insecureSkipVerify: true, {told}": "200",
        f"mode: MUTUAL, credentialName: client, {told}": "503",
        f"mode: MUTUAL, credentialName: client, insecureSkipVerify: true, {told}": "200",
    }
    async with server(bank.file("bank.example.com")) as port, edge(tmp_path, authority) as gate:
        for tls, wanted in cases.items():
            await gate.serve(WAY_IN, secrets, outside(port, tls))
            await gate.until(wanted, "a.org")


BEHIND = """
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
"""
PASSING = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    tls: {mode: AUTO_PASSTHROUGH}
    hosts: ["*.default.svc.cluster.local"]
"""


def pod(port: int, mode: str) -> str:
    return f"""
---
apiVersion: v1
kind: Pod
metadata: {{name: app-1, labels: {{{mode}}}}}
spec: {{containers: [{{name: app}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: app-1, labels: {{kubernetes.io/service-name: app}}}}
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], targetRef: {{kind: Pod, name: app-1}}}}]
"""


async def test_mesh_tls_is_passed_on_to_whom_its_sni_names(tmp_path: Path, authority: Authority) -> None:
    """Which certificate is shown says where the TLS ended: at the server, not at the gateway."""
    name = "outbound_.80_._.app.default.svc.cluster.local"
    async with server(authority.file(name), alpn="istio") as port, edge(tmp_path, authority) as gate:
        meshed = pod(port, "security.istio.io/tlsMode: istio")
        await gate.serve(PASSING, BEHIND, meshed)
        assert await ask(gate, authority, name) == "200"
        assert await ask(gate, authority, name, alpn="http/1.1") == REFUSED, "not the mesh's TLS"
        assert await ask(gate, authority, "outbound_.80_._.istiod.istio-system.svc.cluster.local") == REFUSED
        assert await ask(gate, authority, "app.default.svc.cluster.local") == REFUSED
        await gate.serve(PASSING, BEHIND, pod(port, "app: app"))
        async with asyncio.timeout(5):
            while await ask(gate, authority, name) != REFUSED:  # noqa: ASYNC110 - nobody tells when it is in force
                await asyncio.sleep(0.02)


async def ask(gate: Edge, authority: Authority, sni: str, alpn: str = "istio") -> str:
    return await gate.get(sni, alpn=alpn)
