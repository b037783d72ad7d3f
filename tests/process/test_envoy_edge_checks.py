"""What a gateway's TLS settings come to in a real Envoy: revocation, authorities, keys, ciphers, versions."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from .test_envoy_edge import REFUSED, Authority, edge, gateway, secret, tls_secret

pytestmark = pytest.mark.process

TLS12 = {"maximum_version": ssl.TLSVersion.TLSv1_2}
RSA, ECDSA = "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_authorities_beside_the_certificate_and_revoked_clients(tmp_path: Path, authority: Authority) -> None:
    clients = Authority(tmp_path, "clients")
    good, bad, stranger = clients.file("good"), clients.file("bad"), authority.file("stranger")
    own = tls_secret("c", authority.pair("a.org"), **{"ca.crt": authority.pem})
    roots = secret("c-cacert", **{"ca.crt": clients.pem})
    mutual = gateway("gw", "a.org", "mode: MUTUAL, credentialName: c")
    async with edge(tmp_path, authority) as gate:
        await gate.serve(mutual, own, roots)
        found = [await gate.get("a.org", certificate=each) for each in (good, bad, stranger, None)]
        assert found == ["204", "204", REFUSED, REFUSED], "the authorities of c-cacert, not those in c"
        await gate.serve(mutual, own, secret("c-cacert", **{"ca.crt": clients.pem, "ca.crl": clients.revoking(bad)}))
        async with asyncio.timeout(5):
            while await gate.get("a.org", certificate=bad) != REFUSED:  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0.02)
        assert await gate.get("a.org", certificate=good) == "204"
        elsewhere = gateway("gw", "a.org", "mode: MUTUAL, credentialName: c, caCertCredentialName: other")
        await gate.serve(elsewhere, own, roots, secret("other", **{"ca.crt": authority.pem}))
        async with asyncio.timeout(5):
            while await gate.get("a.org", certificate=stranger) != "204":  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0.02)
        assert await gate.get("a.org", certificate=good) == REFUSED


async def test_a_resumed_session_is_checked_as_a_new_one_and_a_certificate_is_for_its_use(
    tmp_path: Path, authority: Authority
) -> None:
    """2022-003."""
    clients, others = Authority(tmp_path, "clients"), Authority(tmp_path, "others")
    own = tls_secret("c", authority.pair("a.org"))
    mutual = gateway("gw", "a.org", "mode: MUTUAL, credentialName: c")
    good, misused = clients.file("good"), tmp_path / "misused.pem"
    misused.write_text("".join(clients.rsa_pair("misused", ExtendedKeyUsageOID.SERVER_AUTH)))

    def context(version: ssl.TLSVersion) -> ssl.SSLContext:
        made = ssl.create_default_context(cadata=authority.pem)
        made.maximum_version = version
        made.load_cert_chain(good)
        return made

    async with edge(tmp_path, authority) as gate:

        def asked(client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[str, ssl.SSLSession | None]:
            try:
                with (
                    socket.create_connection(("127.0.0.1", gate.port), 5) as raw,
                    client.wrap_socket(raw, server_hostname="a.org", session=session) as end,
                ):
                    end.sendall(b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n")
                    return end.recv(100).decode().split()[1], end.session
            except (OSError, IndexError):
                return REFUSED, None

        await gate.serve(mutual, own, secret("c-cacert", **{"ca.crt": clients.pem}))
        assert await gate.get("a.org", certificate=good) == "204"
        assert await gate.get("a.org", certificate=misused) == REFUSED, "it is one for servers"
        versions = [context(version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
        begun = [await asyncio.to_thread(asked, one) for one in versions]
        assert [status for status, _ in begun] == ["204", "204"]
        await gate.serve(mutual, own, secret("c-cacert", **{"ca.crt": others.pem}))
        async with asyncio.timeout(5):
            while await gate.get("a.org", certificate=good) != REFUSED:  # noqa: ASYNC110 - nobody tells when
                await asyncio.sleep(0.02)
        again = [await asyncio.to_thread(asked, one, old) for one, (_, old) in zip(versions, begun, strict=True)]
        assert [status for status, _ in again] == [REFUSED, REFUSED], "who was trusted then is not now"


BEHIND_A_BALANCER = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "defaultConfig: {gatewayTopology: {proxyProtocol: {}}}"}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: by-address, namespace: istio-system}
spec:
  action: DENY
  rules:
  - from: [{source: {remoteIpBlocks: [10.1.0.0/16]}}]
  - from: [{source: {ipBlocks: [10.2.0.0/16]}}]
"""


def version_2(client: str, more: bytes = b"") -> bytes:
    """The binary header, with whatever stands behind the addresses."""
    told = b"".join(map(socket.inet_aton, (client, "127.0.0.1"))) + b"\0\1\0\2" + more
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(told).to_bytes(2, "big") + told


async def test_who_a_balancer_says_it_is_by_the_proxy_protocol(tmp_path: Path, authority: Authority) -> None:
    """2020-011, 2024-001: policies see whom the header names, `ipBlocks` means the balancer, and no header nobody."""
    served = gateway("gw", "a.org", "mode: SIMPLE, credentialName: c"), tls_secret("c", authority.pair("a.org"))
    cases = {
        b"PROXY TCP4 10.1.2.3 127.0.0.1 1 2\r\n": "403",
        b"PROXY TCP4 10.2.2.3 127.0.0.1 1 2\r\n": "204",
        b"PROXY UNKNOWN\r\n": "204",
        version_2("10.1.2.3"): "403",
        version_2("10.1.2.3", b"\xea\0\3\xff\xfe\xc3"): "403",
        version_2("10.3.2.3", b"\xea\0\3\xff\xfe\xc3"): "204",
        version_2("10.3.2.3", b"\xea\xff\xff"): REFUSED,
        b"PROXY TCP4 10.1.2.3\r\n": REFUSED,
        b"": REFUSED,
    }
    client = ssl.create_default_context(cadata=authority.pem)
    async with edge(tmp_path, authority) as gate:
        await gate.serve(*served, BEHIND_A_BALANCER)

        async def asked(header: bytes) -> str:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            try:
                writer.write(header)
                await writer.start_tls(client, server_hostname="a.org")
                writer.write(b"GET / HTTP/1.1\r\nHost: a.org\r\nX-Forwarded-For: 10.3.3.3\r\n\r\n")
                return (await reader.readline()).split()[1].decode()
            except (OSError, IndexError):
                return REFUSED
            finally:
                writer.close()

        assert await gate.get("a.org") == REFUSED, "it listens"
        answers = [await asked(header) for header in cases]
        assert dict(zip(cases, answers, strict=True)) == cases


