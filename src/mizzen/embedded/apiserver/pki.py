"""The cluster's keys and certificates are made: once, and anew before they expire."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mizzen.embedded.apiserver.pki_files import Pki

CA_DAYS = 3650
LEAF_DAYS = 365
RENEW_DAYS = 30
"""Leaves with less left than this are made anew at start."""
CLUSTER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
CLUSTER_ADDRESSES = ("127.0.0.1", "::1", "10.96.0.1")


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs for the cluster."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class _Leaf:
    file: str
    common_name: str
    organization: str = ""
    names: tuple[x509.GeneralName, ...] = ()


def ensure_pki(folder: Path, addresses: Sequence[str] = ()) -> Pki:
    """Make what is missing, expires soon, or does not cover `addresses`; keep the rest."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki = Pki(folder)
    authority = _ensure_authority(pki)
    for leaf in _leaves(addresses):
        if not _usable(pki.certificate(leaf.file), leaf, authority):
            _issue(pki, leaf, authority)
    if not pki.service_account_key.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write(pki.service_account_key, _key_pem(key))
        _write(folder / "sa.pub", _public_pem(key))
    return pki


def _leaves(addresses: Sequence[str]) -> list[_Leaf]:
    served = dict.fromkeys((*CLUSTER_ADDRESSES, *addresses))
    names = (*map(x509.DNSName, CLUSTER_NAMES), *map(_general_name, served))
    return [
        _Leaf("serving", "kube-apiserver", names=names),
        _Leaf("admin", "mizzen-admin", "system:masters"),
        _Leaf("node", "system:node:mizzen", "system:nodes"),
    ]


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _ensure_authority(pki: Pki) -> Authority:
    key_path = pki.folder / "ca.key"
    if not (pki.ca.exists() and key_path.exists()):
        _make_authority(pki, key_path)
    return read_authority(pki)


def read_authority(pki: Pki) -> Authority:
    """Raises OSError and ValueError."""
    key = serialization.load_pem_private_key((pki.folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate(pki.ca.read_bytes()), key)


def _make_authority(pki: Pki, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mizzen-cluster-ca")])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        _certificate(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _key_pem(key))
    _write(pki.ca, certificate.public_bytes(serialization.Encoding.PEM))


def _issue(pki: Pki, leaf: _Leaf, authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    if leaf.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization))
    usage = ExtendedKeyUsageOID.SERVER_AUTH if leaf.names else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _certificate(x509.Name(attributes), authority.certificate.subject, key.public_key(), LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    if leaf.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(leaf.names), critical=False)
    _write(pki.key(leaf.file), _key_pem(key))
    certificate = builder.sign(authority.key, hashes.SHA256())
    _write(pki.certificate(leaf.file), certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
    )


def _usable(path: Path, leaf: _Leaf, authority: Authority) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    if certificate.not_valid_after_utc < datetime.now(UTC) + timedelta(days=RENEW_DAYS):
        return False
    if certificate.issuer != authority.certificate.subject:
        return False
    if not leaf.names:
        return True
    covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(leaf.names) <= set(covered)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    private = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())


def _public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, public)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
