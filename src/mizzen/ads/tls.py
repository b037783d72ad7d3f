"""TLS for servers whose certificates live in memory and change while they serve."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import TypeAlias

Pem: TypeAlias = tuple[bytes, bytes, bytes]
"""Private key, certificate chain and client roots."""


def server_tls(current: Callable[[], Pem]) -> ssl.SSLContext:
    """TLS with a certificate that never touches a file system. `current` is as for `mutual_tls`."""
    return _renewed(current, _showing)


def mutual_tls(current: Callable[[], Pem]) -> ssl.SSLContext:
    """HTTP/2 over TLS that demands a client certificate.

    `current()` is asked at each handshake and must answer with the same tuple for as long as nothing changed.
    """
    return _renewed(current, _demanding)


def _renewed(current: Callable[[], Pem], made: Callable[[Pem], ssl.SSLContext]) -> ssl.SSLContext:
    shown = current()
    newest = made(shown)

    def show(connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        nonlocal shown, newest
        if current() is not shown:
            shown = current()
            newest = made(shown)
        connection.context = newest

    first = made(shown)
    first.sni_callback = show  # called without SNI, too
    return first


def _showing(pem: Pem) -> ssl.SSLContext:
    key, chain, _ = pem
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    memory = os.memfd_create("certificate")
    try:
        os.write(memory, key + chain)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return context


def _demanding(pem: Pem) -> ssl.SSLContext:
    context = _showing(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=pem[2].decode())
    context.set_alpn_protocols(["h2"])
    context.num_tickets = 0  # a resumed session would go on with the certificate of the first
    context.options |= ssl.OP_NO_TICKET
    return context


def peer_uris(certificate: dict[str, object] | None) -> tuple[str, ...]:
    """The URI subject alternative names of a peer's certificate, as `getpeercert` tells it."""
    names = (certificate or {}).get("subjectAltName", ())
    return tuple(value for kind, value in names if kind == "URI")  # type: ignore[attr-defined]  # pairs of strings