async def test_two_kinds_of_keys_and_several_names_on_one_port(tmp_path: Path, authority: Authority) -> None:
    both = gateway("both", "a.org", "mode: SIMPLE, credentialNames: [rsa, ec]")
    other = gateway("other", "b.org", "mode: SIMPLE, credentialName: b")
    secrets = (
        tls_secret("rsa", authority.rsa_pair("a.org")),
        tls_secret("ec", authority.pair("a.org")),
        tls_secret("b", authority.pair("b.org")),
    )
    async with edge(tmp_path, authority) as gate:
        await gate.serve(both, other, *secrets)
        assert [await gate.get("a.org", ciphers=kind, **TLS12) for kind in (RSA, ECDSA)] == ["204", "204"]
        assert await gate.get("b.org") == "204"
        assert await gate.get("a.org", "b.org") == "421"
        assert await gate.get("b.org", "a.org") == "421"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_ciphers_and_versions(tmp_path: Path, authority: Authority) -> None:
    certificate = tls_secret("c", authority.pair("a.org"))
    only = "mode: SIMPLE, credentialName: c, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384], maxProtocolVersion: TLSV1_2"
    newest = {"minimum_version": ssl.TLSVersion.TLSv1_3}
    async with edge(tmp_path, authority) as gate:
        await gate.serve(gateway("gw", "a.org", only), certificate)
        assert await gate.get("a.org", ciphers="ECDHE-ECDSA-AES256-GCM-SHA384") == "204"
        assert await gate.get("a.org", ciphers=ECDSA) == REFUSED
        assert await gate.get("a.org", **newest) == REFUSED
        await gate.serve(gateway("gw", "a.org", "mode: SIMPLE, credentialName: c"), certificate)
        await gate.until("204", "a.org")
        old = {"minimum_version": ssl.TLSVersion.MINIMUM_SUPPORTED, "maximum_version": ssl.TLSVersion.TLSv1_1}
        assert await gate.get("a.org", ciphers="ALL:@SECLEVEL=0", **old) == REFUSED, "1.2 is the least"
        assert [await gate.get("a.org", **limits) for limits in (TLS12, newest)] == ["204", "204"]


async def test_plain_requests_are_sent_to_https(tmp_path: Path, authority: Authority) -> None:
    plain = gateway("gw", "a.org", "httpsRedirect: true").replace(
        "number: 443, name: https, protocol: HTTPS", "number: 80, name: http, protocol: HTTP"
    )
    async with edge(tmp_path, authority) as gate:
        await gate.serve(plain)

        def ask() -> tuple[int, str | None]:
            connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=5)
            try:
                connection.request("GET", "/path?x=1", headers={"Host": "a.org"})
                answer = connection.getresponse()
                return answer.status, answer.getheader("location")
            finally:
                connection.close()

        assert await asyncio.to_thread(ask) == (301, "https://a.org/path?x=1")


async def test_certificates_in_files_are_followed_and_missing_ones_hurt_nobody_else(
    tmp_path: Path, authority: Authority
) -> None:
    other, mounted = Authority(tmp_path, "other"), tmp_path / "mounted"
    mounted.mkdir()

    def put(pair: tuple[str, str]) -> None:
        """As Kubernetes renews what is mounted: beside it first, then in its place."""
        for name, text in zip(("tls.crt", "tls.key"), pair, strict=True):
            (mounted / f"new-{name}").write_text(text)
            (mounted / f"new-{name}").rename(mounted / name)

    put(other.pair("a.org"))
    known, revoked = authority.file("known"), authority.file("revoked")
    (mounted / "ca.crt").write_text(authority.pem)
    (mounted / "ca.crl").write_text(authority.revoking(revoked))
    files = f"serverCertificate: {mounted}/tls.crt, privateKey: {mounted}/tls.key"
    files += f", caCertificates: {mounted}/ca.crt, caCrl: {mounted}/ca.crl"
    nowhere = f"serverCertificate: {mounted}/no.crt, privateKey: {mounted}/no.key"
    servers = (
        gateway("a", "a.org", f"mode: OPTIONAL_MUTUAL, {files}"),
        gateway("b", "b.org", "mode: SIMPLE, credentialName: b"),
    )
    given = (*servers, tls_secret("b", authority.pair("b.org")))
    async with edge(tmp_path, authority) as gate:
        await gate.serve(*given)
        (refused,) = await gate.refusals(*given, gateway("c", "c.org", f"mode: SIMPLE, {nowhere}"))
        assert f"{mounted}/no" in refused
        await gate.until("204", "b.org")
        assert [await gate.get(host) for host in ("a.org", "b.org", "c.org")] == [REFUSED, "204", REFUSED]
        put(authority.pair("a.org"))
        await gate.until("204", "a.org")
        assert [await gate.get("a.org", certificate=each) for each in (known, revoked)] == ["204", REFUSED]
