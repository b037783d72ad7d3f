"""The certificate authority as a function: request, identity and time in, certificate out. No clock, no I/O.

The certificates are Istio's in shape (https://istio.io/latest/docs/concepts/security/#pki): the only name in a
workload's leaf is its SPIFFE id, and what the request asks to be called is ignored. Serial numbers are parameters, as
time is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from itertools import pairwise
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mizzen.ca.spiffe import Identity, Workload

BACKDATED = timedelta(minutes=2)
"""How far back a certificate begins, for clocks that are behind."""
ROOT_VALIDITY = timedelta(days=3650)
WORKLOAD_VALIDITY = timedelta(hours=24)
LONGEST_WORKLOAD_VALIDITY = timedelta(days=90)
SERVING_VALIDITY = timedelta(days=365)
SMALLEST_RSA_KEY, LARGEST_RSA_KEY = 2048, 8192
CURVES = {"P256": ec.SECP256R1(), "P384": ec.SECP384R1()}
"""What keys may be made on, by Istio's names (`ECC_CURVE`)."""
_VERIFIABLE_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
"""Envoy takes certificates with keys on these and no others."""
_LONGEST_NAME = 64

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class BadRequest(ValueError):
    """The certificate signing request cannot be honoured; the text says why."""


@dataclass(frozen=True, slots=True)
class KeyKind:
    """Which keys to make: elliptic on a curve of `CURVES`, or RSA of so many bits where `rsa_bits` is not 0."""

    curve: str = "P256"
    rsa_bits: int = 0

    def __post_init__(self) -> None:
        if self.curve not in CURVES:
            raise ValueError(f"{self.curve!r} is no curve that is served: there are {' and '.join(CURVES)}")
        if self.rsa_bits and not SMALLEST_RSA_KEY <= self.rsa_bits <= LARGEST_RSA_KEY:
            raise ValueError(f"an RSA key has {SMALLEST_RSA_KEY} to {LARGEST_RSA_KEY} bits, not {self.rsa_bits}")


DEFAULT_KEY = KeyKind()


@dataclass(frozen=True)
class Root:
    """A certificate that signs, and its key: self-signed (Secret `istio-ca-secret`), or plugged in (`cacerts`)."""

    certificate: x509.Certificate
    key: PrivateKey
    chain: str = ""
    """What follows a leaf in a handshake: the issuers below the roots, as PEM."""
    roots: tuple[x509.Certificate, ...] = ()
    """Plugged in: what peers trust. None: the certificate itself."""

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """What peers are checked against."""
        return self.roots or (self.certificate,)

    @cached_property
    def anchors(self) -> tuple[x509.Certificate, ...]:
        """Those of `trusted` that what is signed here leads to."""
        above = x509.load_pem_x509_certificates(self.chain.encode()) if self.chain else []
        top = above[-1] if above else self.certificate
        return tuple(root for root in self.trusted if _issued(top, root))

    @property
    def key_id(self) -> str:
        """Of the key that signs, in hexadecimal: leaves name it as their authority's."""
        return self.key_identifier.hex()

    @cached_property
    def key_identifier(self) -> bytes:
        return x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()).digest

    @classmethod
    def plugged_in(cls, certificate: bytes, key: bytes, chain: bytes, roots: bytes) -> Root:
        """An intermediate authority under roots of the user's own. Raises ValueError, with the reason."""
        bare = cls.from_pem(certificate, key)
        above = [bare.certificate, *_beyond(bare.certificate, x509.load_pem_x509_certificates(chain))]
        trusted = unique(x509.load_pem_x509_certificates(roots))
        if not any(_issued(above[-1], root) for root in trusted):
            raise ValueError("cert-chain.pem does not lead from ca-cert.pem to any root in root-cert.pem")
        return cls(bare.certificate, bare.key, join(each for each in above if each not in trusted), trusted)

    @classmethod
    def from_pem(cls, certificate_pem: bytes, key_pem: bytes) -> Root:
        """Raises ValueError when the two do not parse, do not belong together or may not sign."""
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError(f"a root key is EC or RSA, not {type(key).__name__}")
        if problem := weakness(key.public_key()):
            raise ValueError(f"ca-key.pem cannot be used: {problem}")
        if key.public_key() != certificate.public_key():
            raise ValueError("ca-key.pem is not the key of ca-cert.pem")
        if not _may_sign(certificate):
            raise ValueError("ca-cert.pem is not a certificate of an authority (basicConstraints CA:TRUE is missing)")
        return cls(certificate, key)

    def to_pem(self) -> tuple[bytes, bytes]:
        """(certificate, key), as `ca-cert.pem` and `ca-key.pem` hold them."""
        return self.certificate.public_bytes(serialization.Encoding.PEM), private_key_pem(self.key)


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _beyond(first: x509.Certificate, chain: list[x509.Certificate]) -> list[x509.Certificate]:
    """What stands above a certificate in a chain that may begin with it. Raises ValueError where a link is missing."""
    above = [each for each in chain if each != first]
    for lower, upper in pairwise([first, *above]):
        if not _issued(lower, upper):
            raise ValueError("cert-chain.pem is not a chain: each certificate must be issued by the next")
    return above


def _issued(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature):
        return lower == upper
    return True


