"""Keys, certificates and tokens of the cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mizzen.embedded.apiserver.authn import certificate_user
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.pki_files import kubeconfig
from mizzen.embedded.apiserver.tokens import API_AUDIENCES, BadToken, TokenIssuer
from mizzen.kube.config import from_kubeconfig


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_files_are_private_and_stay(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path / "pki")
    files = {path.name: path.read_bytes() for path in pki.folder.iterdir()}
    assert {oct(path.stat().st_mode & 0o777) for path in pki.folder.iterdir()} == {"0o600"}
    ensure_pki(tmp_path / "pki")
    assert {path.name: path.read_bytes() for path in pki.folder.iterdir()} == files


def test_a_new_address_renews_only_the_serving_certificate(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path / "pki")
    before = {name: pki.certificate(name).read_bytes() for name in ("serving", "admin", "node")}
    ensure_pki(tmp_path / "pki", ["10.245.0.2"])
    changed = {name for name, old in before.items() if pki.certificate(name).read_bytes() != old}
    assert changed == {"serving"}
    names = load(pki.certificate("serving")).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = {ip_address(each) for each in ("127.0.0.1", "10.96.0.1", "10.245.0.2")}
    assert wanted <= set(names.get_values_for_type(x509.IPAddress))
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_clients_of_this_machine_ask_for_no_compression(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig(ensure_pki(tmp_path / "pki"), "https://127.0.0.1:1"))
    assert from_kubeconfig(path).compression is False


def test_the_admin_is_a_master(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path / "pki")
    certificate = load(pki.certificate("admin"))
    certificate.verify_directly_issued_by(load(pki.ca))
    subject = certificate.subject
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:masters"
    user = certificate_user(((("organizationName", "system:masters"),), (("commonName", "mizzen-admin"),)))
    assert (user.name, user.groups) == ("mizzen-admin", ("system:masters", "system:authenticated"))


def test_tokens_end_and_are_only_ours(tmp_path: Path) -> None:
    issuer = TokenIssuer(ensure_pki(tmp_path / "a").service_account_key)
    stranger = TokenIssuer(ensure_pki(tmp_path / "b").service_account_key)
    bound = {"namespace": "n", "serviceaccount": {"name": "sa", "uid": "u"}}
    now = datetime.now(UTC)
    good = issuer.issue(bound, API_AUDIENCES, now, 600, "id")
    claims = issuer.verify(good, API_AUDIENCES)
    assert (claims.namespace, claims.account, claims.identifier) == ("n", ("sa", "u"), "id")
    for bad in (
        issuer.issue(bound, API_AUDIENCES, now - timedelta(hours=1), 600, "id"),
        stranger.issue(bound, API_AUDIENCES, now, 600, "id"),
        issuer.issue(bound, ["other"], now, 600, "id"),
        good[:-4] + "AAAA",
        "nonsense",
    ):
        with pytest.raises(BadToken):
            issuer.verify(bad, API_AUDIENCES)
