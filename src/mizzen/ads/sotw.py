"""One state-of-the-world discovery stream as a state machine: requests and targets in, responses out, no I/O.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#basic-protocol-overview

gRPC's own xDS client and diagnostic tools speak this variant. A response carries all that a proxy asked for of a type;
its version is the hash of those resources' versions, so that it survives a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from hashlib import blake2b

from mizzen.ads.session import WILDCARD
from mizzen.ads.store import Store
from mizzen.ads.subscription import TypeState
from mizzen.ads.target import ALL_AT_ONCE, REFERS_TO_CLUSTERS, Layers, Refusal, find, names, rank
from mizzen.ads.wire import SotwRequest
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, Resource


@dataclass(slots=True)
class _Type:
    wildcard: bool
    names: tuple[str, ...] = ()
    held: str = ""
    """The version last acknowledged."""
    sent: str = ""
    """The version under way, or "" when none is."""
    nonce: str = ""
    """Of the last response; a request with another one answers something older."""
    due: bool = True
    """Target or subscription changed since the last look."""
    count: int = 0


class SotwSession:
    """`refused` is keyed by type and "", since a state of the world is refused as a whole."""

    def __init__(self, store: Store, refused: MutableMapping[tuple[str, str], Refusal] | None = None) -> None:
        self._store = store
        self._types: dict[str, _Type] = {}
        self._layers: Layers | None = None
        self.refused: MutableMapping[tuple[str, str], Refusal] = {} if refused is None else refused

    @property
    def settled(self) -> bool:
        return self._layers is not None and not any(state.sent or state.due for state in self._types.values())

    @property
    def types(self) -> dict[str, TypeState]:
        return {
            url: TypeState(
                held=state.count if state.held else 0,
                in_flight=int(bool(state.sent)),
                pending=int(state.due),
                refused=int((url, "") in self.refused),
            )
            for url, state in self._types.items()
        }

    def publish(self, layers: Layers) -> list[bytes]:
        """A new target. Returns what can be sent now."""
        self._layers = layers
        for state in self._types.values():
            state.due = True
        return self._flush()

    def on_request(self, request: SotwRequest) -> list[bytes]:
        """One request of the client: a subscription, an acknowledgement or a refusal."""
        state = self._types.get(request.type_url)
        if state is None:
            state = self._types[request.type_url] = self._opened(request)
        elif request.nonce != state.nonce:
            return []
        elif state.sent:
            self._answered(request, state)
        asked = () if state.wildcard else tuple(name for name in request.names if name != WILDCARD)
        if asked != state.names:
            state.names, state.due = asked, True
        return self._flush() if self._layers is not None else []

    def _opened(self, request: SotwRequest) -> _Type:
        wildcard = WILDCARD in request.names or (request.type_url in ALL_AT_ONCE and not request.names)
        return _Type(wildcard=wildcard, held=request.version)

    def _answered(self, request: SotwRequest, state: _Type) -> None:
        if request.error is None:
            state.held = state.sent
            self.refused.pop((request.type_url, ""), None)
        else:
            self.refused[request.type_url, ""] = Refusal(state.sent, request.error)
        state.sent = ""

    def _flush(self) -> list[bytes]:
        sent: list[bytes] = []
        for url in sorted(self._types, key=rank):
            state = self._types[url]
            if state.due and not state.sent and not self._held_back(url):
                sent += self._send(url, state)
        return sent

    def _held_back(self, url: str) -> bool:
        clusters = self._types.get(CLUSTER)
        return url in REFERS_TO_CLUSTERS and clusters is not None and bool(clusters.sent)

    def _send(self, url: str, state: _Type) -> list[bytes]:
        layers = self._layers or ()
        wanted = sorted(names(layers, url)) if state.wildcard else state.names
        resources = tuple(found for name in wanted if (found := find(layers, url, name)))
        version = world_version(resources)
        refusal = self.refused.get((url, ""))
        state.due = False
        known = version == state.held or (refusal is not None and refusal.version == version)
        if known or not (resources or state.wildcard):
            return []
        if url == CLUSTER:
            self._send_endpoints_again()
        response = self._store.sotw(url, resources, version, version)
        state.sent, state.nonce, state.count = version, response.nonce, len(resources)
        return [response.body]

    def _send_endpoints_again(self) -> None:
        """A cluster that changed warms anew: Envoy waits for its endpoints without asking for them once more."""
        if endpoints := self._types.get(ENDPOINTS):
            endpoints.held, endpoints.due = "", True


def world_version(resources: Iterable[Resource]) -> str:
    """The version of a whole set: the hash of its names and versions."""
    return blake2b(repr([(one.name, one.version) for one in resources]).encode(), digest_size=8).hexdigest()
