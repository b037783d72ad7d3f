"""Certificates that travel over the stream which brought the reference.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/secret.proto
"""

from __future__ import annotations

from typing import Any

from mizzen.envoy.messages import Secret, serialized
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Credential


def secret(credential: Credential) -> Resource:
    content = _authorities(credential) if credential.roots else _certificate(credential)
    return Resource.of(credential.name, serialized(Secret(name=credential.name, **content)))


def _certificate(credential: Credential) -> dict[str, Any]:
    pair = {"certificate_chain": _inline(credential.certificate), "private_key": _inline(credential.key)}
    return {"tls_certificate": pair}


def _authorities(credential: Credential) -> dict[str, Any]:
    crl = _inline(credential.crl) if credential.crl else None
    return {"validation_context": {"trusted_ca": _inline(credential.roots), "crl": crl}}


def _inline(text: str) -> dict[str, Any]:
    return {"inline_bytes": text.encode()}
