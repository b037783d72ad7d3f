"""The aggregated discovery service: gRPC calls in and out of sessions.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#aggregated-discovery-service

Requests and responses pass as bytes: sessions share framed responses, so that a push to many proxies serialises once.
Envoy dials this server itself with the certificate that its agent fetched: a proxy is who its certificate says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import DecodeError

from mizzen.ads import wire
from mizzen.ads.calls import Call, Served, Status
from mizzen.ads.connection import PATIENCE, Connection, Patience
from mizzen.ads.secured import Buffers, Secured
from mizzen.ads.session import DeltaSession
from mizzen.ads.sotw import SotwSession
from mizzen.ads.store import Store
from mizzen.ads.subscription import TypeState
from mizzen.ads.target import Layers, Refusal

log = logging.getLogger(__name__)

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
DELTA = f"/{SERVICE}/DeltaAggregatedResources"
STATE_OF_THE_WORLD = f"/{SERVICE}/StreamAggregatedResources"
HANDSHAKE_SECONDS = 60.0
BACKLOG = 4096
"""All proxies of a mesh dial again at once after a restart."""

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
    """`tls` None serves plain text, for tests on loopback only. Port 0 takes any."""

    host: str = "0.0.0.0"
    port: int = 15011
    tls: SSLContext | None = None
    patience: Patience = PATIENCE


@dataclass(eq=False, slots=True)
class Stream:
    """One proxy's stream and its session."""

    session: DeltaSession | SotwSession
    identities: tuple[str, ...]
    """The URI names of the peer's certificate; empty without TLS."""
    send: Callable[[bytes], None]
    node: wire.Node = field(default_factory=lambda: wire.Node(""))
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
        for body in responses:
            self.bytes_sent += len(body)
            self.responses_sent += 1
            self.send(body)


class AdsServer:
    """Serves a fleet. `start`, then `stop`; proxies go on with what they hold."""

    def __init__(self, fleet: Fleet, store: Store, serving: Serving) -> None:
        self.fleet = fleet
        self.store = store
        self._serving = serving
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._buffers = Buffers()
        self._refused: dict[str, Refusals] = {}
        self.port = 0

    async def start(self) -> None:
        """Raises OSError when the address cannot be bound."""
        wanted = self._serving
        self._server = await asyncio.get_running_loop().create_server(
            self._connection,
            wanted.host,
            wanted.port,
            backlog=BACKLOG,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def _connection(self) -> asyncio.BaseProtocol:
        inner = Connection(self._connections, self._serve, self._serving.patience)
        tls = self._serving.tls
        return inner if tls is None else Secured(tls, inner, HANDSHAKE_SECONDS, self._buffers)

    async def stop(self, grace_seconds: float = 0.2) -> None:
        """End all streams. Envoy keeps its configuration and dials again."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.leave("the control plane stops")
        await self._all_over(grace_seconds)
        for connection in list(self._connections):
            connection.abort()
        await self._all_over(grace_seconds)

    async def _all_over(self, seconds: float) -> None:
        if self._connections:
            await asyncio.wait([one.over for one in self._connections], timeout=seconds)

    def _serve(self, path: str, call: Call, identities: tuple[str, ...]) -> Served | None:
        if path == DELTA:
            return _Conversation(self, call, identities, wire.delta_request, DeltaSession)
        if path == STATE_OF_THE_WORLD:
            return _Conversation(self, call, identities, wire.sotw_request, SotwSession)
        return None

    def opened(self, session: _Variant, node: wire.Node, identities: tuple[str, ...], call: Call) -> Stream:
        refused = self._refused.setdefault(node.id, {})
        return Stream(session(self.store, refused), identities, call.send, node)

    def closed(self, stream: Stream) -> None:
        if not stream.session.refused:
            self._refused.pop(stream.node.id, None)


_Variant: TypeAlias = Callable[[Store, Refusals], DeltaSession | SotwSession]


class _Conversation:
    """A call of one proxy."""

    __slots__ = ("_call", "_decode", "_identities", "_joined", "_joining", "_server", "_stream", "_variant", "_waiting")

    def __init__(
        self,
        server: AdsServer,
        call: Call,
        identities: tuple[str, ...],
        decode: Callable[[bytes], wire.DeltaRequest | wire.SotwRequest],
        variant: _Variant,
    ) -> None:
        self._server = server
        self._call = call
        self._identities = identities
        self._decode = decode
        self._variant = variant
        self._stream: Stream | None = None
        self._joining: asyncio.Task[None] | None = None
        self._joined = False
        self._waiting: list[wire.DeltaRequest | wire.SotwRequest] = []

    def message(self, data: bytes) -> None:
        try:
            request = self._decode(data)
            if self._stream is None:
                self._begin(request.node or wire.Node(""))
            if self._joined:
                self._hear(request)
            else:
                self._waiting.append(request)
        except DecodeError as error:
            self._call.end(Status.INVALID_ARGUMENT, f"not a discovery request: {error}")
        except Exception:
            self._failed()

    def _begin(self, node: wire.Node) -> None:
        self._stream = self._server.opened(self._variant, node, self._identities, self._call)
        self._joining = asyncio.create_task(self._join(self._stream))

    def _hear(self, request: wire.DeltaRequest | wire.SotwRequest) -> None:
        assert self._stream is not None
        self._stream.receive(request)
        self._server.fleet.acknowledged(self._stream)

    async def _join(self, stream: Stream) -> None:
        """The session hears what its proxy says once it knows what the proxy is to hold."""
        try:
            await self._server.fleet.join(stream)
            self._joined = True
            waiting, self._waiting = self._waiting, []
            for request in waiting:
                self._hear(request)
        except Refused as refused:
            log.warning("refused proxy %s (%s): %s", stream.node.id, ", ".join(self._identities), refused)
            self._call.end(Status.PERMISSION_DENIED, str(refused))
        except Exception:
            self._failed()

    def _failed(self) -> None:
        """A mistake of ours: this proxy dials again; the others go on."""
        log.exception("the stream of proxy %s ends", self._stream and self._stream.node.id)
        self._call.end(Status.INTERNAL, "see the control plane's log")

    def closed(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
        if self._stream is not None:
            self._server.closed(self._stream)
            if self._joined:
                self._server.fleet.leave(self._stream)
