"""One authority follows another: two istiods before an API server in memory, asked as agents and webhooks ask."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from control_planes import Cluster, certificate, cluster, istiod, pod, roots_of
from envoys import until
from mizzen.ca.authority import (
    KeyKind,
    join,
    new_root,
)
from mizzen.controlplane import authority_secrets, ledger
from mizzen.controlplane.app import ControlPlane
from mizzen.kube.api import WELL_KNOWN

pytestmark = pytest.mark.process


def proxied_pod() -> dict[str, Any]:
    obj = pod("web-9", "web", "web")
    obj["spec"]["containers"].append({"name": "istio-proxy", "image": "proxyv2"})
    return obj


def bundles(api: Cluster) -> set[str]:
    """What the API server checks our webhooks against."""
    kinds = (WELL_KNOWN.mutating_webhooks, WELL_KNOWN.validating_webhooks)
    hooks = [hook for kind in kinds for one in api._objects[kind].values() for hook in one["webhooks"]]
    return {base64.b64decode(hook["clientConfig"].get("caBundle", "")).decode() for hook in hooks}


async def issuer(plane: ControlPlane, api: Cluster) -> x509.Certificate:
    """The root of the certificate that an agent is given now, by this replica."""
    _, chain, roots = await certificate(plane, api, bound=True)
    leaf = x509.load_pem_x509_certificates(chain)[-1]
    return next(
        root for root in x509.load_pem_x509_certificates(roots) if leaf.issuer == root.subject and signed(leaf, root)
    )


def signed(leaf: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


async def shown(plane: ControlPlane) -> set[bytes]:
    """Who signed what istiod shows on its three ports with TLS, as clients that trust the published roots see it."""
    ports = (plane.ports.ads, plane.ports.ca, plane.ports.webhooks)
    pems = [await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) for port in ports]
    return {key_identifier(x509.load_pem_x509_certificate(pem.encode())) for pem in pems}


def key_identifier(leaf: x509.Certificate) -> bytes:
    return leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""


def key_id(root: x509.Certificate) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(root.public_key()).digest


async def follows(api: Cluster, planes: tuple[ControlPlane, ControlPlane], old: x509.Certificate) -> x509.Certificate:
    """A succession from here to its end, with two replicas that are asked by turns; the new root."""
    first, second = planes
    await until(lambda: len(roots_of(api)) == 2 and len(roots_of(api, "istio-system")) == 2)
    assert roots_of(api)[0] == old, "who signs comes first"
    new = roots_of(api)[1]
    await until(lambda: bundles(api) == {join((old, new))})
    assert await issuer(first, api) == old, "trusted, and does not sign yet; now the Pod has said that it trusts it"
    await until(lambda: roots_of(api) == [new, old])
    await until(lambda: {plane.certificates.authority.current.phase for plane in planes} == {"retiring"})
    assert {await issuer(first, api), await issuer(second, api)} == {new}
    assert [await shown(plane) for plane in planes] == [{key_id(new)}] * 2
    await until(lambda: roots_of(api) == roots_of(api, "istio-system") == [new])
    await until(lambda: bundles(api) == {join((new,))})
    return new


async def test_one_root_follows_another_while_two_replicas_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "SETTLED_AFTER", 0.3)
    api = await cluster()
    await api.create(WELL_KNOWN.pods, proxied_pod(), "default")
    async with istiod(api) as first, istiod(api) as second:
        await until(lambda: len(roots_of(api)) == 1)
        (old,) = roots_of(api)
        assert await issuer(second, api) == old
        asked = {"metadata": {"annotations": {authority_secrets.ROTATE: "now"}}}
        await api.patch(WELL_KNOWN.secrets, "istio-ca-secret", asked, "istio-system")
        new = await follows(api, (first, second), old)

        await api.create(WELL_KNOWN.secrets, plugged_in("broken") | {"data": {}}, "istio-system")
        await until(lambda: "has no" in first.certificates.authority.problem)
        assert await issuer(first, api) == new, "what cannot sign changes nothing"

        given = plugged_in("one")
        await api.replace(WELL_KNOWN.secrets, given, "istio-system")
        third = await follows(api, (first, second), new)
        assert join((third,)).encode() == base64.b64decode(given["data"]["root-cert.pem"])
        assert first.certificates.authority.problem == ""
    async with istiod(api) as again:
        assert again.certificates.authority.current.trusted == (third,), "a restart changes nothing"
        await api.delete(WELL_KNOWN.secrets, "cacerts", "istio-system")
        await until(lambda: roots_of(api) == [third, new])
    async with istiod(api) as again:
        current = again.certificates.authority.current
        assert (current.phase, current.trusted) == ("spreading", (third, new)), "nor in the middle of a succession"
        assert await issuer(again, api) == third


def plugged_in(name: str) -> dict[str, Any]:
    root = new_root(name, datetime.now(UTC), x509.random_serial_number(), kind=KeyKind(rsa_bits=2048))
    certificate, key = root.to_pem()
    data = {"ca-cert.pem": certificate, "ca-key.pem": key, "cert-chain.pem": certificate, "root-cert.pem": certificate}
    return authority_secrets.secret("cacerts", "istio-system", "Opaque", data)
