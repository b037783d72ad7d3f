"""CertificateSigningRequests: the signers' rules, and the certificates that come of them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mizzen.embedded.apiserver import certificate_requests as requests
from mizzen.embedded.apiserver.pki import Authority, ensure_pki, read_authority
from mizzen.kube.api import JSON

NOW = datetime.now(UTC)
CLIENT = ["digital signature", "key encipherment", "client auth"]
SERVER = ["digital signature", "server auth"]
ADDRESS = x509.IPAddress(ip_address("10.0.0.1"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return read_authority(ensure_pki(tmp_path_factory.mktemp("cluster") / "pki"))


def spec(
    signer: str, usages: list[str], name: str = "jane", group: str = "dev", *names: x509.GeneralName, **rest: object
) -> JSON:
    attributes = [(NameOID.ORGANIZATION_NAME, group), (NameOID.COMMON_NAME, name)]
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()
    return {"request": pem, "signerName": signer, "usages": usages, **rest}


def test_a_client_certificate_says_what_was_asked_for(authority: Authority) -> None:
    pem = requests.sign(authority, spec(requests.CLIENT, CLIENT, expirationSeconds=3600), NOW)
    made = x509.load_pem_x509_certificate(pem.encode())
    made.verify_directly_issued_by(authority.certificate)
    assert made.subject.rfc4514_string() == "CN=jane,O=dev"
    assert made.not_valid_after_utc - NOW < timedelta(seconds=3601)
    purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [each._name for each in purposes] == ["clientAuth"]
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_a_key_usage_that_allows_nothing_is_left_out(authority: Authority) -> None:
    """OpenSSL takes no certificate that has one."""
    pem = requests.sign(authority, spec(requests.CLIENT, ["client auth"]), NOW)
    with pytest.raises(x509.ExtensionNotFound):
        x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.KeyUsage)


def test_kubelets_have_certificates(authority: Authority) -> None:
    node = ("system:node:n", "system:nodes")
    requests.sign(authority, spec(requests.KUBELET_CLIENT, CLIENT, *node), NOW)
    pem = requests.sign(authority, spec(requests.KUBELET_SERVING, SERVER, *node, ADDRESS), NOW)
    names = x509.load_pem_x509_certificate(pem.encode()).extensions
    assert list(names.get_extension_for_class(x509.SubjectAlternativeName).value) == [ADDRESS]


@pytest.mark.parametrize(
    "asked",
    [
        (requests.CLIENT, SERVER),
        (requests.CLIENT, ["client auth", "cert sign"]),
        (requests.KUBELET_CLIENT, CLIENT, "jane", "system:nodes"),
        (requests.KUBELET_CLIENT, CLIENT, "system:node:n", "dev"),
        (requests.KUBELET_CLIENT, CLIENT, "system:node:n", "system:nodes", ADDRESS),
        (requests.KUBELET_SERVING, SERVER, "system:node:n", "system:nodes"),
        (requests.KUBELET_SERVING, CLIENT, "system:node:n", "system:nodes", ADDRESS),
    ],
)
def test_what_a_signer_refuses(authority: Authority, asked: tuple[str, list[str]]) -> None:
    request = {"spec": spec(*asked), "status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    assert requests.waits_for_us(request)
    status = requests.answer(authority, request, NOW)
    assert "certificate" not in status and status["conditions"][-1]["reason"] == "SignerValidationFailure"
    assert not requests.waits_for_us({**request, "status": status})


def test_what_is_no_request() -> None:
    assert not list(requests.problems({"spec": spec("example.com/s", CLIENT)}))
    wrong = {"request": "bm8=", "signerName": "mine", "usages": [], "expirationSeconds": 5}
    fields = [cause.field for cause in requests.problems({"spec": wrong})]
    assert fields == ["spec.request", "spec.usages", "spec.signerName", "spec.expirationSeconds"]
