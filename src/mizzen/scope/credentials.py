"""Certificates for proxies out of Secrets of the Pod's own namespace.

https://istio.io/latest/docs/tasks/traffic-management/ingress/secure-ingress/#key-formats
A Secret that would make Envoy refuse its listener is found here, before anything refers to it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mizzen.api.core import ConfigMap, Secret
from mizzen.api.networking import ServerTLSSettings
from mizzen.scope.model import Credential
from mizzen.scope.snapshot import SecretReader, Snapshot, by_namespace

CA_SUFFIX = "-cacert"
CONFIG_MAP = "configmap://"
KEYS = frozenset({"tls.crt", "tls.key", "ca.crt", "ca.crl", "cert", "key", "cacert", "crl"})
"""The entries of a Secret that are ever looked at."""
_VERIFYING = ("MUTUAL", "OPTIONAL_MUTUAL")


class Unusable(ValueError):
    """There is no such credential. `field` is where the settings ask for it, the text says what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


class Secrets:
    """The Secrets of one namespace for a service account there, which gets keys only if it may list them, as in Istio.

    Authorities are no secret. `reader` is None while the API server has not been asked about the account.
    """

    def __init__(self, namespace: str, account: str, reader: SecretReader | None, *secrets: Secret) -> None:
        self.namespace = namespace
        self._account = account
        self._reader = reader
        self._by_name: Mapping[str, Secret] = {secret.name: secret for secret in secrets}

    def certificate(self, field: str, name: str) -> Credential:
        """Raises Unusable."""
        self._require_right(field)
        secret = self._by_name.get(name)
        if secret is None:
            raise Unusable(
                field,
                f"Secret {name} is not in namespace {self.namespace}, where the proxy's Pods run; one in another "
                f"namespace does not count. Make it: kubectl create secret tls {name} -n {self.namespace} "
                "--cert=FILE --key=FILE",
            )
        certificate, key = _entry(secret, "tls.crt", "cert"), _entry(secret, "tls.key", "key")
        if wrong := _wrong_pair(certificate, key):
            raise Unusable(field, f"Secret {name} in namespace {self.namespace} cannot be used: {wrong}")
        return Credential(name=f"kubernetes://{name}", certificate=certificate, key=key)

    def _require_right(self, field: str) -> None:
        who = f"ServiceAccount {self._account}"
        if self._reader is None:
            raise Unusable(field, f"Whether {who} may list Secrets in namespace {self.namespace} is not known yet")
        if not self._reader.allowed:
            raise Unusable(
                field,
                f"{who} may not list Secrets in namespace {self.namespace}, so its Pods do not get one; a Role and "
                "RoleBinding allow it",
            )

    def roots(self, field: str, name: str) -> Credential:
        """Authorities for `name`: of the Secret `NAME-cacert`, else of the Secret itself. Raises Unusable."""
        own, beside = self._by_name.get(name), self._by_name.get(name + CA_SUFFIX)
        secret = beside or own
        if secret is None:
            raise Unusable(field, f"there is neither a Secret {name}{CA_SUFFIX} nor {name} in {self.namespace}")
        found = _entry(secret, "ca.crt", "cacert")
        if wrong := _wrong_certificates(found):
            entry = "ca.crt" if secret.type == "kubernetes.io/tls" else "ca.crt or cacert"
            raise Unusable(field, f"Secret {secret.name} in {self.namespace} holds no authority under {entry}: {wrong}")
        return Credential(name=f"kubernetes://{name}{CA_SUFFIX}", roots=found, crl=_entry(secret, "ca.crl", "crl"))


def secrets_for(snapshot: Snapshot, namespace: str, account: str) -> Secrets:
    """The same object as before when neither a Secret of the namespace nor the account's right changed."""
    own = snapshot.table(Secret).grouped(by_namespace).get(namespace, ())
    return snapshot.memo(Secrets, namespace, account, snapshot.get(SecretReader, namespace, account), *own)


def credentials(tls: ServerTLSSettings, secrets: Secrets) -> tuple[tuple[Credential, ...], Credential | None]:
    """What a server's settings take from Secrets: its certificates, and whom it checks clients against.

    Both are empty for files and for ISTIO_MUTUAL. Raises Unusable.
    """
    names = tls.credential_names or ((tls.credential_name,) if tls.credential_name else ())
    if tls.mode == "ISTIO_MUTUAL" or not names:
        return (), None
    field = "credentialNames" if tls.credential_names else "credentialName"
    found = tuple(secrets.certificate(field, bare(name)) for name in names)
    if tls.mode not in _VERIFYING:
        return found, None
    if tls.ca_cert_credential_name:
        return found, secrets.roots("caCertCredentialName", bare(tls.ca_cert_credential_name))
    return found, secrets.roots(field, bare(names[0]))


def wanted_secrets(tls: ServerTLSSettings) -> Iterable[str]:
    """Names of the Secrets that settings may need."""
    names = (tls.credential_name, *tls.credential_names, tls.ca_cert_credential_name)
    for name in filter(None, map(bare, names)):
        yield from (name, name + CA_SUFFIX)


def bare(name: str) -> str:
    """Without the word for where it is; Secrets alone are meant."""
    return name.removeprefix("kubernetes://")


def config_map(name: str) -> tuple[str, str] | None:
    """Namespace and name of the ConfigMap that a credentialName means; None when it means a Secret."""
    if not name.startswith(CONFIG_MAP):
        return None
    namespace, _, found = name.removeprefix(CONFIG_MAP).partition("/")
    return namespace, found


def public_roots(field: str, name: str, found: ConfigMap | None) -> Credential:
    """Authorities out of the ConfigMap that `name` means: anybody may have them. Raises Unusable."""
    where = name.removeprefix(CONFIG_MAP)
    if found is None:
        raise Unusable(field, f"ConfigMap {where} is not there, or has not been read yet")
    roots = found.data.get("cacert") or found.data.get("ca.crt") or ""
    if wrong := _wrong_certificates(roots):
        raise Unusable(field, f"ConfigMap {where} holds no authority under cacert or ca.crt: {wrong}")
    return Credential(name=name, roots=roots, crl=found.data.get("crl") or found.data.get("ca.crl") or "")


def _entry(secret: Secret, *keys: str) -> str:
    """Decoded; "" when there is none of these, or no text in it."""
    found = next((secret.data[key] for key in keys if secret.data.get(key)), "")
    try:
        return base64.b64decode(found, validate=True).decode()
    except ValueError:
        return ""


def _wrong_pair(certificate: str, key: str) -> str:
    if wrong := _wrong_certificates(certificate):
        return f"no certificate under tls.crt or cert: {wrong}"
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):
        return "no private key that can be read under tls.key or key"
    chain = x509.load_pem_x509_certificates(certificate.encode())
    return "" if private.public_key() == chain[0].public_key() else "its key is not the key of its certificate"


def _wrong_certificates(text: str) -> str:
    try:
        return "" if x509.load_pem_x509_certificates(text.encode()) else "nothing there"
    except ValueError:
        return "no PEM certificate there"
