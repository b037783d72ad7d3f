"""What each kind of proxy is to hold: views resolved, translated, and kept until something they depend on changes.

Work is done per view, not per proxy. A view's scope that comes out as the same object is not translated again;
endpoints are a table beside it, in which a change touches single clusters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import is_
from typing import Any, TypeAlias

from mizzen.ads.store import Store
from mizzen.ads.target import Layers
from mizzen.api.base import Problem
from mizzen.controlplane.push import Touched
from mizzen.envoy.resources import ENDPOINTS, Resource, Resources
from mizzen.scope import resolve
from mizzen.scope.endpoints import endpoints_of
from mizzen.scope.model import GatewayScope, InboundScope, OutboundScope, Resolution, Subset
from mizzen.scope.snapshot import Snapshot
from mizzen.scope.view import GatewayView, InboundView, OutboundView, Proxy, gateway_view, inbound_view, outbound_view
from mizzen.xds import translate
from mizzen.xds.endpoints import cluster_load_assignment

log = logging.getLogger(__name__)

View: TypeAlias = OutboundView | InboundView | GatewayView
Scope: TypeAlias = OutboundScope | InboundScope | GatewayScope

_MEANING: Mapping[type, tuple[Callable[[Snapshot, Any], Any], Callable[[Any], Resources]]] = {
    OutboundView: (resolve.outbound, translate.outbound),
    InboundView: (resolve.inbound, translate.inbound),
    GatewayView: (resolve.gateway, translate.gateway),
}


@dataclass(slots=True, eq=False)
class _Kept:
    """One view's answer."""

    scope: Scope
    resources: Resources
    clusters: dict[str, list[Subset]] = field(default_factory=dict)
    """Clusters whose endpoints we tell, by host."""
    endpoints: Resources = field(default_factory=dict)
    users: int = 0


class Views:
    """All views that some connected proxy has, at the newest snapshot."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._store = store
        self.failures = 0
        """How often a view could not be brought up to date."""
        self._kept: dict[View, _Kept] = {}
        self._steps: dict[tuple[object, ...], tuple[Resources, Resources]] = {}
        """Within one push: from one mapping of endpoints to the next."""
        self._assignments: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Resource]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, proxy: Proxy, kind: str) -> tuple[View, ...]:
        """The views of one proxy; `kind` is `sidecar` or `router`, as in its node id."""
        if kind == "router":
            return (gateway_view(self.snapshot, proxy),)
        return (outbound_view(self.snapshot, proxy), inbound_view(self.snapshot, proxy))

    def enter(self, views: Iterable[View]) -> None:
        """Some proxy has these views now."""
        for view in views:
            if view not in self._kept:
                self._kept[view] = self._resolved(view)
            self._kept[view].users += 1

    def leave(self, views: Iterable[View]) -> None:
        for view in views:
            kept = self._kept[view]
            kept.users -= 1
            if not kept.users:
                del self._kept[view]

    def layers(self, views: Iterable[View]) -> Layers:
        """What a proxy of these views is to hold. The same objects as before where nothing changed."""
        kept = [self._kept[view] for view in views]
        return (*(one.resources for one in kept), *(one.endpoints for one in kept if one.clusters))

    def scopes(self, views: Iterable[View]) -> tuple[Scope, ...]:
        """What proxies of these views are told follows from."""
        return tuple(self._kept[view].scope for view in views)

    def problems(self) -> frozenset[Problem]:
        """What all views together find wrong."""
        return frozenset(problem for kept in self._kept.values() for problem in kept.scope.problems)

    def advance(self, snapshot: Snapshot, touched: Touched) -> None:
        """Bring all views to a newer snapshot."""
        self.snapshot = snapshot
        if touched.all_endpoints:
            self._assignments.clear()
        for host in touched.hosts:
            self._assignments.pop(host, None)
        for view, kept in self._kept.items():
            if touched.scopes:
                self._try_to_resolve_again(view, kept)
            if kept.clusters:
                self._tell_endpoints(kept, kept.clusters.keys() if touched.all_endpoints else touched.hosts)
        self._steps.clear()

    def _resolved(self, view: View) -> _Kept:
        meaning, translated = _MEANING[type(view)]
        scope = meaning(self.snapshot, view)
        kept = _Kept(scope, self._store.intern(translated(scope)))
        self._tell_all_endpoints(kept)
        return kept

    def _try_to_resolve_again(self, view: View, kept: _Kept) -> None:
        """A mistake of ours in one view must not stop the others, nor take from its proxies what they have."""
        try:
            self._resolve_again(view, kept)
        except Exception:
            self.failures += 1
            log.exception("%s cannot be brought up to date; its proxies keep what they have", view)

    def _resolve_again(self, view: View, kept: _Kept) -> None:
        meaning, translated = _MEANING[type(view)]
        scope = meaning(self.snapshot, view)
        if scope is kept.scope:
            return
        same_clusters = _same_clusters(kept.scope, scope)
        kept.scope, kept.resources = scope, self._store.intern(translated(scope), kept.resources)
        if not same_clusters:
            self._tell_all_endpoints(kept)

    def _tell_all_endpoints(self, kept: _Kept) -> None:
        """For the clusters of a new scope. Views that come to the same share one mapping."""
        kept.clusters = _clusters(kept.scope)
        told = {one.cluster: self._assignment(one) for subsets in kept.clusters.values() for one in subsets}
        known = next((other.endpoints for other in self._kept.values() if _equal(other.endpoints, told)), None)
        kept.endpoints = known or {ENDPOINTS: told}

    def _tell_endpoints(self, kept: _Kept, hosts: Iterable[str]) -> None:
        """Put the newest assignments of these hosts' clusters in place; the old mapping stays when they are equal.

        Views that shared a mapping and take the same step share the next one.
        """
        old = kept.endpoints.get(ENDPOINTS, {})
        subsets = [subset for host in hosts for subset in kept.clusters.get(host, ())]
        newest = {subset.cluster: self._assignment(subset) for subset in subsets}
        fresh = {name: one for name, one in newest.items() if name not in old or old[name].version != one.version}
        if fresh:
            step = (id(kept.endpoints), *((name, one.version) for name, one in fresh.items()))
            before, after = self._steps.setdefault(step, (kept.endpoints, {ENDPOINTS: {**old, **fresh}}))
            assert before is kept.endpoints
            kept.endpoints = after

    def _assignment(self, subset: Subset) -> Resource:
        of_host = self._assignments.setdefault(subset.host, {})
        key = (subset.cluster, subset.labels)
        if key not in of_host:
            found = endpoints_of(self.snapshot, subset)
            of_host[key] = cluster_load_assignment(subset.cluster, found)
        return of_host[key]


def _equal(known: Resources, told: Mapping[str, Resource]) -> bool:
    """Assignments are made once, so that equal mappings hold the same objects."""
    other = known.get(ENDPOINTS, {})
    return len(other) == len(told) and all(other.get(name) is one for name, one in told.items())


def _same_clusters(old: Scope, new: Scope) -> bool:
    """Whether two scopes have the very same clusters: most edits change routes alone."""
    if isinstance(old, InboundScope) or isinstance(new, InboundScope):
        return True
    return len(old.subsets) == len(new.subsets) and all(map(is_, old.subsets, new.subsets))


def _clusters(scope: Scope) -> dict[str, list[Subset]]:
    found: dict[str, list[Subset]] = {}
    for subset in () if isinstance(scope, InboundScope) else scope.subsets:
        if subset.resolution is Resolution.EDS:
            found.setdefault(subset.host, []).append(subset)
    return found
