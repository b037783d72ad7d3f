"""Certificates that travel over the stream which brought the reference.

Those in a gateway's own files, too, as the paths to them: Envoy reads them anew when they are renewed, and refuses one
that is not there alone. Named in a listener, a missing file would take all that is served on the port with it.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/secret.proto
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mizzen.api.networking import ServerTLSSettings
from mizzen.envoy.messages import Secret, serialized
from mizzen.envoy.resources import Resource
from mizzen.scope.model import Credential, TlsServer


def secret(credential: Credential) -> Resource:
    content = _authorities(credential) if credential.roots else _certificate(credential)
    return _resource(credential.name, **content)


def _certificate(credential: Credential) -> dict[str, Any]:
    pair = {"certificate_chain": _inline(credential.certificate), "private_key": _inline(credential.key)}
    return {"tls_certificate": pair}


def _authorities(credential: Credential) -> dict[str, Any]:
    crl = _inline(credential.crl) if credential.crl else None
    return {"validation_context": {"trusted_ca": _inline(credential.roots), "crl": crl}}


def _inline(text: str) -> dict[str, Any]:
    return {"inline_bytes": text.encode()}


def in_files(server: TlsServer) -> Iterator[Resource]:
    """What `certificate_files` and `authorities_in_files` name, of a server that takes it from there."""
    tls = server.settings
    for certificate, key in pairs(tls) if not (server.refused or server.certificates) else ():
        pair = {"certificate_chain": _file(certificate), "private_key": _file(key)}
        yield _resource(certificate_files(certificate, key), tls_certificate=pair)
    if not (server.refused or server.roots) and tls.ca_certificates:
        crl = _file(tls.ca_crl) if tls.ca_crl else None
        context = {"trusted_ca": _file(tls.ca_certificates), "crl": crl}
        yield _resource(authorities_in_files(tls), validation_context=context)


def pairs(tls: ServerTLSSettings) -> tuple[tuple[str, str], ...]:
    """Paths of certificates and their keys; none where the settings name no files."""
    several = tuple((each.server_certificate, each.private_key) for each in tls.tls_certificates)
    return several or (((tls.server_certificate, tls.private_key),) if tls.server_certificate else ())


def certificate_files(certificate: str, key: str) -> str:
    """As Istio calls it."""
    return f"file-cert:{certificate}~{key}"


def authorities_in_files(tls: ServerTLSSettings) -> str:
    return f"file-root:{tls.ca_certificates}" + (f"~{tls.ca_crl}" if tls.ca_crl else "")


def _resource(name: str, **content: Any) -> Resource:
    return Resource.of(name, serialized(Secret(name=name, **content)))


def _file(path: str) -> dict[str, Any]:
    return {"filename": path}
