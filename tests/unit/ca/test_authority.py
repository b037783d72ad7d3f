import functools
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mizzen.ca.authority import (
    BadRequest,
    KeyKind,
    Root,
    join,
    new_key,
    new_root,
    sign_serving,
    sign_workload,
    signing_request,
)
from mizzen.ca.spiffe import Identity, Workload

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WEB = Identity("cluster.local", "default", "web")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def root():
    return new_root("cluster.local", NOW, serial=1)


def leaf_of(chain):
    return x509.load_pem_x509_certificate(chain[0].encode())


def signed(root, validity=DAY, identity=WEB, now=NOW):
    return sign_workload(root, signing_request(new_key(), str(identity)), identity, now, validity, serial=7)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def test_the_root_signs_and_is_not_part_of_the_chain(root):
    (leaf,) = signed(root)
    x509.load_pem_x509_certificate(leaf.encode()).verify_directly_issued_by(root.certificate)
    authority = extension(leaf_of([leaf]), x509.AuthorityKeyIdentifier).value.key_identifier
    assert authority.hex() == root.key_id
    assert root.anchors == root.trusted == (root.certificate,)


def test_the_spiffe_id_is_the_only_name_and_critical_since_the_subject_is_empty(root):
    leaf = leaf_of(signed(root))
    names = extension(leaf, x509.SubjectAlternativeName)
    assert [name.value for name in names.value] == ["spiffe://cluster.local/ns/default/sa/web"]
    assert names.critical
    assert not list(leaf.subject)


