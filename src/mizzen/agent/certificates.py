"""Getting and renewing the Pod's certificate: key and request made here, the chain signed by istiod."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509

from mizzen.agent.relay import relay
from mizzen.agent.rotation import renew_at
from mizzen.agent.sds import Secrets
from mizzen.agent.sds_messages import key_and_chain, trusted_roots
from mizzen.agent.settings import Settings
from mizzen.ca.authority import new_key, private_key_pem, signing_request
from mizzen.ca.messages import CA_METHOD, IstioCertificateRequest, IstioCertificateResponse
from mizzen.envoy.resources import Resource

log = logging.getLogger(__name__)

_FIRST_RETRY = 0.1
_LONGEST_RETRY = 5.0
_CALL_TIMEOUT = 10.0
_SHORTEST_LIFE = 1.0
"""Seconds: near the root's own end, certificates get ever shorter."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key, its chain (leaf first, root last) and the roots that peers are checked against: all PEM."""

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


async def keep_certificate(settings: Settings, secrets: Secrets) -> None:
    """Publishes a certificate and its successors, for ever. While istiod is away, the one in hand goes on serving."""
    while True:
        pair = await _fetch_until_it_works(settings)
        secrets.publish(pair.secrets())
        due = renew_at(datetime.now(UTC), pair.not_after, random.uniform(-1, 1))  # noqa: S311 - spreads load, hides nothing
        log.info("certificate for %s received; the next one is due at %s", settings.identity, due.isoformat())
        await asyncio.sleep(max(_SHORTEST_LIFE, (due - datetime.now(UTC)).total_seconds()))


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
    """One call to istiod, with token and root as they are now: the node renews them. Raises AioRpcError, OSError."""
    key = new_key()
    request = IstioCertificateRequest(
        csr=signing_request(key, settings.identity).decode(),
        validity_duration=int(settings.certificate_validity.total_seconds()),
    )
    token = await asyncio.to_thread(Path(settings.paths.token).read_text)
    roots = await asyncio.to_thread(Path(settings.paths.root_certificate).read_bytes)
    async with _channel(settings, roots) as channel:
        call = channel.unary_unary(
            CA_METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=IstioCertificateResponse.FromString,
        )
        authorization = (("authorization", f"Bearer {token.strip()}"),)
        response = await call(request, metadata=authorization, timeout=_CALL_TIMEOUT)
    return KeyPair(private_key_pem(key), "".join(response.cert_chain).encode(), roots)


@asynccontextmanager
async def _channel(settings: Settings, roots: bytes) -> AsyncIterator[grpc.aio.Channel]:
    """Our own retries decide when to dial again: each try is a new channel, with no back-off of its own."""
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    options = (
        ("grpc.ssl_target_name_override", settings.istiod),
        ("grpc.default_authority", settings.ca_address),
    )
    async with _way_to_istiod(settings) as target, grpc.aio.secure_channel(target, credentials, options) as channel:
        yield channel


@asynccontextmanager
async def _way_to_istiod(settings: Settings) -> AsyncIterator[str]:
    if not settings.mark_proxy_traffic:
        yield settings.istiod_ca
        return
    async with relay(settings.istiod_ca, settings.paths.relay_socket):
        yield f"unix:{settings.paths.relay_socket}"
