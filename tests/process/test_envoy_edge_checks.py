"""What a gateway's TLS settings come to in a real Envoy: revocation, authorities, keys, ciphers, versions."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from pathlib import Path

import pytest

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