def unique(certificates: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Each once, in the order of their first appearance."""
    return tuple(dict.fromkeys(certificates))


def join(certificates: Iterable[x509.Certificate]) -> str:
    """As one PEM text."""
    return "".join(map(_pem, certificates))


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the whole certificate, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def new_key(kind: KeyKind = DEFAULT_KEY) -> PrivateKey:
    if kind.rsa_bits:
        return rsa.generate_private_key(65537, kind.rsa_bits)
    return ec.generate_private_key(CURVES[kind.curve])


def private_key_pem(key: PrivateKey) -> bytes:
    """PKCS #8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_root(
    trust_domain: str,
    now: datetime,
    serial: int,
    validity: timedelta = ROOT_VALIDITY,
    kind: KeyKind = DEFAULT_KEY,
) -> Root:
    """A self-signed root whose organisation is the trust domain. `now` is aware."""
    key = new_key(kind)
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    unsigned = _certificate(name, name, key.public_key(), (now - BACKDATED, now + validity), serial)
    unsigned = unsigned.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    unsigned = unsigned.add_extension(_key_usage(signs_certificates=True), critical=True)
    return Root(unsigned.sign(key, hashes.SHA256()), key)


def sign_workload(
    root: Root,
    csr_pem: bytes,
    identity: Identity,
    now: datetime,
    validity: timedelta,
    serial: int,
    workload: Workload | None = None,
) -> tuple[str, ...]:
    """The leaf and the issuers below the roots, each as PEM. Raises BadRequest."""
    return with_chain(root, workload_leaf(root, csr_pem, identity, now, validity, serial, workload))


def workload_leaf(
    root: Root,
    csr_pem: bytes,
    identity: Identity,
    now: datetime,
    validity: timedelta,
    serial: int,
    workload: Workload | None = None,
) -> x509.Certificate:
    """Raises BadRequest.

    Names and extensions that the request asks for are ignored: `identity` and `workload` come from whoever
    authenticated the caller. The subject says what runs there, for telemetry; it is nobody's identity. Where it is
    empty, the alternative name is critical (RFC 5280, 4.2.1.6). A leaf never outlives its issuer.
    """
    if not timedelta(0) < validity <= LONGEST_WORKLOAD_VALIDITY:
        raise BadRequest(f"a workload certificate is valid for at most {LONGEST_WORKLOAD_VALIDITY.days} days")
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    return _leaf(root, _subject(workload), _requested_key(csr_pem), now, validity, serial, names)


def with_chain(root: Root, leaf: x509.Certificate) -> tuple[str, ...]:
    """The leaf and the issuers below the roots, each as PEM."""
    return (_pem(leaf), root.chain) if root.chain else (_pem(leaf),)


def _subject(workload: Workload | None) -> x509.Name:
    """Workload, namespace, app and version as CN, O, OU and OU, cut to what X.520 allows. Empty values are left out."""
    if workload is None:
        return x509.Name([])
    parts = (
        (NameOID.COMMON_NAME, workload.name),
        (NameOID.ORGANIZATION_NAME, workload.namespace),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, workload.app),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, workload.version),
    )
    return x509.Name([x509.NameAttribute(name, value[:_LONGEST_NAME]) for name, value in parts if value])


def sign_serving(
    root: Root, names: Iterable[str], now: datetime, serial: int, validity: timedelta = SERVING_VALIDITY
) -> tuple[bytes, bytes]:
    """(key, chain) as PEM for a server known by these DNS names and addresses, such as istiod itself."""
    key = new_key()
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    leaf = _leaf(root, x509.Name([]), key.public_key(), now, validity, serial, alternatives)
    return private_key_pem(key), (_pem(leaf) + root.chain).encode()


def signing_request(key: PrivateKey, identity: str) -> bytes:
    """A PEM request for the key. The name in it is a courtesy: our authority ignores it, others may want it."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=True)
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _requested_key(csr_pem: bytes) -> PublicKey:
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadRequest(f"the certificate signing request does not parse: {error}") from error
    if problem := weakness(key):
        raise BadRequest(f"no certificate for this key: {problem}")
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    if not _signed_by_its_own_key(request):
        raise BadRequest("the certificate signing request is not signed by its own key")
    return key


def _signed_by_its_own_key(request: x509.CertificateSigningRequest) -> bool:
    try:
        return request.is_signature_valid
    except UnsupportedAlgorithm:  # MD5 and the like
        return False


def weakness(key: object) -> str:
    """Why a public key is not good enough for the mesh; "" for one that is."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        known = isinstance(key.curve, _VERIFIABLE_CURVES)
        return "" if known else f"{key.curve.name} is none of the curves P-256, P-384 and P-521"
    if isinstance(key, rsa.RSAPublicKey):
        fits = SMALLEST_RSA_KEY <= key.key_size <= LARGEST_RSA_KEY
        return "" if fits else f"an RSA key has {SMALLEST_RSA_KEY} to {LARGEST_RSA_KEY} bits, this one {key.key_size}"
    return "it must be elliptic or RSA"


def _leaf(
    root: Root,
    subject: x509.Name,
    key: PublicKey,
    now: datetime,
    validity: timedelta,
    serial: int,
    names: x509.SubjectAlternativeName,
) -> x509.Certificate:
    until = min(now + validity, root.certificate.not_valid_after_utc)
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer_key = x509.AuthorityKeyIdentifier(root.key_identifier, None, None)
    unsigned = _certificate(subject, root.certificate.subject, key, (now - BACKDATED, until), serial)
    unsigned = unsigned.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    unsigned = unsigned.add_extension(_key_usage(signs_certificates=False), critical=True)
    unsigned = unsigned.add_extension(uses, critical=False)
    unsigned = unsigned.add_extension(issuer_key, critical=False)
    return unsigned.add_extension(names, critical=not list(subject)).sign(root.key, hashes.SHA256())


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    valid: tuple[datetime, datetime],
    serial: int,
) -> x509.CertificateBuilder:
    unsigned = x509.CertificateBuilder(issuer, subject, key, serial, valid[0], valid[1])
    return unsigned.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Istio's: a root signs certificates and nothing else, a leaf signs and enciphers keys."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
