"""The resources of all proxies, addressed by content, and the responses that carry them.

What two views have in common exists once (`intern`), the difference between two states is worked out once however many
proxies take that step (`step`), and a response of equal content is framed once and shared by all streams.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import TypeAlias
from weakref import WeakValueDictionary

from mizzen.ads import wire
from mizzen.envoy.resources import ENDPOINTS, Resource, Resources

Named: TypeAlias = Mapping[str, Resource]
"""resource name -> resource, of one type"""

NOTHING: Named = {}
_IDENTITY = attrgetter("name", "version")
_RECENT_BYTES = 16 << 20
_LARGE = 100
"""Resources of a mapping whose versions are worth remembering."""
_REMEMBERED = 64


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Response:
    """A framed response. `nonce` is the hash of its content, so that all proxies can share the very same bytes.

    It exists for as long as some session waits for an answer to it, and a while longer for who connects next.
    """

    nonce: str
    body: bytes
    versions: Mapping[str, str | None]
    """resource name -> version sent, or None for a removal"""


@dataclass(frozen=True, slots=True)
class Move:
    """What takes a proxy from one target to the next."""

    response: Response
    before: Mapping[str, str | None]
    """resource name -> version of the target before, or None where it was not there"""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """From one state of a layer to another."""

    old: Resources
    new: Resources
    changed: Mapping[str, frozenset[str]]
    """By type, the names whose version differs, or that only one side has."""
    moves: dict[frozenset[str], Move] = field(default_factory=dict)
    """What it means for proxies that want these of the endpoints."""


class Store:
    """Shared by all sessions of one control plane; sessions only read from it."""

    def __init__(self) -> None:
        self._resources: WeakValueDictionary[tuple[str, str, str], Resource] = WeakValueDictionary()
        self._responses: WeakValueDictionary[tuple[object, ...], Response] = WeakValueDictionary()
        self._names: WeakValueDictionary[int, frozenset[str]] = WeakValueDictionary()
        self._recent: deque[Response] = deque()
        self._recent_bytes = 0
        self._steps: dict[tuple[int, int], Step] = {}
        self._versions: dict[int, tuple[Named, Mapping[str, str]]] = {}
        self.bytes_framed = 0

    def intern(self, resources: Resources, before: Resources | None = None) -> Resources:
        """The same resources, with every one that exists already replaced by the one that exists.

        `before` is what these follow upon: where nothing changed, its very mappings are given back.
        """
        known = before or {}
        return {
            type_url: self._interned(type_url, named, known.get(type_url, NOTHING))
            for type_url, named in resources.items()
        }

    def _interned(self, type_url: str, named: Named, before: Named) -> Named:
        changed = {name: self._one(type_url, one) for name, one in named.items() if before.get(name) is not one}
        if not changed and len(named) == len(before):
            return before
        return {**named, **changed} if changed else named

    def _one(self, type_url: str, resource: Resource) -> Resource:
        return self._resources.setdefault((type_url, resource.name, resource.version), resource)

    @property
    def unique(self) -> tuple[int, int]:
        """How many different resources are alive, and the sum of their bytes."""
        alive = list(self._resources.values())
        return len(alive), sum(len(resource.body) for resource in alive)

    def step(self, old: Resources, new: Resources) -> Step:
        """Remembered until `sweep`."""
        key = (id(old), id(new))
        if (known := self._steps.get(key)) is None:
            found = {url: _changed(old.get(url, NOTHING), new.get(url, NOTHING)) for url in {**old, **new}}
            known = Step(old, new, {url: names for url, names in found.items() if names})
            self._steps[key] = known  # holding both sides keeps their ids from being used again
        return known

    def move(self, step: Step, names: frozenset[str]) -> Move:
        """All that the step changes of these endpoints, in one response."""
        if (known := step.moves.get(names)) is None:
            old, new = step.old.get(ENDPOINTS, NOTHING), step.new.get(ENDPOINTS, NOTHING)
            ordered = sorted(names)
            resources = tuple(new[name] for name in ordered if name in new)
            response = self.delta(ENDPOINTS, resources, tuple(name for name in ordered if name not in new))
            known = Move(response, {name: old[name].version if name in old else None for name in ordered})
            step.moves[names] = known
        return known

    def versions(self, named: Named) -> Mapping[str, str]:
        """name -> version. What is large is shared, and remembered until `sweep`, or until there is too much of it."""
        if len(named) < _LARGE:
            return {name: resource.version for name, resource in named.items()}
        if (known := self._versions.get(id(named))) is None:
            if len(self._versions) >= _REMEMBERED:
                self._versions.clear()
            known = (named, {name: resource.version for name, resource in named.items()})
            self._versions[id(named)] = known
        return known[1]

    def sweep(self) -> None:
        """Forget remembered steps: the states they lead from are history once a push went out."""
        self._steps.clear()
        self._versions.clear()

    def shared(self, names: AbstractSet[str]) -> frozenset[str]:
        """The set itself, or the equal one that others have."""
        frozen = frozenset(names)
        known = self._names.setdefault(hash(frozen), frozen)
        return known if known == frozen else frozen

    def delta(self, type_url: str, resources: tuple[Resource, ...], removed: tuple[str, ...]) -> Response:
        key = (type_url, removed, *map(_IDENTITY, resources))
        return self._responses.get(key) or self._keep(key, _delta(type_url, resources, removed, _digest(key)))

    def sotw(self, type_url: str, resources: tuple[Resource, ...], version: str, nonce: str) -> Response:
        key = (type_url, version, nonce)
        if known := self._responses.get(key):
            return known
        versions = {resource.name: resource.version for resource in resources}
        return self._keep(key, Response(nonce, wire.sotw_response(type_url, resources, version, nonce), versions))

    def _keep(self, key: tuple[object, ...], response: Response) -> Response:
        self._responses[key] = response
        self._recent.append(response)
        self._recent_bytes += len(response.body)
        while self._recent_bytes > _RECENT_BYTES and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.popleft().body)
        self.bytes_framed += len(response.body)
        return response


def _changed(old: Named, new: Named) -> frozenset[str]:
    if old is new:
        return frozenset()
    gone = (name for name in old if name not in new)
    other = (
        name for name, resource in new.items() if (known := old.get(name)) is None or known.version != resource.version
    )
    return frozenset((*gone, *other))


def _delta(type_url: str, resources: tuple[Resource, ...], removed: tuple[str, ...], nonce: str) -> Response:
    versions: dict[str, str | None] = {resource.name: resource.version for resource in resources}
    versions.update(dict.fromkeys(removed))
    return Response(nonce, wire.delta_response(type_url, resources, removed, nonce), versions)


def _digest(key: tuple[object, ...]) -> str:
    return blake2b(repr(key).encode(), digest_size=8).hexdigest()
