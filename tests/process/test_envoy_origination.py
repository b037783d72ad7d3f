"""TLS that a gateway or a sidecar begins towards hosts outside, and mesh TLS that is passed on: against Python."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from envoy_judge import Judge, free_port, judge
from mizzen.envoy.messages import Listener, serialized
from mizzen.envoy.resources import LISTENER, Resource
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from stories import objects, readers, scopes, world

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


# The same from a sidecar, which has no Secrets of its own by default


SLEEP = Proxy(namespace="default", name="sleep", labels={"app": "sleep"})
SLEEPER = """
---
apiVersion: v1
kind: Pod
metadata: {name: sleep, labels: {app: sleep}}
spec: {serviceAccountName: sleeper, containers: [{name: app}]}
"""
SELECTED = "workloadSelector: {matchLabels: {app: sleep}}, trafficPolicy"


def public_roots(pem: str) -> str:
    return f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots}}\ndata: {{ca.crt: {json.dumps(pem)}}}\n"


class Sidecar:
    """Its listener for port 80, reached on a port of this machine instead of by interception."""

    def __init__(self, envoy: Judge) -> None:
        self._envoy = envoy
        self._port = free_port()

    async def told(self, *given: str, allowed: bool = False) -> list[str]:
        """What Envoy says against it."""
        snapshot = Snapshot.of([*objects("".join(given)), *readers({"sleeper.default": allowed})])
        told = world(scopes(snapshot, SLEEP, gateway=False), snapshot, "default")
        return await self._envoy.refusals({**told, LISTENER: self._bound(told[LISTENER]["0.0.0.0_80"])})

    async def is_answered(self, wanted: str, *given: str, allowed: bool = False) -> bool:
        """Whether the bank's answer to an app, or the sidecar's, comes to have this status."""
        assert await self.told(*given, allowed=allowed) == []
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while await self.ask() != wanted:  # noqa: ASYNC110 - nobody tells when a change is in force
                    await asyncio.sleep(0.02)
                return True
        return False

    def _bound(self, resource: Resource) -> dict[str, Resource]:
        listener = Listener.FromString(resource.body)
        listener.bind_to_port.value = True
        listener.address.socket_address.port_value = self._port
        return {resource.name: Resource.of(resource.name, serialized(listener))}

    async def ask(self) -> str:
        """The status; "" while the listener is on its way."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except ConnectionRefusedError:
            return ""
        writer.write(b"GET / HTTP/1.1\r\nHost: bank\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        writer.close()
        return line.split()[1].decode()


async def test_a_sidecar_begins_tls_as_its_rule_says(tmp_path: Path) -> None:
    bank, strangers = Authority(tmp_path, "bank"), Authority(tmp_path, "strangers")
    own = bank.file("us")
    for authority in (bank, strangers):
        (tmp_path / f"{authority.name}.pem").write_text(authority.pem)
    roots, others = f"caCertificates: {tmp_path}/bank.pem", f"caCertificates: {tmp_path}/strangers.pem"
    shown = f"clientCertificate: {own}, privateKey: {own}, {roots}"
    stranger = strangers.file("us")
    secrets = "".join(
        one.replace("istio-system", "default")
        for one in (tls_secret("client", bank.pair("us"), **{"ca.crt": bank.pem}), secret("roots", cacert=bank.pem))
    )
    told, good = "sni: bank.example.com", "subjectAltNames: [bank.example.com]"
    opened = {
        f"mode: SIMPLE, {told}, {roots}": "200",
        f"mode: SIMPLE, {told}, {roots}, {good}": "200",
        f"mode: SIMPLE, {told}, {roots}, subjectAltNames: [example.com]": "503",
        f"mode: SIMPLE, {told}, {others}": "503",
        f"mode: SIMPLE, {told}": "503",
        f"mode: SIMPLE, {told}, insecureSkipVerify: true": "200",
        "mode: DISABLE": "503",
        "mode: ISTIO_MUTUAL": "503",
    }
    closed = {
        f"mode: MUTUAL, {told}, {shown}": "200",
        f"mode: MUTUAL, {told}, {shown}, {good}": "200",
        f"mode: MUTUAL, {told}, {shown}, subjectAltNames: [shop.example.com]": "503",
        f"mode: MUTUAL, {told}, {shown}".replace(str(own), str(stranger)): "503",
        f"mode: SIMPLE, {told}, {roots}": "503",
        f"mode: MUTUAL, {told}, clientCertificate: {own}, privateKey: {own}, insecureSkipVerify: true": "200",
    }
    certificate = bank.file("bank.example.com")
    async with (
        server(certificate) as anybody,
        server(certificate, bank.pem) as members,
        server(bank.file("*.example.com")) as wild,
        judge(tmp_path) as envoy,
    ):
        sidecar = Sidecar(envoy)
        missing = f"mode: MUTUAL, {told}, {shown}".replace(str(own), "/nowhere/own.pem")
        assert await sidecar.told(outside(members, missing)), "a file that is missing is told"
        assert await sidecar.ask() in ("", "503"), "and nothing is sent without it"
        for port, cases in ((anybody, opened), (members, closed)):
            for tls, wanted in cases.items():
                assert await sidecar.is_answered(wanted, outside(port, tls)), tls
        for name, wanted in (("a.example.com", "200"), ("a.b.example.com", "503"), ("example.com", "503")):
            one_label = outside(wild, f"mode: SIMPLE, {told}, {roots}, subjectAltNames: [{name}]")
            assert await sidecar.is_answered(wanted, one_label), "2020-008: a wildcard is one label"
        by_name = SLEEPER + secrets + outside(members, f"mode: MUTUAL, {told}, credentialName: client")
        selected = by_name.replace("trafficPolicy", SELECTED)
        assert await sidecar.is_answered("503", by_name, allowed=True), "nobody in particular is meant"
        assert await sidecar.is_answered("200", selected, allowed=True)
        assert await sidecar.is_answered("503", selected), "it could not read the Secret itself"
        authorities = SLEEPER + secrets + outside(anybody, f"mode: SIMPLE, {told}, credentialName: roots")
        assert await sidecar.is_answered("200", authorities.replace("trafficPolicy", SELECTED))
        public = authorities.replace("credentialName: roots", "credentialName: 'configmap://default/roots'")
        assert await sidecar.is_answered("503", public, public_roots(strangers.pem))
        assert await sidecar.is_answered("200", public, public_roots(bank.pem)), "anybody may have authorities"


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
    """Which certificate is shown says where the TLS ended: at the server, not at the gateway. 2021-006."""
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
