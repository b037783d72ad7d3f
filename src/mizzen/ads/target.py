"""What one proxy is to hold: layers of resources, most of them shared with other proxies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mizzen.ads.store import NOTHING, Named
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, PUSH_ORDER, ROUTES, Resource, Resources

Layers: TypeAlias = tuple[Resources, ...]
"""Looked up from first to last. A sidecar's are what its namespace calls, what its workload serves, all endpoints."""

ALL_AT_ONCE = frozenset({CLUSTER, LISTENER})
"""Types that are asked for as a whole (wildcard) when a first request names nothing."""
ONE_PER_RESPONSE = frozenset({EXTENSION})
"""A refused extension configuration takes its siblings of the same response with it, unlike clusters and listeners."""
REFERS_TO_CLUSTERS = frozenset({LISTENER, ROUTES})
HELD_BACK_BY = {LISTENER: (CLUSTER, EXTENSION), ROUTES: (CLUSTER,)}
"""Types that wait until others are acknowledged. Envoy acknowledges clusters once they are warm; a listener must not
come before the rules that guard it."""
REFERRED_TO = frozenset({CLUSTER, ENDPOINTS})
"""Removed only when nothing that may refer to them is on its way."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a proxy said about a version that it did not take. It is never sent to it again."""

    version: str
    message: str


def rank(type_url: str) -> int:
    """Position in PUSH_ORDER; unknown types go last."""
    return PUSH_ORDER.index(type_url) if type_url in PUSH_ORDER else len(PUSH_ORDER)


def find(layers: Layers, type_url: str, name: str) -> Resource | None:
    for layer in layers:  # a loop without anything else: this is asked for each name of each proxy
        named = layer.get(type_url)
        if named is not None and name in named:
            return named[name]
    return None


def table(layers: Layers, type_url: str) -> Named:
    """All that the layers hold of a type, by name. Where one layer alone has the type, its very mapping."""
    found = [named for layer in layers if (named := layer.get(type_url))]
    if len(found) == 1:
        return found[0]
    merged: dict[str, Resource] = {}
    for named in reversed(found):
        merged.update(named)
    return merged


def names(layers: Layers, type_url: str) -> Iterator[str]:
    for layer in layers:
        yield from layer.get(type_url, NOTHING)
