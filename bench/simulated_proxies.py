"""Many proxies in one process: delta ADS over mutual TLS, as Envoy speaks it, with honest acknowledgements.

Reads one JSON line from stdin, {"port", "proxies": [{"node", "certificate"}], "certificates": [{"key", "chain",
"root"}]}, then for each line `report` it prints what it received so far. Each proxy has a connection of its own, with
Envoy's flow-control windows. They subscribe by name to the endpoints of the clusters and the routes of the listeners
that they are told, and say what they hold when they connect again. A response that was seen before is not parsed again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import ssl
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from tempfile import NamedTemporaryFile
from typing import Any, cast

import uvloop

from mizzen.ads import frames
from mizzen.ads.frames import ACK, DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, END_HEADERS, END_STREAM, Kind, Setting
from mizzen.ads.server import DELTA
from mizzen.envoy.messages import (
    Cluster,
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    HttpConnectionManager,
    Listener,
)
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES

TYPES = (CLUSTER, LISTENER, ENDPOINTS, ROUTES)
STREAM_WINDOW, CONNECTION_WINDOW = 16 << 20, 24 << 20
REDIAL_SECONDS = 0.2
SERVER = "istiod.istio-system.svc"
_HEADERS = {":method": "POST", ":scheme": "https", ":path": DELTA, "content-type": "application/grpc", "te": "trailers"}


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """A response, understood."""

    type_url: str
    nonce: str
    versions: dict[str, str]
    removed: tuple[str, ...]
    asks: tuple[str, tuple[str, ...]] | None
    """Type and names that a proxy subscribes to because of it."""
    acknowledgement: bytes
    """A gRPC message, as all below."""


@dataclass(slots=True)
class Counted:
    responses: int = 0
    resources: int = 0
    bytes: int = 0
    connects: int = 0


counted = Counted()
_seen: dict[int, Told] = {}


def understood(data: bytes) -> Told:
    key = hash(data)
    if key not in _seen:
        _seen[key] = _read(DeltaDiscoveryResponse.FromString(data))
    return _seen[key]


def _read(message: Any) -> Told:
    versions = {sys.intern(one.name): sys.intern(one.version) for one in message.resources}
    acknowledgement = DeltaDiscoveryRequest(type_url=message.type_url, response_nonce=message.nonce)
    return Told(
        type_url=sys.intern(message.type_url),
        nonce=message.nonce,
        versions=versions,
        removed=tuple(message.removed_resources),
        asks=_asks(message),
        acknowledgement=_framed(acknowledgement.SerializeToString()),
    )


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def _asks(message: Any) -> tuple[str, tuple[str, ...]] | None:
    bodies = [one.resource.value for one in message.resources]
    if message.type_url == CLUSTER:
        clusters = map(Cluster.FromString, bodies)
        return ENDPOINTS, tuple(sys.intern(one.name) for one in clusters if one.type == Cluster.EDS)
    if message.type_url == LISTENER:
        return ROUTES, tuple(sorted({name for body in bodies for name in _route_names(Listener.FromString(body))}))
    return None


def _route_names(listener: Any) -> list[str]:
    chains = [*listener.filter_chains, listener.default_filter_chain]
    managers = [
        HttpConnectionManager.FromString(one.typed_config.value)
        for chain in chains
        for one in chain.filters
        if one.typed_config.type_url.endswith("HttpConnectionManager")
    ]
    return [one.rds.route_config_name for one in managers if one.rds.route_config_name]


@dataclass(slots=True, eq=False)
class Proxy:
    node: bytes
    """A request that says nothing but who this is."""
    told: dict[str, list[Told]] = field(default_factory=lambda: {url: [] for url in TYPES})
    names: dict[str, set[str]] = field(default_factory=lambda: {ENDPOINTS: set(), ROUTES: set()})

    async def run(self, port: int, tls: ssl.SSLContext) -> None:
        """Until cancelled, connecting again and again."""
        loop = asyncio.get_running_loop()
        while True:
            over = loop.create_future()
            try:
                await loop.create_connection(
                    lambda over=over: Wire(self, over), "127.0.0.1", port, ssl=tls, server_hostname=SERVER
                )
                await over
            except OSError:
                pass
            await asyncio.sleep(REDIAL_SECONDS)

    def hello(self) -> Iterator[bytes]:
        """The first requests of a stream."""
        counted.connects += 1
        named = [(url, tuple(sorted(names))) for url, names in self.names.items() if names]
        for number, (url, names) in enumerate([(CLUSTER, ()), (LISTENER, ()), *named]):
            yield _subscription(url, names, tuple(self.told[url]), self.node if number == 0 else b"")

    def answers(self, data: bytes) -> Iterator[bytes]:
        """To a response: the acknowledgement, and subscriptions to what it names."""
        told = understood(data)
        counted.responses += 1
        counted.resources += len(told.versions)
        counted.bytes += len(data)
        self.told[told.type_url].append(told)
        yield told.acknowledgement
        if told.asks is not None:
            url, names = told.asks
            known = self.names[url]
            if fresh := tuple(name for name in names if name not in known):
                known.update(fresh)
                yield _subscription(url, fresh, ())


class Wire(asyncio.Protocol):
    """One connection with one call: as much of HTTP/2 as that takes."""

    def __init__(self, proxy: Proxy, over: asyncio.Future[None]) -> None:
        self._proxy = proxy
        self._over = over
        self._data = b""
        self._message = bytearray()
        self._called = False
        self._unread = 0
        self._waiting = bytearray()
        self._window = self._stream_window = DEFAULT_WINDOW
        """Bytes that the server allows us to send, on the connection and on the stream."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        windows = frames.settings({Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW})
        self._transport.write(frames.PREFACE + windows + frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    def connection_lost(self, _: Exception | None) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        at, end = 0, len(data)
        while end - at >= frames.HEADER_SIZE:
            start = at + frames.HEADER_SIZE
            following = start + int.from_bytes(data[at : at + 3])
            if following > end:
                break
            self._frame(data[at + 3], data[at + 4], data[at + 5 : start], data[start:following])
            at = following
        self._data = data[at:]

    def _frame(self, kind: int, flags: int, stream: bytes, payload: bytes) -> None:
        if kind == Kind.DATA:
            self._received(payload)
        elif kind == Kind.WINDOW_UPDATE:
            if stream[-1]:
                self._stream_window += int.from_bytes(payload)
            else:
                self._window += int.from_bytes(payload)
            self._pump()
        elif kind in (Kind.SETTINGS, Kind.PING) and not flags & ACK:
            self._transport.write(frames.frame(kind, ACK, 0, payload if kind == Kind.PING else b""))
            if not self._called:
                self._call(dict(frames.read_settings(payload)))
        elif kind in (Kind.RST_STREAM, Kind.GOAWAY) or (kind == Kind.HEADERS and flags & END_STREAM):
            self._transport.close()

    def _call(self, settings: dict[int, int]) -> None:
        self._called = True
        self._stream_window = settings.get(Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        headers = b"".join(bytes((0, len(k))) + k.encode() + bytes((len(v),)) + v.encode() for k, v in _HEADERS.items())
        self._transport.write(frames.frame(Kind.HEADERS, END_HEADERS, 1, headers))
        self._send(self._proxy.hello())

    def _received(self, payload: bytes) -> None:
        self._unread += len(payload)
        if self._unread > STREAM_WINDOW // 2:
            self._transport.write(frames.window_update(0, self._unread) + frames.window_update(1, self._unread))
            self._unread = 0
        message = self._message
        if not message and len(payload) == 5 + int.from_bytes(payload[1:5]):
            self._send(self._proxy.answers(payload[5:]))  # so come almost all
            return
        message += payload
        while len(message) >= 5 and len(message) >= (size := 5 + int.from_bytes(message[1:5])):
            data = bytes(message[5:size])
            del message[:size]
            self._send(self._proxy.answers(data))

    def _send(self, messages: Iterable[bytes]) -> None:
        self._waiting += b"".join(messages)
        self._pump()

    def _pump(self) -> None:
        while size := min(len(self._waiting), DEFAULT_FRAME_SIZE, self._window, self._stream_window):
            self._transport.write(frames.frame(Kind.DATA, 0, 1, bytes(self._waiting[:size])))
            del self._waiting[:size]
            self._window -= size
            self._stream_window -= size


_subscriptions: dict[tuple[Any, ...], bytes] = {}


def _subscription(url: str, names: tuple[str, ...], told: tuple[Told, ...], node: bytes = b"") -> bytes:
    """But for `node`, the same bytes for all proxies that were told the same."""
    key = (url, names, tuple(one.nonce for one in told))
    if key not in _subscriptions:
        held: dict[str, str] = {}
        for one in told:
            held |= one.versions
            for name in one.removed:
                held.pop(name, None)
        request = DeltaDiscoveryRequest(type_url=url, resource_names_subscribe=names, initial_resource_versions=held)
        _subscriptions[key] = request.SerializeToString()
    return _framed(node + _subscriptions[key])


def _tls(certificate: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificate["root"])
    context.set_alpn_protocols(["h2"])
    with NamedTemporaryFile("w") as file:
        file.write(certificate["key"] + certificate["chain"])
        file.flush()
        context.load_cert_chain(file.name)
    return context


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asked = json.loads(await reader.readline())
    contexts = [_tls(one) for one in asked["certificates"]]
    tasks = []
    for one in asked["proxies"]:
        node = DeltaDiscoveryRequest(node={"id": one["node"], "cluster": "bench"}).SerializeToString()
        tasks.append(asyncio.create_task(Proxy(node).run(asked["port"], contexts[one["certificate"]])))
    while await reader.readline():
        print(json.dumps({name: getattr(counted, name) for name in Counted.__slots__}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    gc.disable()  # proxies do not stand still to look for garbage, and here is little
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(main())
