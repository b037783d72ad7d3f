"""Many proxies in one process: delta ADS over mutual TLS, as Envoy speaks it, with honest acknowledgements.

Reads one JSON line from stdin, {"port", "proxies": [{"node", "certificate"}], "certificates": [{"key", "chain",
"root"}]}, then for each line `report` it prints what it received so far. Proxies of one certificate share a
connection. They subscribe by name to the endpoints of the clusters and the routes of the listeners that they are told,
and say what they hold when they connect again. A response that was seen before is not parsed again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import uvloop

from mizzen.ads.server import SERVICE
from mizzen.envoy.messages import (
    Cluster,
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    HttpConnectionManager,
    Listener,
)
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES

TYPES = (CLUSTER, LISTENER, ENDPOINTS, ROUTES)
METHOD = f"/{SERVICE}/DeltaAggregatedResources"
_LARGE = 1 << 14
_OPTIONS = [
    ("grpc.ssl_target_name_override", "istiod.istio-system.svc"),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


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


@dataclass(slots=True)
class Counted:
    responses: int = 0
    resources: int = 0
    bytes: int = 0
    connects: int = 0


counted = Counted()
_large: dict[bytes, Told] = {}
_small: dict[str, Told] = {}


def understood(data: bytes) -> Told:
    if len(data) >= _LARGE and (known := _large.get(data)):
        return known
    message = DeltaDiscoveryResponse.FromString(data)
    told = _small.get(message.nonce) or _read(message)
    if len(data) >= _LARGE:
        _large[data] = told
    else:
        _small[message.nonce] = told
    return told


def _read(message: Any) -> Told:
    versions = {sys.intern(one.name): sys.intern(one.version) for one in message.resources}
    acknowledgement = DeltaDiscoveryRequest(type_url=message.type_url, response_nonce=message.nonce)
    return Told(
        type_url=sys.intern(message.type_url),
        nonce=message.nonce,
        versions=versions,
        removed=tuple(message.removed_resources),
        asks=_asks(message),
        acknowledgement=acknowledgement.SerializeToString(),
    )


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

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Until cancelled, connecting again and again."""
        while True:
            call = channel.stream_stream(METHOD)(wait_for_ready=True)
            try:
                await self._talk(call)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)

    async def _talk(self, call: Any) -> None:
        for number, (url, names) in enumerate(self._subscriptions()):
            await call.write((self.node if number == 0 else b"") + _subscription(url, names, tuple(self.told[url])))
        counted.connects += 1
        while (data := await call.read()) is not grpc.aio.EOF:
            told = understood(data)
            counted.responses += 1
            counted.resources += len(told.versions)
            counted.bytes += len(data)
            self.told[told.type_url].append(told)
            await call.write(told.acknowledgement)
            if told.asks is not None:
                await self._subscribe(call, *told.asks)

    def _subscriptions(self) -> list[tuple[str, tuple[str, ...]]]:
        named = [(url, tuple(sorted(names))) for url, names in self.names.items() if names]
        return [(CLUSTER, ()), (LISTENER, ()), *named]

    async def _subscribe(self, call: Any, url: str, names: tuple[str, ...]) -> None:
        known = self.names[url]
        if fresh := tuple(name for name in names if name not in known):
            known.update(fresh)
            await call.write(_subscription(url, fresh, ()))


_subscriptions: dict[tuple[Any, ...], bytes] = {}


def _subscription(url: str, names: tuple[str, ...], told: tuple[Told, ...]) -> bytes:
    """The same bytes for all proxies that were told the same."""
    key = (url, names, tuple(one.nonce for one in told))
    if key not in _subscriptions:
        held: dict[str, str] = {}
        for one in told:
            held |= one.versions
            for name in one.removed:
                held.pop(name, None)
        request = DeltaDiscoveryRequest(type_url=url, resource_names_subscribe=names, initial_resource_versions=held)
        _subscriptions[key] = request.SerializeToString()
    return _subscriptions[key]


def _channel(port: int, certificate: dict[str, str]) -> grpc.aio.Channel:
    key, chain, root = (certificate[part].encode() for part in ("key", "chain", "root"))
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(root, key, chain), _OPTIONS)


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    asked = json.loads(await reader.readline())
    channels = [_channel(asked["port"], one) for one in asked["certificates"]]
    tasks = []
    for one in asked["proxies"]:
        node = DeltaDiscoveryRequest(node={"id": one["node"], "cluster": "bench"}).SerializeToString()
        tasks.append(asyncio.create_task(Proxy(node).run(channels[one["certificate"]])))
    while await reader.readline():
        print(json.dumps({name: getattr(counted, name) for name in Counted.__slots__}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(main())
