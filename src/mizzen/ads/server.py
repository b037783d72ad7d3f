"""The aggregated discovery service over gRPC: streams in and out of sessions.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#aggregated-discovery-service

Requests and responses pass as bytes: sessions share framed responses, so that a push to many proxies serialises once.
Envoy dials this server itself with the certificate that its agent fetched: a proxy is who its certificate says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from mizzen.ads import wire
from mizzen.ads.session import DeltaSession, TypeState
from mizzen.ads.sotw import SotwSession
from mizzen.ads.store import Store
from mizzen.ads.target import Layers, Refusal

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
MAX_PENDING_REQUESTS = 100_000
"""gRPC's default refuses a burst of reconnects (https://github.com/grpc/grpc/pull/34782)."""
MAX_CONNECTION_AGE_MS = 30 * 60 * 1000
"""A stream that we end opens again on the same TLS connection: only its age makes a proxy show a newer certificate."""
CONNECTION_GRACE_MS = 5_000

Refusals: TypeAlias = MutableMapping[tuple[str, str], Refusal]


class Refused(Exception):
    """The fleet does not take this proxy. The message goes to the log and, as the call's status, to the proxy."""


class Fleet(Protocol):
    """Who keeps the proxies: the control plane."""

    async def join(self, stream: Stream) -> None:
        """A proxy's first message came; `stream.node` and `stream.identities` say who it is. Raises Refused."""
        ...

    def acknowledged(self, stream: Stream) -> None:
        """The proxy answered; `stream.session.settled` says whether that was all."""
        ...

    def leave(self, stream: Stream) -> None:
        """The stream of a proxy that had joined is over."""
        ...


@dataclass(frozen=True, slots=True)
class Serving:
    """`tls` None serves plain text, for tests on loopback only."""

    address: str = "0.0.0.0:15011"
    tls: grpc.ServerCredentials | None = None
    max_connection_age_ms: int = MAX_CONNECTION_AGE_MS


@dataclass(eq=False, slots=True)
class Stream:
    """One proxy's stream: its session, and the responses that wait to be written."""

    session: DeltaSession | SotwSession
    identities: tuple[str, ...]
    """The URI names of the peer's certificate; empty without TLS."""
    node: wire.Node = field(default_factory=lambda: wire.Node(""))
    outbox: deque[bytes] = field(default_factory=deque)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    joined: bool = False
    bytes_sent: int = 0
    responses_sent: int = 0

    def publish(self, layers: Layers) -> None:
        """A new target; what it changes is sent as the proxy acknowledges."""
        self._put(self.session.publish(layers))

    def receive(self, request: Any) -> None:
        self._put(self.session.on_request(request))

    @property
    def types(self) -> dict[str, TypeState]:
        return self.session.types

    def _put(self, responses: list[bytes]) -> None:
        if responses:
            self.outbox.extend(responses)
            self.filled.set()

    async def drain(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write responses in order for as long as the stream lives."""
        while True:
            await self.filled.wait()
            self.filled.clear()
            while self.outbox:
                body = self.outbox.popleft()
                self.bytes_sent += len(body)
                self.responses_sent += 1
                await write(body)


class AdsServer:
    """Serves a fleet. `start`, then `stop`; proxies go on with what they hold."""

    def __init__(self, fleet: Fleet, store: Store, serving: Serving) -> None:
        self._fleet = fleet
        self._store = store
        self._serving = serving
        self._server: grpc.aio.Server | None = None
        self._refused: dict[str, Refusals] = {}
        self.port = 0

    async def start(self) -> None:
        """Raises RuntimeError when the address cannot be bound."""
        server = grpc.aio.server(options=_options(self._serving.max_connection_age_ms))
        handlers = {
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._sotw),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        if self._serving.tls is None:
            self.port = server.add_insecure_port(self._serving.address)
        else:
            self.port = server.add_secure_port(self._serving.address, self._serving.tls)
        await server.start()
        self._server = server

    async def stop(self, grace_seconds: float = 0.2) -> None:
        """End all streams. Envoy keeps its configuration and dials again."""
        if self._server is not None:
            await self._server.stop(grace_seconds)

    async def _delta(self, _: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await self._serve(context, wire.delta_request, lambda refused: DeltaSession(self._store, refused))

    async def _sotw(self, _: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await self._serve(context, wire.sotw_request, lambda refused: SotwSession(self._store, refused))

    async def _serve(
        self,
        context: grpc.aio.ServicerContext[bytes, bytes],
        decode: Callable[[bytes], wire.DeltaRequest | wire.SotwRequest],
        session: Callable[[Refusals | None], DeltaSession | SotwSession],
    ) -> None:
        identities = peer_uris(context.auth_context())
        stream: Stream | None = None
        writer: asyncio.Task[None] | None = None
        try:
            while (data := await context.read()) is not grpc.aio.EOF:
                request = decode(data)
                if stream is None:
                    node = request.node or wire.Node("")
                    stream = Stream(session(self._refused.setdefault(node.id, {})), identities, node)
                    writer = asyncio.create_task(stream.drain(context.write))
                    stream.receive(request)
                    await self._fleet.join(stream)
                    stream.joined = True
                else:
                    stream.receive(request)
                self._fleet.acknowledged(stream)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not a discovery request: {error}")
        except Refused as refused:
            log.warning("refused proxy %s (%s): %s", stream and stream.node.id, ", ".join(identities), refused)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(refused))
        finally:
            if writer is not None:
                writer.cancel()
            if stream is not None:
                self._left(stream)

    def _left(self, stream: Stream) -> None:
        if not stream.session.refused:
            self._refused.pop(stream.node.id, None)
        if stream.joined:
            self._fleet.leave(stream)


def peer_uris(auth_context: Any) -> tuple[str, ...]:
    """The URI subject alternative names of the peer's certificate."""
    return tuple(value.decode() for value in auth_context.get("peer_uri", ()))


def _options(max_connection_age_ms: int) -> list[tuple[str, int]]:
    return [
        ("grpc.server.max_pending_requests", MAX_PENDING_REQUESTS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_REQUESTS),
        ("grpc.max_connection_age_ms", max_connection_age_ms),
        ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_MS),
        ("grpc.max_receive_message_length", 64 << 20),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.so_reuseport", 0),
    ]


def tls_credentials(current: Callable[[], tuple[bytes, bytes, bytes]]) -> grpc.ServerCredentials:
    """Mutual TLS. `current()` gives private key, certificate chain and client roots, all PEM.

    It is asked at each handshake and must answer with the same tuple for as long as nothing changed.
    """
    shown: list[tuple[bytes, bytes, bytes]] = [current()]

    def configuration(pem: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
        key, chain, roots = pem
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        newest = current()
        if newest is shown[0]:
            return None
        shown[0] = newest
        return configuration(newest)

    return grpc.dynamic_ssl_server_credentials(configuration(shown[0]), fetch, require_client_authentication=True)
