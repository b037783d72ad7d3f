"""Who gets whose certificate: our CA in front of a real API server, asked with tokens of every kind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from apiservers import ApiServer
from mizzen.ca.authority import new_key
from mizzen.ca.messages import CA_METHOD, IstioCertificateRequest, IstioCertificateResponse
from mizzen.controlplane.authority import DEFAULT_ROOT
from mizzen.controlplane.certificates import Certificates, Surroundings
from mizzen.embedded.apiserver.tokens import TokenIssuer
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.http import HttpApi
from mizzen.scope.snapshot import Snapshot

pytestmark = pytest.mark.process
JSON = dict[str, Any]


def request(*names: x509.GeneralName) -> bytes:
    """What somebody asks for who would like to be called so."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank-1")])
    unsigned = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        unsigned = unsigned.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return unsigned.sign(new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


BANK = request(
    x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/bank"), x509.DNSName("istiod.istio-system.svc")
)


@dataclass
class Shop:
    """Pods `web-1` and `bank-1`, each with an account of its own, and a CA that asks this API server."""

    api: HttpApi
    state: Path
    create: Any

    async def pod(self, name: str, account: str) -> JSON:
        spec = {"serviceAccountName": account, "containers": [{"name": "app", "image": "app"}]}
        metadata = {"name": name, "namespace": "default", "labels": {"app": account, "version": "v1"}}
        obj = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        return await self.api.create(WELL_KNOWN.pods, obj, "default")

    async def gone(self, name: str) -> None:
        await self.api.delete(WELL_KNOWN.pods, name, "default", grace_seconds=0)

    async def token(self, pod: JSON, audience: str = "istio-ca") -> str:
        """As the node asks for it."""
        metadata, account = pod["metadata"], pod["spec"]["serviceAccountName"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        asked = {"spec": {"audiences": [audience], "boundObjectRef": bound, "expirationSeconds": 3600}}
        answer = await self.api.post_subresource(WELL_KNOWN.serviceaccounts, account, "token", asked, "default")
        return str(answer["status"]["token"])

    async def certificate(self, token: str, csr: bytes = BANK) -> x509.Certificate:
        metadata = (("authorization", f"Bearer {token}"),)
        answer = await self.create(IstioCertificateRequest(csr=csr.decode()), metadata=metadata)
        return x509.load_pem_x509_certificate(answer.cert_chain[0].encode())

    async def refusal(self, token: str) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.certificate(token)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert token not in (caught.value.details() or "")
        return caught.value.details() or ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    started = ApiServer(tmp_path_factory.mktemp("api"))
    yield started
    started.stop()


@pytest.fixture
async def shop(server: ApiServer) -> AsyncIterator[Shop]:
    async with AsyncExitStack() as stack:
        api = HttpApi.from_kubeconfig(server.kubeconfig)
        stack.push_async_callback(api.close)
        certificates = Certificates(api, "default", Surroundings(Snapshot, lambda: True), DEFAULT_ROOT)
        following = asyncio.create_task(certificates.authority.run())
        stack.callback(following.cancel)
        await certificates.authority.loaded()
        ca = grpc.aio.server()
        ca.add_generic_rpc_handlers((certificates.service(),))
        port = ca.add_insecure_port("127.0.0.1:0")
        await ca.start()
        stack.push_async_callback(ca.stop, None)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        create = channel.unary_unary(
            CA_METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=IstioCertificateResponse.FromString,
        )
        made = Shop(api, server.folder / "state", create)
        for account in ("web", "bank"):
            await api.create(WELL_KNOWN.serviceaccounts, {"metadata": {"name": account}}, "default")
        yield made
        for resource in (WELL_KNOWN.pods, WELL_KNOWN.serviceaccounts):
            for obj in (await api.list(resource, "default")).items:
                await api.delete(resource, obj["metadata"]["name"], "default", grace_seconds=0)


def names(certificate: x509.Certificate) -> list[str]:
    return [
        str(name.value) for name in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ]


async def test_a_token_proves_its_own_pod_and_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever steals a token of web is web, whatever the request says, and never the bank."""
    caplog.set_level(logging.DEBUG, "mizzen")
    web = await shop.pod("web-1", "web")
    await shop.pod("bank-1", "bank")
    token = await shop.token(web)
    got = await shop.certificate(token)
    assert names(got) == ["spiffe://cluster.local/ns/default/sa/web"]
    assert got.subject.rfc4514_string() == "OU=v1,OU=web,O=default,CN=web-1"
    assert token not in caplog.text and "PRIVATE KEY" not in caplog.text


async def test_the_subject_is_what_the_pod_is_at_this_moment(shop: Shop) -> None:
    token = await shop.token(await shop.pod("web-1", "web"))
    await shop.api.patch(WELL_KNOWN.pods, "web-1", {"metadata": {"labels": {"version": "v2"}}}, "default")
    assert "OU=v2" in (await shop.certificate(token)).subject.rfc4514_string()


async def test_a_token_for_another_audience_is_none(shop: Shop) -> None:
    web = await shop.pod("web-1", "web")
    for audience in ("https://kubernetes.default.svc", "vault"):
        assert "refuses the token" in await shop.refusal(await shop.token(web, audience))


async def test_a_token_of_a_pod_that_is_gone_is_none(shop: Shop) -> None:
    token = await shop.token(await shop.pod("web-1", "web"))
    await shop.gone("web-1")
    assert "refuses the token" in await shop.refusal(token)
    await shop.pod("web-1", "web")
    assert "refuses the token" in await shop.refusal(token), "a Pod of the same name is another Pod"


async def test_a_token_whose_time_is_over_is_none(shop: Shop) -> None:
    web = await shop.pod("web-1", "web")
    account = await shop.api.get(WELL_KNOWN.serviceaccounts, "web", "default")
    bound = {
        "namespace": "default",
        "serviceaccount": {"name": "web", "uid": account["metadata"]["uid"]},
        "pod": {"name": "web-1", "uid": web["metadata"]["uid"]},
    }
    signs = TokenIssuer(next(shop.state.rglob("sa.key")))
    past = datetime.now(UTC) - timedelta(hours=2)
    assert names(await shop.certificate(signs.issue(bound, ["istio-ca"], datetime.now(UTC), 3600, "1")))
    assert "expired" in await shop.refusal(signs.issue(bound, ["istio-ca"], past, 3600, "2"))


@pytest.mark.parametrize("token", ["not-a-token", "a.b.c"])
async def test_what_is_no_token_is_none(shop: Shop, token: str) -> None:
    await shop.refusal(token)
