"""The certificate service over a real gRPC channel, as Istio's own agent would call it."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from cryptography import x509

from mizzen.ca.authority import fingerprint, join, new_key, new_root, signing_request
from mizzen.ca.messages import CA_METHOD, TRUSTED_ROOTS, IstioCertificateRequest, IstioCertificateResponse
from mizzen.ca.service import certificate_service
from mizzen.ca.spiffe import Caller, Identity
from mizzen.ca.succession import Succession
from mizzen.ca.tokens import Unauthenticated
from mizzen.kube.api import Unreachable

pytestmark = pytest.mark.process
ROOT = new_root("cluster.local", datetime.now(UTC), serial=1)
CSR = signing_request(new_key(), "spiffe://cluster.local/ns/somebody/sa/else").decode()


async def authenticate(token):
    if token == "outage":
        raise Unreachable(0, "", "the API server does not answer")
    if token != "good":
        raise Unauthenticated("the API server refuses the token")
    return Caller(Identity("cluster.local", "shop", "web"))


@pytest.fixture
def told():
    """What the ledger heard of."""
    return []


@pytest.fixture
async def create_certificate(told):
    async def note(issued):
        if issued.lives > timedelta(days=50):
            raise Unreachable(0, "", "it cannot be remembered")
        told.append(issued)

    server = grpc.aio.server()
    authority = Succession(ROOT, datetime.now(UTC))
    server.add_generic_rpc_handlers((certificate_service(lambda: authority, authenticate, note),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel.unary_unary(
            CA_METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=IstioCertificateResponse.FromString,
        )
    await server.stop(0)


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def test_signs_for_the_callers_identity_and_not_for_the_requests(create_certificate):
    request = IstioCertificateRequest(csr=CSR, validity_duration=3600)
    response = await create_certificate(request, metadata=bearer("good"))
    leaf = x509.load_pem_x509_certificate(response.cert_chain[0].encode())
    leaf.verify_directly_issued_by(ROOT.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://cluster.local/ns/shop/sa/web"]
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() == 3600 + 120


async def test_the_last_element_holds_all_roots_and_what_the_caller_trusts_is_told(create_certificate, told):
    said = ",".join((fingerprint(ROOT.certificate), "0" * 64, "nonsense"))
    metadata = {"fields": [{"key": TRUSTED_ROOTS, "value": {"string_value": said}}]}
    response = await create_certificate(IstioCertificateRequest(csr=CSR, metadata=metadata), metadata=bearer("good"))
    assert list(response.cert_chain)[1:] == [join((ROOT.certificate,))]
    (issued,) = told
    assert (issued.key_id, issued.trusts) == (ROOT.key_id, {fingerprint(ROOT.certificate)})
    assert (str(issued.caller.identity), issued.lives.days) == ("spiffe://cluster.local/ns/shop/sa/web", 0)


async def test_what_cannot_be_remembered_is_not_handed_out(create_certificate):
    request = IstioCertificateRequest(csr=CSR, validity_duration=60 * 86400)
    code, details = await refused(create_certificate(request, metadata=bearer("good")))
    assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "it cannot be remembered")


async def test_without_a_good_token_nothing_is_signed(create_certificate):
    request = IstioCertificateRequest(csr=CSR)
    assert (await refused(create_certificate(request)))[0] == grpc.StatusCode.UNAUTHENTICATED
    assert (await refused(create_certificate(request, metadata=bearer("bad"))))[0] == grpc.StatusCode.UNAUTHENTICATED


async def test_no_header_says_who_calls(create_certificate):
    """ISTIO-SECURITY-2022-008: as by a proxy on this very machine."""
    claims = "By=spiffe://x;Hash=00;URI=spiffe://cluster.local/ns/istio-system/sa/istiod"
    request = IstioCertificateRequest(csr=CSR)
    for name in ("x-forwarded-client-cert", "x-envoy-external-address", "x-forwarded-for", "x-remote-user"):
        code, _ = await refused(create_certificate(request, metadata=((name, claims),)))
        assert code == grpc.StatusCode.UNAUTHENTICATED, name
    response = await create_certificate(request, metadata=((("x-forwarded-client-cert", claims), *bearer("good"))))
    leaf = x509.load_pem_x509_certificate(response.cert_chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://cluster.local/ns/shop/sa/web"]


async def test_a_bad_request_is_told_apart(create_certificate):
    code, details = await refused(create_certificate(IstioCertificateRequest(csr="x"), metadata=bearer("good")))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "does not parse" in details


async def test_an_api_server_outage_is_not_the_callers_fault(create_certificate):
    code, _ = await refused(create_certificate(IstioCertificateRequest(csr=CSR), metadata=bearer("outage")))
    assert code == grpc.StatusCode.UNAVAILABLE


async def test_impersonation_is_refused_and_not_ignored(create_certificate):
    metadata = {
        "fields": [{"key": "ImpersonatedIdentity", "value": {"string_value": "spiffe://cluster.local/ns/a/sa/b"}}]
    }
    request = IstioCertificateRequest(csr=CSR, metadata=metadata)
    code, details = await refused(create_certificate(request, metadata=bearer("good")))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "ImpersonatedIdentity" in details
