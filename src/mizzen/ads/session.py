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
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Protocol

from mizzen.ads.held import Held
from mizzen.ads.store import NOTHING, Response, Store
from mizzen.ads.target import (
    ALL_AT_ONCE,
    HELD_BACK_BY,
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
    names: frozenset[str] | set[str] = field(default_factory=set)
    """Asked for by name. At rest a frozen set, which proxies that ask for the same share."""
    held: Held = field(default_factory=Held)
    """What the proxy has acknowledged."""
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
        """In push order."""
        self._layers: Layers | None = None
        self.refused: MutableMapping[tuple[str, str], Refusal] = {} if refused is None else refused

    @property
    def settled(self) -> bool:
        for state in self._types.values():  # a loop: this is asked at each acknowledgement of each proxy
            if state.in_flight or state.pending:
                return False
        return self._layers is not None

    @property
    def types(self) -> dict[str, TypeState]:
        return {
            url: TypeState(
                held=len(self.held(url)),
                in_flight=len(state.in_flight),
                pending=len(state.pending),
                refused=sum(1 for refused_url, _ in self.refused if refused_url == url),
            )
            for url, state in self._types.items()
        }

    def held(self, type_url: str) -> dict[str, str]:
        """name -> version that the proxy has acknowledged."""
        state = self._types.get(type_url)
        if state is None:
            return {}
        every = {*names(self._layers or (), type_url), *(name for name, _ in state.held.differing())}
        versions = {name: state.held.version(name, self._target(type_url, state, name)) for name in every}
        return {name: version for name, version in versions.items() if version is not None}

    def publish(self, layers: Layers) -> list[bytes]:
        """A new target. Returns what can be sent now; the rest follows with the acknowledgements."""
        old, self._layers = self._layers, layers
        for url, changed in self._changed(old, layers).items():
            state = self._types.get(url)
            if state is None:
                continue
            wanted = changed if state.wildcard else changed & state.names
            for name in wanted:
                state.held.rebase(name, _version(old, url, name), _version(layers, url, name))
            state.pending |= wanted
        return self._flush()

    def _target(self, url: str, state: _Type, name: str) -> str | None:
        """The version that the proxy is to hold, if it is to hold any."""
        return _version(self._layers, url, name) if state.wants(name) else None

    def _changed(self, old: Layers | None, new: Layers) -> Mapping[str, frozenset[str]]:
        """Names to look at again, by type."""
        if old is None:
            return {url: self._everything(url, state) for url, state in self._types.items()}
        if len(old) != len(new):
            return {url: frozenset((*names(old, url), *names(new, url))) for url in self._types}
        steps = [self._store.step(a, b) for a, b in zip(old, new, strict=True) if a is not b]
        if len(steps) == 1:
            return steps[0]
        return {url: frozenset().union(*(step.get(url, ()) for step in steps)) for url in self._types}

    def _everything(self, url: str, state: _Type) -> frozenset[str]:
        differing = (name for name, _ in state.held.differing())
        return frozenset((*names(self._layers or (), url), *differing, *state.names))

    def on_request(self, request: DeltaRequest) -> list[bytes]:
        """One request of the proxy: a subscription, an acknowledgement, a refusal, or several in one."""
        state = self._types.get(request.type_url)
        if state is None:
            state = self._opened(request)
            self._types = dict(sorted([*self._types.items(), (request.type_url, state)], key=lambda one: rank(one[0])))
        elif request.nonce:
            self._answered(request.type_url, state, request)
        self._unsubscribe(state, request)
        self._subscribe(state, request)
        if state.idle and isinstance(state.names, set):
            state.names = self._store.shared(state.names)
        return self._flush() if self._layers is not None else []

    def _opened(self, request: DeltaRequest) -> _Type:
        """The first request of a type on this stream. Without versions, the proxy is new and may think differently."""
        state = _Type(wildcard=request.type_url in ALL_AT_ONCE and not request.subscribe)
        fresh = not request.initial_versions
        state.first_answer_due = fresh and (state.wildcard or WILDCARD in request.subscribe)
        if fresh:
            for key in [key for key in self.refused if key[0] == request.type_url]:
                del self.refused[key]
        if state.wildcard:
            self._want_all(state, request)
        return state

    def _want_all(self, state: _Type, request: DeltaRequest) -> None:
        """A wildcard subscription: the proxy holds what it says, and nothing else."""
        state.wildcard = True
        target, holds = self._versions(request.type_url), request.initial_versions
        differ = {name for name, _ in state.held.differing()}
        if holds != target:  # which it is for a thousand proxies that come back, whose names need no look one by one
            differ.update(name for name, _ in target.items() ^ holds.items())
        for name in differ - state.names:
            state.held.note(name, holds.get(name), target.get(name))
        state.pending |= differ | state.names

    def _versions(self, url: str) -> dict[str, str]:
        """name -> version that a proxy which wants everything is to hold."""
        found: dict[str, str] = {}
        for layer in reversed(self._layers or ()):
            found.update(self._store.versions(layer.get(url, NOTHING)))
        return found

    def _subscribe(self, state: _Type, request: DeltaRequest) -> None:
        url, layers, holds = request.type_url, self._layers or (), request.initial_versions
        clusters = self._types.get(CLUSTER) if url == ENDPOINTS else None
        warming = _sent(clusters) if clusters is not None else frozenset()
        if WILDCARD in request.subscribe:
            self._want_all(state, request)
        fresh = [name for name in request.subscribe if name != WILDCARD]
        if fresh:
            state.names = _with(state.names, fresh)
        for name in fresh:
            known, target = None if name in warming else holds.get(name), _version(layers, url, name)
            state.held.note(name, known, target)
            if known is None:
                state.asked.add(name)
            if known is None or known != target:
                state.pending.add(name)

    def _unsubscribe(self, state: _Type, request: DeltaRequest) -> None:
        for name in request.unsubscribe:
            if name == WILDCARD:
                state.wildcard = False
                _forget(state, self._everything(request.type_url, state) - state.names)
                continue
            state.names = state.names - {name}
            if state.wildcard:  # it stays wanted; the protocol asks for an answer all the same
                state.pending.add(name)
                state.asked.add(name)
            else:
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
        layers = self._layers or ()
        for name in accepted:
            version = response.versions[name]
            if self.refused:
                self.refused.pop((url, name), None)
            state.alone.discard(name)
            if state.wildcard or name in state.names:
                state.held.note(name, version, _version(layers, url, name))
            else:
                state.held.forget(name)

    def _flush(self) -> list[bytes]:
        """All that may go out now, in push order: first what is new, then what goes away."""
        sent: list[bytes] = []
        if not any(state.pending or state.first_answer_due for state in self._types.values()):
            return sent
        for url in (*self._types, *(url for url in self._types if url in REFERRED_TO)):
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
        awaited = (self._types.get(other) for other in HELD_BACK_BY.get(url, ()))
        return any(state is not None and bool(state.in_flight) for state in awaited)

    def _removals_wait(self, url: str) -> bool:
        referring = (self._types.get(other) for other in REFERS_TO_CLUSTERS)
        return url in REFERRED_TO and any(state is not None and not state.idle for state in referring)

    def _send(self, url: str, state: _Type) -> list[bytes]:
        resources, removed = self._outstanding(url, state)
        batches = list(_batches(url, state, self._shared_apart(url, resources), removed))
        if state.first_answer_due and not batches:
            batches = [((), ())]
        state.first_answer_due = False
        responses = [self._store.delta(url, *batch) for batch in batches]
        state.in_flight.update((response.nonce, response) for response in responses)
        return [response.body for response in responses]

    def _shared_apart(self, url: str, resources: list[Resource]) -> list[tuple[Resource, ...]]:
        """Clusters by layer: what a thousand proxies have in common is then one response, framed and kept once.

        Other types must not come in parts: Envoy takes the first response of listeners for all of them and is ready.
        """
        if url != CLUSTER or len(self._layers or ()) < 2:
            return [tuple(resources)]
        parts: dict[int, list[Resource]] = {}
        tables = [layer.get(url, NOTHING) for layer in self._layers or ()]
        for resource in resources:
            place = next(number for number, named in enumerate(tables) if resource.name in named)
            parts.setdefault(place, []).append(resource)
        return [tuple(part) for part in parts.values()]

    def _outstanding(self, url: str, state: _Type) -> tuple[list[Resource], list[str]]:
        """What to send of the pending names. Those whose removal has to wait stay pending."""
        resources: list[Resource] = []
        removed: list[str] = []
        waiting: set[str] = set()
        for name in sorted(state.pending):
            resource = find(self._layers or (), url, name)
            self._forget_refusal(url, name, resource)
            if resource is not None:
                if self._due(url, state, resource):
                    resources.append(resource)
            elif name in state.asked and url != EXTENSION:  # Envoy's warm-up would hang on a removed extension
                removed.append(name)
            elif state.held.version(name, None) is not None:
                waiting.add(name)
        if waiting and (not self._removals_wait(url)):
            removed += sorted(waiting)
            waiting = set()
        state.pending = waiting
        state.asked.clear()
        return resources, removed

    def _forget_refusal(self, url: str, name: str, resource: Resource | None) -> None:
        """That of a version which is no longer wanted."""
        refusal = self.refused.get((url, name))
        if refusal is not None and (resource is None or resource.version != refusal.version):
            del self.refused[url, name]

    def _due(self, url: str, state: _Type, resource: Resource) -> bool:
        refusal = self.refused.get((url, resource.name))
        if refusal is not None and refusal.version == resource.version:
            return False
        return resource.name in state.asked or state.held.version(resource.name, resource.version) != resource.version


def _version(layers: Layers | None, url: str, name: str) -> str | None:
    found = find(layers or (), url, name)
    return found.version if found else None


def _with(known: frozenset[str] | set[str], names: Iterable[str]) -> set[str]:
    """`known` and `names`; a shared set is copied, a set of our own grows in place."""
    own = known if isinstance(known, set) else set(known)
    own.update(names)
    return own


def _sent(state: _Type) -> frozenset[str]:
    """Names of what is under way, without removals."""
    return frozenset(name for one in state.in_flight.values() for name, version in one.versions.items() if version)


def _forget(state: _Type, gone: Iterable[str]) -> None:
    for name in gone:
        state.held.forget(name)
        for names_of in (state.pending, state.asked, state.alone):
            names_of.discard(name)


def _batches(
    url: str, state: _Type, parts: list[tuple[Resource, ...]], removed: list[str]
) -> Iterable[tuple[tuple[Resource, ...], tuple[str, ...]]]:
    """One response for each part, apart from those that have to travel alone."""
    single: list[Resource] = []
    if url in ONE_PER_RESPONSE or state.alone:
        single = [one for part in parts for one in part if url in ONE_PER_RESPONSE or one.name in state.alone]
        parts = [tuple(one for one in part if one not in single) for part in parts]
    together = [part for part in parts if part]
    if removed and not together:
        together.append(())
    for number, part in enumerate(together):
        yield part, tuple(removed) if number == 0 else ()
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
