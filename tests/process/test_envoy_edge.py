"""TLS at the edge of the mesh: a real gateway Envoy, Secrets, and Python's TLS as the client."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import ssl
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec.structs import replace

from envoy_judge import Judge, Mesh, free_port, judge
from mizzen.ca.authority import Root, new_root, sign_serving
from mizzen.envoy.resources import Resources
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import Proxy
from stories import Scopes, objects, readers, scopes, world

pytestmark = pytest.mark.process

GATEWAY = Proxy(namespace="istio-system", name="in-1", labels={"istio": "ingressgateway"})
REFUSED = "refused"
BEFORE_1_3 = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2)


def _signs_lists(root: Root) -> Root:
    """The same authority, which may revoke as well: the mesh's own has no need to."""
    old = root.certificate
    builder = x509.CertificateBuilder(old.subject, old.subject, old.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(old.not_valid_before_utc).not_valid_after(old.not_valid_after_utc)
    for extension in old.extensions:
        if not isinstance(extension.value, x509.KeyUsage):
            builder = builder.add_extension(extension.value, extension.critical)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return Root(builder.add_extension(usage, True).sign(root.key, hashes.SHA256()), root.key)


class Authority:
    """Whoever signs for the world outside."""

    def __init__(self, folder: Path, name: str = "outside") -> None:
        self.name = name
        self._folder = folder
        self._root = _signs_lists(new_root(name, datetime.now(UTC), x509.random_serial_number()))
        self.pem = self._root.to_pem()[0].decode()

    def pair(self, name: str) -> tuple[str, str]:
        """Certificate and key."""
        key, chain = sign_serving(self._root, [name], datetime.now(UTC), x509.random_serial_number())
        return chain.decode(), key.decode()

    def rsa_pair(self, name: str, *uses: x509.ObjectIdentifier) -> tuple[str, str]:
        """The same with an RSA key, and for these uses alone."""
        key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(issuer_name=self._root.certificate.subject, subject_name=x509.Name([]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=2))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier(self._root.key_identifier, None, None), critical=False)
        )
        if uses:
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        leaf = builder.sign(self._root.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return leaf.decode(), private.decode()

    def revoking(self, *files: Path) -> str:
        """A list that revokes these certificates."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(
            self._root.certificate.subject, now - timedelta(hours=1), now + timedelta(hours=1)
        )
        for file in files:
            number = x509.load_pem_x509_certificate(file.read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder(number, now - timedelta(minutes=1)).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._root.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def file(self, name: str) -> Path:
        """Certificate and key in one file."""
        path = self._folder / f"{self.name}-{name}.pem"
        path.write_text("".join(self.pair(name)))
        return path


def secret(name: str, **entries: str) -> str:
    data = "".join(f"  {key}: {base64.b64encode(text.encode()).decode()}\n" for key, text in entries.items())
    return f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ndata:\n{data}"


def tls_secret(name: str, pair: tuple[str, str], **more: str) -> str:
    return secret(name, **{"tls.crt": pair[0], "tls.key": pair[1]}, **more)


def gateway(name: str, host: str, settings: str) -> str:
    """A server for a host, and a VirtualService that answers 204 there."""
    return f"""
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [{host}], tls: {{{settings}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{host}], gateways: [{name}], http: [{{directResponse: {{status: 204}}}}]}}
"""


class Edge:
    """A gateway that listens on a port of this machine."""

    def __init__(self, envoy: Judge, authority: Authority) -> None:
        self.port = free_port()
        self._envoy = envoy
        self._authority = authority

    async def serve(self, *given: str) -> None:
        assert await self.refusals(*given) == []

    async def refusals(self, *given: str) -> list[str]:
        """What the gateway does not take of it, in its words."""
        return await self._envoy.refusals(self._told("".join(given)))

    def _told(self, given: str) -> Resources:
        snapshot = Snapshot.of([*objects(given), *readers({"default.istio-system": True})])
        found = scopes(snapshot, GATEWAY, gateway=True).gateway
        assert found is not None
        here = replace(found, servers=tuple(replace(each, port=self.port) for each in found.servers))
        return world(Scopes(None, None, here), snapshot, "istio-system")

    async def get(
        self,
        sni: str,
        host: str = "",
        certificate: Path | None = None,
        alpn: str = "http/1.1",
        ciphers: str = "",
        **limits: Any,
    ) -> str:
        """The status, or `refused`. Waits for a listener that is not there yet."""
        context = ssl.create_default_context(cadata=self._authority.pem)
        context.set_alpn_protocols([alpn])
        if ciphers:
            context.set_ciphers(ciphers)
        for key, value in limits.items():
            setattr(context, key, value)
        if certificate is not None:
            context.load_cert_chain(certificate)
        async with asyncio.timeout(10):
            while True:
                try:
                    return await self._ask(sni, host or sni, context)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
                except (OSError, asyncio.IncompleteReadError):
                    return REFUSED

    async def _ask(self, sni: str, host: str, context: ssl.SSLContext) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=sni)
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return (await reader.readuntil(b"\r\n")).split()[1].decode()
        finally:
            writer.close()

    async def try_ciphers(self, sni: str, ciphers: str, *versions: ssl.TLSVersion) -> str:
        """`no compression`, or `refused`, also for ciphers that do not exist here."""
        context = ssl.create_default_context(cadata=self._authority.pem)
        context.options &= ~ssl.OP_NO_COMPRESSION
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError:
            return REFUSED
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # to speak what is outdated is the purpose
            context.minimum_version, context.maximum_version = versions or BEFORE_1_3
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=sni)
        except OSError:
            return REFUSED
        compression = writer.get_extra_info("compression")
        writer.close()
        return compression or "no compression"

    async def until(self, wanted: str, sni: str) -> None:
        async with asyncio.timeout(5):
            while await self.get(sni) != wanted:  # noqa: ASYNC110 - nobody tells when a change is in force
                await asyncio.sleep(0.02)


@asynccontextmanager
async def edge(folder: Path, authority: Authority) -> AsyncIterator[Edge]:
    async with judge(folder, workload=Mesh().workload("in", "istio-system")) as envoy:
        yield Edge(envoy, authority)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_missing_secret_refuses_its_own_hosts_and_no_others(tmp_path: Path, authority: Authority) -> None:
    wild = gateway("wild", '"*.a.org"', "mode: SIMPLE, credentialName: wild")
    exact = gateway("exact", "x.a.org", "mode: SIMPLE, credentialName: exact")
    certificates = tls_secret("wild", authority.pair("*.a.org"))
    async with edge(tmp_path, authority) as gate:
        await gate.serve(wild, exact, certificates)
        assert await gate.get("y.a.org") == "204"
        assert await gate.get("x.a.org") == REFUSED
        await gate.serve(wild, exact, certificates, tls_secret("exact", authority.pair("x.a.org")))
        await gate.until("204", "x.a.org")
        assert await gate.get("x.a.org", "y.a.org") == "421"
        assert await gate.get("nobody.org") == REFUSED


async def test_a_renewed_certificate_is_shown_at_once(tmp_path: Path, authority: Authority) -> None:
    other = Authority(tmp_path, "other")
    entry = gateway("gw", "a.org", "mode: SIMPLE, credentialName: c")
    async with edge(tmp_path, authority) as gate:
        await gate.serve(entry, tls_secret("c", other.pair("a.org")))
        assert await gate.get("a.org") == REFUSED
        await gate.serve(entry, tls_secret("c", authority.pair("a.org")))
        await gate.until("204", "a.org")


async def test_whom_clients_must_be(tmp_path: Path, authority: Authority) -> None:
    strangers = Authority(tmp_path, "strangers")
    known, unknown, other = authority.file("client"), strangers.file("client"), authority.file("somebody")
    certificate = tls_secret("c", authority.pair("a.org"), **{"ca.crt": authority.pem})
    async with edge(tmp_path, authority) as gate:
        await gate.serve(gateway("gw", "a.org", "mode: MUTUAL, credentialName: c"), certificate)
        found = [await gate.get("a.org", certificate=each) for each in (None, known, unknown)]
        assert found == [REFUSED, "204", REFUSED]
        await gate.serve(
            gateway("gw", "a.org", "mode: MUTUAL, credentialName: c, subjectAltNames: [client]"), certificate
        )
        await asyncio.sleep(0.5)
        assert [await gate.get("a.org", certificate=each) for each in (known, other)] == ["204", REFUSED]
        await gate.serve(gateway("gw", "a.org", "mode: OPTIONAL_MUTUAL, credentialName: c"), certificate)
        await gate.until("204", "a.org")
        assert [await gate.get("a.org", certificate=each) for each in (known, unknown)] == ["204", REFUSED]


async def test_versions_are_limited(tmp_path: Path, authority: Authority) -> None:
    old, new = {"maximum_version": ssl.TLSVersion.TLSv1_2}, {"minimum_version": ssl.TLSVersion.TLSv1_3}
    certificate = tls_secret("c", authority.pair("a.org"))
    async with edge(tmp_path, authority) as gate:
        await gate.serve(
            gateway("gw", "a.org", "mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_3"), certificate
        )
        assert [await gate.get("a.org", **limits) for limits in (old, new)] == [REFUSED, "204"]


OUTDATED = ("kRSA", "SHA1", "SHA256:-AEAD", "SHA384:-AEAD", "3DES", "RC4", "NULL", "aNULL", "CAMELLIA", "EXP", "PSK")
"""Families of ciphers: without forward secrecy, CBC, broken, or none at all."""


async def test_a_gateway_speaks_modern_tls_alone(tmp_path: Path, authority: Authority) -> None:
    """Without any setting: 1.2 and 1.3, forward secrecy, no compression. What OpenSSL here cannot say is left out."""
    async with edge(tmp_path, authority) as gate:
        await gate.serve(
            gateway("gw", "a.org", "mode: SIMPLE, credentialName: c"), tls_secret("c", authority.pair("a.org"))
        )
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert await gate.get("a.org", minimum_version=version, maximum_version=version) == "204"
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            assert await gate.try_ciphers("a.org", "ALL:@SECLEVEL=0", version, version) == REFUSED
        for family in OUTDATED:
            assert await gate.try_ciphers("a.org", f"{family}:@SECLEVEL=0", *BEFORE_1_3) == REFUSED, family
        assert await gate.try_ciphers("a.org", "ECDHE+AESGCM") == "no compression"


SCANS = (
    *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"),
    *("--compression", "--heartbleed", "--openssl_ccs", "--robot", "--reneg", "--early_data", "--fallback"),
)


async def test_what_sslyze_finds_at_a_gateway(tmp_path: Path, authority: Authority) -> None:
    scanner = shutil.which("sslyze", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if scanner is None:
        pytest.skip("sslyze is not installed: `./dev test-tls` has it")
    async with edge(tmp_path, authority) as gate:
        await gate.serve(
            gateway("gw", "a.org", "mode: SIMPLE, credentialName: c"), tls_secret("c", authority.pair("a.org"))
        )
        await gate.until("204", "a.org")
        report = tmp_path / "report.json"
        where = f"a.org:{gate.port}{{127.0.0.1}}"
        arguments = [*SCANS, "--mozilla_config=disable", f"--json_out={report}", where]
        scan = await asyncio.create_subprocess_exec(scanner, *arguments)
        assert await scan.wait() == 0
        found = json.loads(report.read_text())["server_scan_results"][0]["scan_result"]
    accepted = {
        suite["cipher_suite"]["name"]
        for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")
        for suite in found[f"{version}_cipher_suites"]["result"]["accepted_cipher_suites"]
    }
    print("accepted:", ", ".join(sorted(accepted)))  # `./dev test-tls` shows it
    assert accepted and all("GCM" in name or "CHACHA20" in name for name in accepted), accepted
    assert all(name.startswith(("TLS_ECDHE_", "TLS_AES_", "TLS_CHACHA20_")) for name in accepted), accepted
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert not found[f"{version}_cipher_suites"]["result"]["accepted_cipher_suites"], version
    assert not found["tls_compression"]["result"]["supports_compression"]
    assert not found["heartbleed"]["result"]["is_vulnerable_to_heartbleed"]
    assert not found["openssl_ccs_injection"]["result"]["is_vulnerable_to_ccs_injection"]
    assert found["robot"]["result"]["robot_result"].startswith("NOT_VULNERABLE")
    assert not found["session_renegotiation"]["result"]["is_vulnerable_to_client_renegotiation_dos"]
    assert found["session_renegotiation"]["result"]["supports_secure_renegotiation"]
    assert not found["tls_1_3_early_data"]["result"]["supports_early_data"]
    assert found["tls_fallback_scsv"]["result"]["supports_fallback_scsv"]


async def test_certificates_of_the_mesh_serve_at_a_gateway_too(tmp_path: Path, authority: Authority) -> None:
    mesh = Mesh()
    pair = mesh.workload("client")
    certificate = tmp_path / "client.pem"
    certificate.write_bytes(pair.chain + pair.key)
    async with judge(tmp_path, workload=mesh.workload("in", "istio-system")) as envoy:
        gate = Edge(envoy, authority)
        await gate.serve(gateway("gw", "a.org", "mode: ISTIO_MUTUAL"))
        anybody = {"check_hostname": False, "verify_mode": ssl.CERT_NONE}
        assert await gate.get("a.org", certificate=certificate, **anybody) == "204"
        assert await gate.get("a.org", **anybody) == REFUSED


async def test_nobody_is_let_in_before_there_are_certificates_to_check_against(
    tmp_path: Path, authority: Authority
) -> None:
    """2020-003."""
    mesh = Mesh()
    pair, certificate = mesh.workload("client"), tmp_path / "client.pem"
    certificate.write_bytes(pair.chain + pair.key)
    async with judge(tmp_path, certified=False) as envoy:
        gate = Edge(envoy, authority)
        await gate.serve(gateway("gw", "a.org", "mode: ISTIO_MUTUAL"))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", gate.port)
        envoy.secrets.publish(mesh.workload("in", "istio-system").secrets())
        anybody = {"check_hostname": False, "verify_mode": ssl.CERT_NONE}
        assert await gate.get("a.org", certificate=certificate, **anybody) == "204"
        assert await gate.get("a.org", **anybody) == REFUSED
