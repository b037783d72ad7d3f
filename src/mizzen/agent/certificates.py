"""Getting and renewing the Pod's certificate: key and request made here, the chain signed by istiod."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from mizzen.agent.relay import relay
from mizzen.agent.rotation import renew_at
from mizzen.agent.sds import Secrets
from mizzen.agent.sds_messages import key_and_chain, trusted_roots
from mizzen.agent.settings import Paths, Settings
from mizzen.ca.authority import fingerprint, join, new_key, private_key_pem, signing_request, unique
from mizzen.ca.messages import CA_METHOD, TRUSTED_ROOTS, IstioCertificateRequest, IstioCertificateResponse
from mizzen.envoy.resources import Resource

log = logging.getLogger(__name__)

_FIRST_RETRY = 0.1
_LONGEST_RETRY = 5.0
_CALL_TIMEOUT = 10.0
_SHORTEST_LIFE = 0.2
"""Seconds: near the root's own end, certificates get ever shorter."""
_LOOK_EVERY = 1.0
"""Seconds between looks at the files that the node keeps up to date. Agents look at different moments, and so their
requests after a change of the roots are spread."""
_ASK_AGAIN, _ATTEMPTS = 1.0, 5
"""When istiod published that another authority signs, and the replica that answered had not heard of it."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key, its chain (leaf first, below the roots) and the roots that peers are checked against: all PEM."""

    key: bytes
    chain: bytes
    roots: bytes

    def secrets(self) -> tuple[Resource, Resource]:
        """As Envoy takes them: `default` and `ROOTCA`."""
        return (
            Resource.of("default", key_and_chain("default", self.key, self.chain)),
            Resource.of("ROOTCA", trusted_roots("ROOTCA", self.roots)),
        )

    @property
    def not_after(self) -> datetime:
        return x509.load_pem_x509_certificate(self.chain).not_valid_after_utc


@dataclass(frozen=True, slots=True)
class Told:
    """What the node tells by way of files, and what a certificate follows from: the roots, and the Pod's labels."""

    roots: bytes
    labels: bytes

    @classmethod
    def read(cls, paths: Paths) -> Told:
        return cls(_content(paths.root_certificate), _content(paths.labels))


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # not there yet, or a Pod without the downward API
        return b""


async def keep_certificate(settings: Settings, secrets: Secrets) -> None:
    """Publishes a certificate and its successors, for ever. While istiod is away, the one in hand goes on serving.

    New roots are trusted at once. A certificate follows: it tells istiod that this Pod trusts them, and it may come
    from another authority. New labels are asked for too, since a certificate says what the Pod is.
    """
    held: KeyPair | None = None
    told, attempts = Told.read(settings.paths), 0
    while True:
        held = await _fetch_until_it_works(settings)
        secrets.publish(held.secrets())
        now = datetime.now(UTC)
        due = renew_at(now, held.not_after, random.uniform(-1, 1))  # noqa: S311 - spreads load, hides nothing
        attempts = 0 if signed_under_the_first(held, told.roots) else attempts + 1
        if 0 < attempts <= _ATTEMPTS:
            due = min(due, now + timedelta(seconds=_ASK_AGAIN))
        log.info("certificate for %s received; the next one is due at %s", settings.identity, due.isoformat())
        before, told = told, await _until(due, told, settings.paths)
        if told.roots != before.roots:
            attempts = 0
            held = replace(held, roots=together(told.roots, held.roots))
            secrets.publish(held.secrets())


async def _until(due: datetime, told: Told, paths: Paths) -> Told:
    """Waits for the moment or, if that comes first, for other files. Returns what they say."""
    while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
        await asyncio.sleep(min(max(left, _SHORTEST_LIFE), _LOOK_EVERY))
        newest = Told.read(paths)
        if newest != told and newest.roots:
            log.info("roots or labels of this Pod have changed")
            return newest
    return told


def signed_under_the_first(held: KeyPair, roots: bytes) -> bool:
    """Whether the chain leads to the first root: istiod publishes first the one of who signs."""
    if not roots:
        return True
    top = x509.load_pem_x509_certificates(held.chain)[-1]
    try:
        top.verify_directly_issued_by(x509.load_pem_x509_certificate(roots))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def together(*roots: bytes) -> bytes:
    """Each root once, as PEM."""
    return join(unique(one for pem in roots if pem.strip() for one in x509.load_pem_x509_certificates(pem))).encode()


async def _fetch_until_it_works(settings: Settings) -> KeyPair:
    delay = _FIRST_RETRY
    while True:
        try:
            return await fetch_certificate(settings)
        except (grpc.aio.AioRpcError, OSError) as error:
            log.warning("no certificate from %s yet: %s", settings.ca_address, reason(error))
        await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311
        delay = min(delay * 2, _LONGEST_RETRY)


def reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)


async def fetch_certificate(settings: Settings) -> KeyPair:
    """One call to the authority, with token and roots as they are now: the node renews them.

    Raises AioRpcError, OSError.
    """
    key = new_key(settings.key)
    token = await asyncio.to_thread(Path(settings.paths.token).read_text)
    roots = await asyncio.to_thread(Path(settings.paths.root_certificate).read_bytes)
    request = IstioCertificateRequest(
        csr=signing_request(key, settings.identity).decode(),
        validity_duration=int(settings.certificate_validity.total_seconds()),
        metadata={"fields": [{"key": TRUSTED_ROOTS, "value": {"string_value": ",".join(_fingerprints(roots))}}]},
    )
    async with _channel(settings, roots) as channel:
        call = channel.unary_unary(
            CA_METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=IstioCertificateResponse.FromString,
        )
        authorization = (("authorization", f"Bearer {token.strip()}"),)
        response = await call(request, metadata=authorization, timeout=_CALL_TIMEOUT)
    return _pair(private_key_pem(key), list(response.cert_chain), roots)


def _pair(key: bytes, answer: list[str], roots: bytes) -> KeyPair:
    """Leaf, issuers and, in the last element, roots: what Istio's CAs answer. The roots of our own file count too."""
    *chain, trusted = answer if len(answer) > 1 else (*answer, "")
    return KeyPair(key, "".join(chain).encode(), together(roots, trusted.encode()))


def _fingerprints(roots: bytes) -> list[str]:
    return [fingerprint(one) for one in x509.load_pem_x509_certificates(roots)]


@asynccontextmanager
async def _channel(settings: Settings, roots: bytes) -> AsyncIterator[grpc.aio.Channel]:
    """Our own retries decide when to dial again: each try is a new channel, with no back-off of its own."""
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    options = (
        ("grpc.ssl_target_name_override", settings.ca),
        ("grpc.default_authority", settings.ca_address),
    )
    async with _way_to_ca(settings) as target, grpc.aio.secure_channel(target, credentials, options) as channel:
        yield channel


@asynccontextmanager
async def _way_to_ca(settings: Settings) -> AsyncIterator[str]:
    if not settings.mark_proxy_traffic:
        yield settings.ca_target
        return
    async with relay(settings.ca_target, settings.paths.relay_socket):
        yield f"unix:{settings.paths.relay_socket}"
