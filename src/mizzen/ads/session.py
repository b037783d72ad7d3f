"""One delta discovery stream as a state machine: requests and targets in, responses out, no I/O.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds

What it promises, after any interleaving of targets, acknowledgements, refusals and reconnects:
* the proxy ends up holding its target, except for versions that it refused: those are not sent again before another
  version of the same resource was taken, unless it asks;
* nothing that the proxy holds is sent again, unless it asks (a subscription may mean that it forgot);
* what the proxy waits for is answered, be it with "there is none": nothing else ends its wait;
* while a type has a response under way, newer targets only add to what follows: the latest wins per resource;
* clusters are there before what refers to them, and leave after it (make before break).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping

from mizzen.ads.blame import blame
from mizzen.ads.store import NOTHING, Named, Response, Step, Store
from mizzen.ads.subscription import Subscription, TypeState
from mizzen.ads.target import (
    ALL_AT_ONCE,
    HELD_BACK_BY,
    ONE_PER_RESPONSE,
    REFERRED_TO,
    REFERS_TO_CLUSTERS,
    Layers,
    Refusal,
    names,
    rank,
    table,
)
from mizzen.ads.wire import DeltaRequest
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, Resource

WILDCARD = "*"
_MANY = 100
"""Names that are no longer quickly sorted."""


class DeltaSession:
    """`refused` may be kept from an earlier stream of the same proxy, so that it holds across reconnects."""

    def __init__(self, store: Store, refused: MutableMapping[tuple[str, str], Refusal] | None = None) -> None:
        self._store = store
        self._types: dict[str, Subscription] = {}
        """In push order."""
        self._order: tuple[str, ...] = ()
        """Types as they are looked at for what may be sent: first for what is new, then for what goes away."""
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
                held=self._count(url, state),
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
        target = table(self._layers or (), type_url)
        versions = {
            name: state.held.version(name, _version(target, name) if state.wants(name) else None) for name in every
        }
        return {name: version for name, version in versions.items() if version is not None}

    def _count(self, url: str, state: Subscription) -> int:
        """How many resources the proxy holds: this is asked for thousands of proxies at once."""
        target = frozenset(table(self._layers or (), url))
        wanted = target if state.wildcard else target & state.names
        differing = state.held.differing()
        return len(wanted) + sum((version is not None) - (name in wanted) for name, version in differing)

    def publish(self, layers: Layers) -> list[bytes]:
        """A new target. Returns what can be sent now; the rest follows with the acknowledgements."""
        old, self._layers = self._layers, layers
        steps = self._steps(old, layers)
        if len(steps) == 1 and (moved := self._moved(steps[0])) is not None:
            return moved
        for url, changed in self._changed(old, layers, steps).items():
            state = self._types.get(url)
            if state is None:
                continue
            state.completing = None
            wanted = changed if state.wildcard else changed & state.names
            before, after = table(old or (), url), table(layers, url)
            for name in wanted:
                state.held.rebase(name, _version(before, name), _version(after, name))
            state.pending |= wanted
        return self._flush()

    def _steps(self, old: Layers | None, new: Layers) -> list[Step]:
        if old is None or len(old) != len(new):
            return []
        return [self._store.step(a, b) for a, b in zip(old, new, strict=True) if a is not b]

    def _moved(self, step: Step) -> list[bytes] | None:
        """Endpoints moved and nothing else: what comes most often, and to thousands of proxies that have acknowledged
        all that they were told. The same as the long way gives, which is to be taken where this returns None."""
        state = self._types.get(ENDPOINTS)
        if state is None or len(step.changed) != 1 or (changed := step.changed.get(ENDPOINTS)) is None:
            return None
        if self.refused or not self.settled or state.alone or not state.held.is_target:
            return None
        for layer in self._layers or ():
            if layer is not step.new and layer.get(ENDPOINTS):
                return None
        wanted = changed if state.wildcard else changed & state.names
        if not wanted:
            return []
        move = self._store.move(step, wanted)
        state.held.stay(move.before)
        state.in_flight[move.response.nonce] = state.completing = move.response
        return [move.response.body]

    def _changed(self, old: Layers | None, new: Layers, steps: list[Step]) -> Mapping[str, frozenset[str]]:
        """Names to look at again, by type."""
        if old is None:
            return {url: self._everything(url, state) for url, state in self._types.items()}
        if len(old) != len(new):
            return {url: frozenset((*names(old, url), *names(new, url))) for url in self._types}
        if len(steps) == 1:
            return steps[0].changed
        return {url: frozenset().union(*(step.changed.get(url, ()) for step in steps)) for url in self._types}

    def _everything(self, url: str, state: Subscription) -> frozenset[str]:
        differing = (name for name, _ in state.held.differing())
        return frozenset((*names(self._layers or (), url), *differing, *state.names))

    def on_request(self, request: DeltaRequest) -> list[bytes]:
        """One request of the proxy: a subscription, an acknowledgement, a refusal, or several in one."""
        state = self._types.get(request.type_url)
        if state is None:
            state = self._opened(request)
            self._types = dict(sorted([*self._types.items(), (request.type_url, state)], key=lambda one: rank(one[0])))
            self._order = (*self._types, *(url for url in self._types if url in REFERRED_TO))
        elif request.nonce:
            self._answered(request.type_url, state, request)
        if request.unsubscribe:
            state.completing = None
            self._unsubscribe(state, request)
        if request.subscribe:
            state.completing = None
            self._subscribe(state, request)
        if state.idle and isinstance(state.names, set):
            state.names = self._store.shared(state.names)
        return self._flush() if self._layers is not None else []

    def _opened(self, request: DeltaRequest) -> Subscription:
        """The first request of a type on this stream. Without versions, the proxy is new and may think differently."""
        state = Subscription(wildcard=request.type_url in ALL_AT_ONCE and not request.subscribe)
        fresh = not request.initial_versions
        state.first_answer_due = fresh and (state.wildcard or WILDCARD in request.subscribe)
        if fresh:
            for key in [key for key in self.refused if key[0] == request.type_url]:
                del self.refused[key]
        if state.wildcard:
            self._want_all(state, request)
        return state

    def _want_all(self, state: Subscription, request: DeltaRequest) -> None:
        """A wildcard subscription: the proxy holds what it says, and nothing else."""
        state.wildcard = True
        target, holds = self._versions(request.type_url), request.initial_versions
        differ = {name for name, _ in state.held.differing()}
        if holds != target:  # which it is for a thousand proxies that come back, whose names need no look one by one
            differ.update(name for name, _ in target.items() ^ holds.items())
        for name in differ - state.names:
            state.held.note(name, holds.get(name), target.get(name))
        state.pending |= differ | state.names

    def _versions(self, url: str) -> Mapping[str, str]:
        """name -> version that a proxy which wants everything is to hold."""
        found = [self._store.versions(named) for layer in self._layers or () if (named := layer.get(url))]
        if len(found) == 1:
            return found[0]
        merged: dict[str, str] = {}
        for versions in reversed(found):
            merged.update(versions)
        return merged

    def _subscribe(self, state: Subscription, request: DeltaRequest) -> None:
        url, holds = request.type_url, request.initial_versions
        if WILDCARD in request.subscribe:
            self._want_all(state, request)
        fresh = [name for name in request.subscribe if name != WILDCARD]
        warming = self._warming(fresh) if url == ENDPOINTS else frozenset()
        known = {name: holds.get(name) for name in fresh}
        due = {name for name, version in known.items() if version is None or name in warming}
        targets = self._versions(url)
        state.add(fresh)
        state.held.note_all(known, targets)
        state.asked |= due
        state.pending |= due
        state.pending.update(name for name, version in known.items() if targets.get(name) != version)

    def _warming(self, names: Iterable[str]) -> frozenset[str]:
        """Clusters that may wait for their endpoints. Envoy says nothing of clusters while any of them waits."""
        clusters = self._types.get(CLUSTER)
        return frozenset(names) if clusters is None else clusters.under_way

    def _unsubscribe(self, state: Subscription, request: DeltaRequest) -> None:
        for name in request.unsubscribe:
            if name == WILDCARD:
                state.wildcard = False
                state.forget(self._everything(request.type_url, state) - state.names)
                continue
            state.names = state.names - {name}
            if state.wildcard:  # it stays wanted; the protocol asks for an answer all the same
                state.pending.add(name)
                state.asked.add(name)
            else:
                state.forget([name])

    def _answered(self, url: str, state: Subscription, request: DeltaRequest) -> None:
        response = state.in_flight.pop(request.nonce, None)
        if response is None:
            return
        if request.error is None and response is state.completing and not self.refused:
            state.held.become_target()
        elif request.error is None:
            self._accept(url, state, response.versions)
        else:
            self._refuse(url, state, response, request.error)
        if not state.in_flight and state.answering:
            state.answering = set()

    def _refuse(self, url: str, state: Subscription, response: Response, message: str) -> None:
        refused, unknown = blame(url, response, message)
        blamed = refused | unknown
        taken = {name: version for name, version in response.versions.items() if name not in blamed}
        self._accept(url, state, taken)
        for name in refused:
            self.refused[url, name] = Refusal(response.versions[name] or "", message)
            state.alone.discard(name)
        again = {name for name in unknown if state.wants(name)}
        state.alone |= again
        state.pending |= again
        state.asked |= again & state.answering

    def _accept(self, url: str, state: Subscription, accepted: Mapping[str, str | None]) -> None:
        if self.refused:
            for name, version in accepted.items():
                if version is not None:
                    self.refused.pop((url, name), None)
        if state.alone:
            state.alone -= accepted.keys()
        if not (state.wildcard or state.names >= accepted.keys()):
            state.held.forget_all(accepted.keys() - state.names)
            accepted = {name: version for name, version in accepted.items() if name in state.names}
        state.held.note_all(accepted, self._versions(url))

    def _flush(self) -> list[bytes]:
        """All that may go out now, in push order."""
        sent: list[bytes] = []
        for state in self._types.values():
            if state.pending or state.first_answer_due:
                break
        else:
            return sent  # so end almost all acknowledgements
        for url in self._order:
            state = self._types[url]
            if (state.pending or state.first_answer_due) and not state.in_flight and not self._held_back(url):
                sent += self._send(url, state)
                if url == CLUSTER:
                    self._warm(state)
        return sent

    def _warm(self, clusters: Subscription) -> None:
        """A changed cluster waits for endpoints anew, yet Envoy does not ask again for those it is subscribed to."""
        endpoints = self._types.get(ENDPOINTS)
        if endpoints is None:
            return
        again = {name for name in clusters.under_way if endpoints.wants(name)}
        endpoints.pending |= again
        endpoints.asked |= again

    def _held_back(self, url: str) -> bool:
        for other in HELD_BACK_BY.get(url, ()):
            state = self._types.get(other)
            if state is not None and state.in_flight:
                return True
        return False

    def _removals_wait(self, url: str) -> bool:
        referring = (self._types.get(other) for other in REFERS_TO_CLUSTERS)
        return url in REFERRED_TO and any(state is not None and not state.idle for state in referring)

    def _send(self, url: str, state: Subscription) -> list[bytes]:
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
        if url != CLUSTER:
            return [tuple(resources)]
        parts = []
        for layer in self._layers or ():
            named = layer.get(url, NOTHING)
            parts.append(tuple(one for one in resources if one.name in named))
            resources = [one for one in resources if one.name not in named]
        return parts

    def _outstanding(self, url: str, state: Subscription) -> tuple[list[Resource], list[str]]:
        """What to send of the pending names. Those whose removal has to wait stay pending."""
        resources: list[Resource] = []
        removed: list[str] = []
        waiting: set[str] = set()
        target, asked, held = table(self._layers or (), url), state.asked, state.held
        for name in _ordered(state.pending, target):
            resource = target.get(name)
            if self.refused and self._refuses(url, name, resource):
                if name not in asked:
                    continue
                if url == ENDPOINTS:  # or the cluster would wait for ever. A second refusal ends what others wait for
                    resource = None
            if resource is not None:
                if name in asked or held.version(name, resource.version) != resource.version:
                    resources.append(resource)
            elif name in asked and url != EXTENSION:  # Envoy's warm-up would hang on a removed extension
                removed.append(name)
            elif held.version(name, None) is not None:
                waiting.add(name)
        if waiting and (not self._removals_wait(url)):
            removed += sorted(waiting)
            waiting = set()
        state.pending = waiting
        state.answering, state.asked = asked if resources or removed else set(), set()
        return resources, removed

    def _refuses(self, url: str, name: str, resource: Resource | None) -> bool:
        """Whether the proxy has refused this version. What it refused of a version no longer wanted is forgotten."""
        refusal = self.refused.get((url, name))
        if refusal is None:
            return False
        if resource is None or resource.version != refusal.version:
            del self.refused[url, name]
            return False
        return True


def _version(target: Named, name: str) -> str | None:
    found = target.get(name)
    return found.version if found else None


def _ordered(pending: set[str], target: Named) -> list[str]:
    """In the same order for all proxies that have a target in common. Thousands of names take the target's."""
    if len(pending) < _MANY:
        return sorted(pending)
    return [name for name in target if name in pending] + sorted(pending.difference(target))


def _batches(
    url: str, state: Subscription, parts: list[tuple[Resource, ...]], removed: list[str]
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
