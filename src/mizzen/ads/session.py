"""One delta discovery stream as a state machine: requests and targets in, responses out, no I/O.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds

What it promises, after any interleaving of targets, acknowledgements, refusals and reconnects:
* the proxy ends up holding its target, except for versions that it refused: those are not sent again before another
  version of the same resource was taken;
* nothing that the proxy holds is sent again, unless it asks (a subscription may mean that it forgot);
* while a type has a response under way, newer targets only add to what follows: the latest wins per resource;
* clusters are there before what refers to them, and leave after it (make before break).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Protocol

from mizzen.ads.store import NOTHING, Response, Store
from mizzen.ads.target import (
    ALL_AT_ONCE,
    ONE_PER_RESPONSE,
    REFERRED_TO,
    REFERS_TO_CLUSTERS,
    Layers,
    Refusal,
    find,
    names,
    rank,
)
from mizzen.ads.wire import DeltaRequest
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, Resource

WILDCARD = "*"
_ENVOY_TRUNCATES_ERRORS_AT = 4096


class Session(Protocol):
    """What the two variants of the protocol share for whoever publishes."""

    refused: MutableMapping[tuple[str, str], Refusal]

    def publish(self, layers: Layers) -> list[bytes]: ...

    @property
    def settled(self) -> bool:
        """Whether the proxy has acknowledged, or refused, all there is to send."""
        ...

    @property
    def types(self) -> dict[str, TypeState]: ...


@dataclass(frozen=True, slots=True)
class TypeState:
    """One type of one stream, as `proxy-status` shows it."""

    held: int
    in_flight: int
    pending: int
    refused: int


@dataclass(slots=True)
class _Type:
    """What is known about one resource type of the stream."""

    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    """Asked for by name."""
    held: dict[str, str] = field(default_factory=dict)
    """name -> version that the proxy has acknowledged."""
    pending: set[str] = field(default_factory=set)
    """Names to look at again: target and held may differ."""
    asked: set[str] = field(default_factory=set)
    """Names to answer for even if nothing changed, or nothing is there."""
    alone: set[str] = field(default_factory=set)
    """Names that were in a refused response which did not say whom it meant; sent one by one."""
    in_flight: dict[str, Response] = field(default_factory=dict)
    first_answer_due: bool = False
    """A wildcard subscription is answered even when there is nothing: the proxy waits for it to start."""

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    @property
    def idle(self) -> bool:
        return not self.in_flight and not self.pending


class DeltaSession:
    """`refused` may be kept from an earlier stream of the same proxy, so that it holds across reconnects."""

    def __init__(self, store: Store, refused: MutableMapping[tuple[str, str], Refusal] | None = None) -> None:
        self._store = store
        self._types: dict[str, _Type] = {}
        self._layers: Layers | None = None
        self.refused: MutableMapping[tuple[str, str], Refusal] = {} if refused is None else refused

    @property
    def settled(self) -> bool:
        return self._layers is not None and all(state.idle for state in self._types.values())

    @property
    def types(self) -> dict[str, TypeState]:
        return {
            url: TypeState(
                held=len(state.held),
                in_flight=len(state.in_flight),
                pending=len(state.pending),
                refused=sum(1 for refused_url, _ in self.refused if refused_url == url),
            )
            for url, state in self._types.items()
        }

    def held(self, type_url: str) -> dict[str, str]:
        """name -> version that the proxy has acknowledged."""
        state = self._types.get(type_url)
        return dict(state.held) if state else {}

    def publish(self, layers: Layers) -> list[bytes]:
        """A new target. Returns what can be sent now; the rest follows with the acknowledgements."""
        old, self._layers = self._layers, layers
        for url, state in self._types.items():
            changed = self._changed(url, old, layers) if old is not None else self._everything(url, state)
            state.pending |= changed if state.wildcard else changed & state.names
        return self._flush()

    def _changed(self, url: str, old: Layers, new: Layers) -> frozenset[str]:
        if len(old) != len(new):
            return frozenset((*names(old, url), *names(new, url)))
        steps = zip(old, new, strict=True)
        return frozenset().union(
            *(self._store.difference(a.get(url, NOTHING), b.get(url, NOTHING)) for a, b in steps if a is not b)
        )

    def _everything(self, url: str, state: _Type) -> frozenset[str]:
        return frozenset((*names(self._layers or (), url), *state.held, *state.names))

    def on_request(self, request: DeltaRequest) -> list[bytes]:
        """One request of the proxy: a subscription, an acknowledgement, a refusal, or several in one."""
        state = self._types.get(request.type_url)
        if state is None:
            state = self._types[request.type_url] = self._opened(request)
        elif request.nonce:
            self._answered(request.type_url, state, request)
        self._unsubscribe(state, request.unsubscribe)
        self._subscribe(state, request)
        return self._flush() if self._layers is not None else []

    def _opened(self, request: DeltaRequest) -> _Type:
        """The first request of a type on this stream. Without versions, the proxy is new and may think differently."""
        state = _Type(wildcard=request.type_url in ALL_AT_ONCE and not request.subscribe)
        state.held = dict(request.initial_versions)
        state.first_answer_due = not state.held and (state.wildcard or WILDCARD in request.subscribe)
        if not state.held:
            for key in [key for key in self.refused if key[0] == request.type_url]:
                del self.refused[key]
        if state.wildcard:
            state.pending |= self._everything(request.type_url, state)
        return state

    def _subscribe(self, state: _Type, request: DeltaRequest) -> None:
        clusters = self._types.get(CLUSTER) if request.type_url == ENDPOINTS else None
        warming = _sent(clusters) if clusters is not None else frozenset()
        for name in request.subscribe:
            if name == WILDCARD:
                state.wildcard = True
                state.pending |= self._everything(request.type_url, state)
                continue
            state.names.add(name)
            state.pending.add(name)
            if name not in request.initial_versions or name in warming:
                state.asked.add(name)
                state.held.pop(name, None)

    def _unsubscribe(self, state: _Type, gone: Iterable[str]) -> None:
        for name in gone:
            if name == WILDCARD:
                state.wildcard = False
                _forget(state, [name for name in state.held.keys() | state.pending if name not in state.names])
            elif state.wildcard:  # it stays wanted; the protocol asks for an answer all the same
                state.names.discard(name)
                state.pending.add(name)
                state.asked.add(name)
            else:
                state.names.discard(name)
                _forget(state, [name])

    def _answered(self, url: str, state: _Type, request: DeltaRequest) -> None:
        response = state.in_flight.pop(request.nonce, None)
        if response is None:
            return
        if request.error is None:
            self._accept(url, state, response, response.versions)
            return
        refused, unknown = blame(url, response, request.error)
        self._accept(url, state, response, response.versions.keys() - refused - unknown)
        for name in refused:
            self.refused[url, name] = Refusal(response.versions[name] or "", request.error)
            state.alone.discard(name)
        state.alone |= unknown
        state.pending |= unknown

    def _accept(self, url: str, state: _Type, response: Response, accepted: Iterable[str]) -> None:
        for name in accepted:
            version = response.versions[name]
            self.refused.pop((url, name), None)
            state.alone.discard(name)
            if version is None or not state.wants(name):
                state.held.pop(name, None)
            else:
                state.held[name] = version

    def _flush(self) -> list[bytes]:
        """All that may go out now, in push order: first what is new, then what goes away."""
        sent: list[bytes] = []
        ordered = sorted(self._types, key=rank)
        for url in (*ordered, *(url for url in ordered if url in REFERRED_TO)):
            state = self._types[url]
            if not state.in_flight and (state.pending or state.first_answer_due) and not self._held_back(url):
                sent += self._send(url, state)
                if url == CLUSTER:
                    self._warm(state)
        return sent

    def _warm(self, clusters: _Type) -> None:
        """A changed cluster waits for endpoints anew, yet Envoy does not ask again for those it is subscribed to."""
        endpoints = self._types.get(ENDPOINTS)
        if endpoints is None:
            return
        again = {name for name in _sent(clusters) if endpoints.wants(name)}
        endpoints.pending |= again
        endpoints.asked |= again

    def _held_back(self, url: str) -> bool:
        clusters = self._types.get(CLUSTER)
        return url in REFERS_TO_CLUSTERS and clusters is not None and bool(clusters.in_flight)

    def _removals_wait(self, url: str) -> bool:
        referring = (self._types.get(other) for other in REFERS_TO_CLUSTERS)
        return url in REFERRED_TO and any(state is not None and not state.idle for state in referring)

    def _send(self, url: str, state: _Type) -> list[bytes]:
        resources, removed = self._outstanding(url, state)
        batches = list(_batches(url, state, resources, removed))
        if state.first_answer_due and not batches:
            batches = [((), ())]
        state.first_answer_due = False
        responses = [self._store.delta(url, *batch) for batch in batches]
        state.in_flight.update((response.nonce, response) for response in responses)
        return [response.body for response in responses]

    def _outstanding(self, url: str, state: _Type) -> tuple[list[Resource], list[str]]:
        """What to send of the pending names. Those whose removal has to wait stay pending."""
        resources: list[Resource] = []
        removed: list[str] = []
        waiting: set[str] = set()
        for name in sorted(state.pending):
            resource = find(self._layers or (), url, name)
            if resource is not None:
                if self._due(url, state, resource):
                    resources.append(resource)
            elif name in state.asked and url != EXTENSION:  # Envoy's warm-up would hang on a removed extension
                removed.append(name)
            elif name in state.held:
                waiting.add(name)
        if waiting and (not self._removals_wait(url)):
            removed += sorted(waiting)
            waiting = set()
        state.pending = waiting
        state.asked.clear()
        return resources, removed

    def _due(self, url: str, state: _Type, resource: Resource) -> bool:
        refusal = self.refused.get((url, resource.name))
        if refusal is not None and refusal.version == resource.version:
            return False
        return resource.name in state.asked or state.held.get(resource.name) != resource.version


def _sent(state: _Type) -> frozenset[str]:
    """Names of what is under way, without removals."""
    return frozenset(name for one in state.in_flight.values() for name, version in one.versions.items() if version)


def _forget(state: _Type, gone: Iterable[str]) -> None:
    for name in gone:
        state.held.pop(name, None)
        for names_of in (state.pending, state.asked, state.alone):
            names_of.discard(name)


def _batches(
    url: str, state: _Type, resources: list[Resource], removed: list[str]
) -> Iterable[tuple[tuple[Resource, ...], tuple[str, ...]]]:
    """One response for all, apart from those that have to travel alone."""
    single = [resource for resource in resources if url in ONE_PER_RESPONSE or resource.name in state.alone]
    together = tuple(resource for resource in resources if resource not in single) if single else tuple(resources)
    if together or removed:
        yield together, tuple(removed)
    for resource in single:
        yield (resource,), ()


def blame(url: str, response: Response, message: str) -> tuple[set[str], set[str]]:
    """Which resources of a response a NACK refuses, and about which nothing can be said.

    Envoy applies the good clusters and listeners of a response and names the bad ones (`Error adding/updating
    cluster(s) NAME: REASON, NAME: REASON`); other types stop at the first bad one. Removals are always taken.
    """
    sent = {name for name, version in response.versions.items() if version is not None}
    if len(sent) == 1:
        return sent, set()
    refused = {name for name in sent if re.search(rf"(?:^|[\s,]){re.escape(name)}: ", message)}
    partial = url in (CLUSTER, LISTENER) and refused and len(message) < _ENVOY_TRUNCATES_ERRORS_AT
    return refused, set() if partial else sent - refused