def test_names_that_the_request_asks_for_are_ignored(root):
    key = new_key()
    asked = x509.SubjectAlternativeName([x509.DNSName("istiod.istio-system.svc")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(asked, critical=False)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    leaf = leaf_of(sign_workload(root, pem, WEB, NOW, DAY, serial=7))
    assert [name.value for name in extension(leaf, x509.SubjectAlternativeName).value] == [str(WEB)]
    assert not list(leaf.subject)
    assert leaf.public_key() == key.public_key()


def test_a_leaf_serves_and_calls_but_never_signs(root):
    leaf = leaf_of(signed(root))
    uses = set(extension(leaf, x509.ExtendedKeyUsage).value)
    assert uses == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    usage = extension(leaf, x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    assert extension(leaf, x509.BasicConstraints).value.ca is False


def test_a_root_signs_certificates(root):
    assert extension(root.certificate, x509.BasicConstraints).value.ca
    assert extension(root.certificate, x509.KeyUsage).value.key_cert_sign
    assert root.certificate.subject.rfc4514_string() == "O=cluster.local"
    assert root.certificate.not_valid_after_utc == NOW + timedelta(days=3650)


def test_certificates_begin_two_minutes_ago(root):
    leaf = leaf_of(signed(root))
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=2)
    assert leaf.not_valid_after_utc == NOW + DAY


def test_a_leaf_does_not_outlive_its_issuer():
    short = new_root("cluster.local", NOW, serial=1, validity=timedelta(hours=1))
    assert leaf_of(signed(short)).not_valid_after_utc == NOW + timedelta(hours=1)


@pytest.mark.parametrize("validity", [timedelta(0), -DAY, timedelta(days=91)])
def test_a_life_that_is_too_long_or_none_is_refused(root, validity):
    with pytest.raises(BadRequest):
        signed(root, validity)


def test_what_is_not_a_request_is_refused(root):
    with pytest.raises(BadRequest, match="does not parse"):
        sign_workload(root, b"hello", WEB, NOW, DAY, serial=7)


def test_a_tampered_request_is_refused(root):
    request = x509.load_pem_x509_csr(signing_request(new_key(), str(WEB)))
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    tampered = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(BadRequest, match="not signed by its own key"):
        sign_workload(root, tampered, WEB, NOW, DAY, serial=7)


def request(key):
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    unsigned = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return unsigned.sign(key, digest).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (rsa.generate_private_key(65537, 1024), "2048 to 8192 bits, this one 1024"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1 is none of the curves"),
        (ec.generate_private_key(ec.SECP224R1()), "secp224r1 is none of the curves"),
        (ed25519.Ed25519PrivateKey.generate(), "must be elliptic or RSA"),
    ],
    ids=["rsa-1024", "secp256k1", "p224", "ed25519"],
)
def test_a_key_that_is_weak_or_that_envoy_would_refuse_gets_no_certificate(root, key, reason):
    with pytest.raises(BadRequest, match=reason):
        sign_workload(root, request(key), WEB, NOW, DAY, serial=7)


@functools.cache
def root_of(kind):
    return new_root("cluster.local", NOW, serial=1, kind=kind)


key_of = functools.cache(new_key)


@pytest.mark.parametrize("of_root", [KeyKind(), KeyKind("P384"), KeyKind(rsa_bits=2048)])
@pytest.mark.parametrize("of_workload", [KeyKind(), KeyKind("P384"), KeyKind(rsa_bits=2048)])
def test_elliptic_and_rsa_keys_sign_each_other(of_root, of_workload):
    root, key = root_of(of_root), key_of(of_workload)
    leaf = leaf_of(sign_workload(Root.from_pem(*root.to_pem()), request(key), WEB, NOW, DAY, serial=7))
    leaf.verify_directly_issued_by(root.certificate)
    assert leaf.public_key() == key.public_key()


@pytest.mark.parametrize(("curve", "bits"), [("P224", 0), ("", 0), ("P256", 1024), ("P256", 1 << 20)])
def test_keys_of_another_kind_are_not_made(curve, bits):
    with pytest.raises(ValueError, match=r"curve|bits"):
        KeyKind(curve, bits)


def test_a_root_survives_the_way_through_its_secret(root):
    again = Root.from_pem(*root.to_pem())
    assert again.certificate == root.certificate
    leaf_of(signed(again)).verify_directly_issued_by(root.certificate)


def test_a_key_that_belongs_to_another_root_is_refused(root):
    other = new_root("cluster.local", NOW, serial=2)
    with pytest.raises(ValueError, match="not the key"):
        Root.from_pem(root.to_pem()[0], other.to_pem()[1])


def test_a_serving_certificate_names_hosts_and_addresses(root):
    _, chain = sign_serving(root, ["istiod.istio-system.svc", "10.96.0.7"], NOW, serial=3)
    (leaf,) = x509.load_pem_x509_certificates(chain)
    names = extension(leaf, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.96.0.7"]
    leaf.verify_directly_issued_by(root.certificate)


def test_the_subject_says_what_runs_there_and_is_cut_to_what_it_may_hold(root):
    workload = Workload("reviews-v1" + "x" * 80, "default", "reviews", "")
    leaf = leaf_of(sign_workload(root, signing_request(new_key(), "x"), WEB, NOW, DAY, 7, workload))
    found = {each.oid: each.value for each in leaf.subject}
    assert found[NameOID.COMMON_NAME].startswith("reviews-v1x") and len(found[NameOID.COMMON_NAME]) == 64
    assert (found[NameOID.ORGANIZATION_NAME], found[NameOID.ORGANIZATIONAL_UNIT_NAME]) == ("default", "reviews")
    names = extension(leaf, x509.SubjectAlternativeName)
    assert [name.value for name in names.value] == [str(WEB)] and not names.critical


def intermediate(root):
    """Certificate and key as PEM, signed by a root."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster one")])
    unsigned = x509.CertificateBuilder(root.certificate.subject, name, key.public_key(), 5, NOW - DAY, NOW + 100 * DAY)
    signed = unsigned.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        root.key, hashes.SHA256()
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return signed.public_bytes(serialization.Encoding.PEM), pem


@pytest.mark.parametrize("with_root", [False, True])
def test_a_plugged_in_authority_signs_under_the_users_root(root, with_root):
    certificate, key = intermediate(root)
    top = root.to_pem()[0]
    plugged = Root.plugged_in(certificate, key, certificate + (top if with_root else b""), top)
    leaf, *above = x509.load_pem_x509_certificates("".join(signed(plugged)).encode())
    assert [each.public_bytes(serialization.Encoding.PEM) for each in above] == [certificate]
    leaf.verify_directly_issued_by(above[0])
    assert join(plugged.trusted) == top.decode()
    _, chain = sign_serving(plugged, ["istiod"], NOW, 9)
    assert chain.endswith(certificate)


def test_of_several_roots_one_is_the_anchor(root):
    certificate, key = intermediate(root)
    other = new_root("other", NOW, serial=2).to_pem()[0]
    plugged = Root.plugged_in(certificate, key, certificate, other + root.to_pem()[0] + other)
    assert (len(plugged.trusted), plugged.anchors) == (2, (root.certificate,))


def test_a_root_of_the_users_own_may_sign_itself(root):
    certificate, key = root.to_pem()
    plugged = Root.plugged_in(certificate, key, certificate, certificate)
    assert (plugged.chain, plugged.anchors) == ("", (root.certificate,))


def test_a_leaf_is_no_authority(root):
    key, chain = sign_serving(root, ["istiod"], NOW, 9)
    with pytest.raises(ValueError, match="CA:TRUE"):
        Root.from_pem(chain, key)


def test_a_chain_that_does_not_reach_the_root_is_refused(root):
    certificate, key = intermediate(root)
    stranger = new_root("other", NOW, serial=2).to_pem()[0]
    with pytest.raises(ValueError, match="does not lead"):
        Root.plugged_in(certificate, key, certificate, stranger)
    with pytest.raises(ValueError, match="issued by the next"):
        Root.plugged_in(certificate, key, certificate + stranger, stranger)
