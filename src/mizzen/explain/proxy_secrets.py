"""Certificates that an Envoy holds, as rows with the columns of `istioctl proxy-config secret`.

Envoy redacts private keys in its dump; nothing here would show them if it did not.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypeAlias

from cryptography import x509

from mizzen.api.base import Model
from mizzen.explain.proxy_config import section

JSON: TypeAlias = dict[str, Any]
_STATES = {"ACTIVE": ("dynamic_active_secrets", "static_secrets"), "WARMING": ("dynamic_warming_secrets",)}


class SecretRow(Model):
    name: str
    type: str
    """`Cert Chain` or `CA`."""
    status: str
    """ACTIVE or WARMING: asked for and not there yet."""
    valid: bool | None = None
    """None while nothing is there."""
    serial_number: str = ""
    not_after: str = ""
    not_before: str = ""
    subject: str = ""
    """What a certificate says that runs there."""
    identity: str = ""
    """The first name in it: a SPIFFE id, or a host."""


def secrets(dump: JSON, now: datetime) -> list[SecretRow]:
    """One row per certificate; of a chain the leaf alone counts. `now` is aware."""
    found = section(dump, "Secrets")
    entries = ((state, one) for state, keys in _STATES.items() for key in keys for one in found.get(key, ()))
    rows = [row for state, entry in entries for row in _rows(state, entry, now)]
    return sorted(rows, key=lambda row: (row.name, row.serial_number))


def _rows(state: str, entry: JSON, now: datetime) -> Iterator[SecretRow]:
    secret = entry.get("secret", {})
    kind, source = _content(secret)
    certificates = _certificates(source)
    if not certificates:
        yield SecretRow(name=entry.get("name", ""), type=kind, status=state)
    for certificate in certificates[:1] if kind == "Cert Chain" else certificates:
        yield SecretRow(
            name=entry.get("name", ""),
            type=kind,
            status=state,
            valid=certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc,
            serial_number=f"{certificate.serial_number:x}",
            not_after=certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            not_before=certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            subject=certificate.subject.rfc4514_string(),
            identity=_first_name(certificate),
        )


def _content(secret: JSON) -> tuple[str, JSON]:
    if "validation_context" in secret:
        return "CA", secret["validation_context"].get("trusted_ca", {})
    return "Cert Chain", secret.get("tls_certificate", {}).get("certificate_chain", {})


def _certificates(source: JSON) -> list[x509.Certificate]:
    if text := source.get("inline_string"):
        return x509.load_pem_x509_certificates(text.encode())
    if encoded := source.get("inline_bytes"):
        return x509.load_pem_x509_certificates(base64.b64decode(encoded))
    return []


def _first_name(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next((str(name.value) for name in names), "")
