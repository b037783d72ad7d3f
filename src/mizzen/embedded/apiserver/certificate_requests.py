"""CertificateSigningRequests: what may be asked for, who may approve it, and the certificate of one that is approved.

https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.errors import Cause, invalid_value, required
from mizzen.embedded.apiserver.operation import Operation
from mizzen.embedded.apiserver.pki import Authority
from mizzen.embedded.apiserver.rbac import Action
from mizzen.embedded.apiserver.rights import SUPERUSERS, Rights
from mizzen.embedded.apiserver.strategy import timestamp
from mizzen.kube.api import JSON

STORAGE = "certificatesigningrequests.certificates.k8s.io"
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
MIN_SECONDS, MAX_SECONDS = 600, 365 * 24 * 3600
_BACKDATED = timedelta(minutes=5)
_NODES, _NODE = "system:nodes", "system:node:"
_EXTENDED = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}
_BASIC = {"digital signature", "key encipherment"}


class Refused(Exception):
    """The signer's rules do not allow what is asked for; the text says why."""


def parse(spec: JSON) -> x509.CertificateSigningRequest:
    """Raises ValueError."""
    try:
        return x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "", validate=True))
    except (binascii.Error, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None


# -- when it is written --------------------------------------------------------------------------------------------


def problems(obj: JSON) -> Iterator[Cause]:
    """Of a CertificateSigningRequest."""
    spec = obj.get("spec") or {}
    try:
        asked = parse(spec)
        if not asked.is_signature_valid:
            yield invalid_value("spec.request", "", "its signature does not fit its key")
    except ValueError as error:
        yield invalid_value("spec.request", spec.get("request") or "", f"is no PEM-encoded PKCS#10 request: {error}")
    if not spec.get("usages"):
        yield required("spec.usages")
    if spec.get("signerName") == "kubernetes.io/legacy-unknown":
        yield invalid_value("spec.signerName", spec["signerName"], "is not allowed via this API version")
    elif "/" not in (spec.get("signerName") or ""):
        yield invalid_value(
            "spec.signerName", spec.get("signerName") or "", "must be a fully qualified domain and path"
        )
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < MIN_SECONDS:
        yield invalid_value(
            "spec.expirationSeconds", seconds, f"may not specify a duration less than {MIN_SECONDS} seconds"
        )


def check(rights: Rights, operation: Operation) -> None:
    """Who may approve for which signer, and what nobody may ask for. Raises 403."""
    if operation.kind.storage != STORAGE or operation.obj is None:
        return
    spec = operation.obj["spec"]
    if operation.subresource == "approval":
        _require(rights, operation, "approve", spec["signerName"])
    elif operation.subresource == "status" and operation.obj.get("status") != (operation.old or {}).get("status"):
        _require(rights, operation, "sign", spec["signerName"])
    elif operation.verb == "CREATE" and spec["signerName"] == CLIENT and SUPERUSERS in _organizations(parse(spec)):
        why = f"use of {CLIENT} signer with {SUPERUSERS} group is not allowed"
        raise errors.forbidden(operation.kind.resource, operation.name, why)


def _require(rights: Rights, operation: Operation, verb: str, signer: str) -> None:
    domain = signer.partition("/")[0]
    names = (signer, f"{domain}/*")
    asked = (Action(verb, "certificates.k8s.io", "signers", name=name) for name in names)
    if not any(rights.why_allowed(operation.call.user, each) for each in asked):
        why = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise errors.forbidden(operation.kind.resource, operation.name, why)


# -- when it is approved -------------------------------------------------------------------------------------------


def waits_for_us(request: JSON) -> bool:
    """Whether it is approved, not yet answered, and for a signer that is part of the cluster."""
    status = request.get("status") or {}
    conditions = {each["type"] for each in status.get("conditions") or ()}
    ours = request["spec"]["signerName"] in _RULES
    return ours and not status.get("certificate") and "Approved" in conditions and not conditions & {"Denied", "Failed"}


def answer(authority: Authority, request: JSON, now: datetime) -> JSON:
    """The status of a request that waits for us: with its certificate, or with the reason why there is none."""
    status: JSON = dict(request.get("status") or {})
    try:
        certificate = sign(authority, request["spec"], now)
    except Refused as error:
        failed = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": str(error)}
        failed |= {"lastUpdateTime": timestamp(now), "lastTransitionTime": timestamp(now)}
        return {**status, "conditions": [*status["conditions"], failed]}
    return {**status, "certificate": base64.b64encode(certificate.encode()).decode()}


def sign(authority: Authority, spec: JSON, now: datetime) -> str:
    """The certificate in PEM. Raises Refused."""
    asked = parse(spec)
    _RULES[spec["signerName"]](asked, frozenset(spec["usages"]))
    seconds = min(spec.get("expirationSeconds") or MAX_SECONDS, MAX_SECONDS)
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + timedelta(seconds=seconds), authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_EXTENDED[each] for each in spec["usages"] if each in _EXTENDED]), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if _BASIC & set(spec["usages"]):  # with no bit set, the extension makes a certificate that OpenSSL refuses
        builder = builder.add_extension(_key_usage(spec["usages"]), critical=True)
    if names := _names(asked):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_usage(usages: list[str]) -> x509.KeyUsage:
    signature, encipherment = ("digital signature" in usages, "key encipherment" in usages)
    return x509.KeyUsage(signature, False, encipherment, False, False, False, False, False, False)


def _client(asked: x509.CertificateSigningRequest, usages: frozenset[str]) -> None:
    if "client auth" not in usages or usages - _BASIC - {"client auth"}:
        raise Refused(f"usages did not match [client auth] and at most {sorted(_BASIC)}")


def _kubelet_client(asked: x509.CertificateSigningRequest, usages: frozenset[str]) -> None:
    _node(asked)
    if _names(asked):
        raise Refused("no subject alternative names are allowed")
    _exact(usages, "client auth")


def _kubelet_serving(asked: x509.CertificateSigningRequest, usages: frozenset[str]) -> None:
    _node(asked)
    names = _names(asked)
    if not names or not all(isinstance(each, (x509.DNSName, x509.IPAddress)) for each in names):
        raise Refused("at least one DNS or IP subjectAltName is required, and no others are allowed")
    _exact(usages, "server auth")


def _node(asked: x509.CertificateSigningRequest) -> None:
    names = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if _organizations(asked) != [_NODES]:
        raise Refused(f"the organization of the subject must be {_NODES}, and nothing else")
    if not names or not str(names[0].value).startswith(_NODE):
        raise Refused(f"the common name must begin with {_NODE}")


def _exact(usages: frozenset[str], purpose: str) -> None:
    if usages - {"key encipherment"} != {"digital signature", purpose}:
        raise Refused(f"usages did not match [digital signature, {purpose}] and at most key encipherment")


def _organizations(asked: x509.CertificateSigningRequest) -> list[str]:
    return [str(each.value) for each in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def _names(asked: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


_RULES: dict[str, Callable[[x509.CertificateSigningRequest, frozenset[str]], None]] = {
    CLIENT: _client,
    KUBELET_CLIENT: _kubelet_client,
    KUBELET_SERVING: _kubelet_serving,
}
"""Each raises Refused. Other signers' requests wait for whoever signs for them."""
