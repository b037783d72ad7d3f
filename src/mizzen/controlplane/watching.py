"""What istiod watches, and how it becomes typed: one informer per kind, one stream of changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from mizzen.api import base, core
from mizzen.api.apps import ReplicaSet
from mizzen.api.decode import Undecodable, convert
from mizzen.api.discovery import EndpointSlice
from mizzen.api.ingress import Ingress, IngressClass
from mizzen.api.registry import KINDS
from mizzen.kube.api import WELL_KNOWN, Api, Resource
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change as Observed
from mizzen.kube.reflector import Key, same_intent
from mizzen.scope.credentials import KEYS
from mizzen.scope.snapshot import MESH_CONFIG_MAP, SYSTEM_NAMESPACE, WATCHED, Change
from mizzen.scope.standins import stand_in

JSON: TypeAlias = dict[str, Any]
Kind: TypeAlias = type[base.Resource]
log = logging.getLogger(__name__)

INJECTOR_CONFIG_MAP = "istio-sidecar-injector"
SETTINGS = (MESH_CONFIG_MAP, INJECTOR_CONFIG_MAP)

MESH_KINDS: dict[Kind, Resource] = {
    one.struct: Resource(one.group, one.storage_version, one.plural, one.kind) for one in KINDS if one.struct in WATCHED
}
CORE_KINDS: dict[Kind, Resource] = {
    core.Service: WELL_KNOWN.services,
    EndpointSlice: WELL_KNOWN.endpointslices,
    core.Pod: WELL_KNOWN.pods,
    core.Node: WELL_KNOWN.nodes,
    core.Namespace: WELL_KNOWN.namespaces,
    core.ConfigMap: WELL_KNOWN.configmaps,
    core.Secret: WELL_KNOWN.secrets,
    ReplicaSet: WELL_KNOWN.replicasets,
    Ingress: WELL_KNOWN.ingresses,
    IngressClass: WELL_KNOWN.ingressclasses,
}


def _without_bookkeeping(obj: JSON) -> JSON:
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def _container(container: JSON) -> JSON:
    return {key: container[key] for key in ("name", "ports") if key in container}


def _pod(obj: JSON) -> JSON:
    """Most of a Pod does not concern a mesh, and there are many."""
    spec = obj.get("spec") or {}
    kept = {key: spec[key] for key in ("serviceAccountName", "nodeName", "hostNetwork", "hostname") if key in spec}
    containers = {key: [_container(one) for one in spec.get(key) or ()] for key in ("containers", "initContainers")}
    return {"metadata": _without_bookkeeping(obj)["metadata"], "spec": {**kept, **containers}}


def _secret(obj: JSON) -> JSON:
    """Nothing but certificates and their keys: other Secrets are none of our business."""
    data = obj.get("data") or {}
    kept = {key: data[key] for key in data if key in KEYS}
    return {"metadata": _without_bookkeeping(obj)["metadata"], "type": obj.get("type", ""), "data": kept}


def config_map(obj: JSON) -> JSON:
    """Settings of the mesh, and authorities. What else ConfigMaps hold is none of our business."""
    kept = _without_bookkeeping(obj)
    if obj["metadata"]["name"] in SETTINGS:
        return kept
    data = obj.get("data") or {}
    return {"metadata": kept["metadata"], "data": {key: data[key] for key in data if key in KEYS}}


def _replica_set(obj: JSON) -> JSON:
    return {"metadata": _without_bookkeeping(obj)["metadata"]}


def _same_addresses(old: JSON, new: JSON) -> bool:
    """The status of a Service says where the gateway can be reached, and that is what Ingresses tell."""
    return same_intent(old, new) and old.get("status") == new.get("status")


_REDUCED: dict[Kind, Callable[[JSON], JSON]] = {
    core.Pod: _pod,
    core.Secret: _secret,
    core.ConfigMap: config_map,
    ReplicaSet: _replica_set,
}


class Unreadable(NamedTuple):
    """A stored object that cannot be read as its kind."""

    metadata: base.Metadata
    status: JSON | None
    reason: str
    kept: bool
    """An older version is still in force."""


class Watching:
    """Informers of all kinds. `pending` gathers what changed since `take`; `wake` is called when there is something."""

    def __init__(self, api: Api, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._pending: list[Change] = []
        self.undecodable: dict[tuple[Kind, Key], Unreadable] = {}
        """Stored objects that are not in force as they are."""
        self._news_of_unread = False
        self._read: set[tuple[Kind, Key]] = set()
        """Objects of which a version could be read."""
        self.informers: dict[Kind, Informer] = {}
        for kind, resource in {**CORE_KINDS, **MESH_KINDS}.items():
            namespace = SYSTEM_NAMESPACE if kind is core.ConfigMap else None
            reduce = _REDUCED.get(kind, _without_bookkeeping)
            same = _same_addresses if kind is core.Service else same_intent
            informer = Informer(api, resource, namespace, same=same, reduce=reduce)
            informer.subscribe(lambda changes, kind=kind: self._observed(kind, changes))  # type: ignore[misc]
            self.informers[kind] = informer

    def take(self) -> list[Change]:
        """What changed since the last call."""
        taken, self._pending = self._pending, []
        return taken

    def take_unread(self) -> bool:
        """Whether `undecodable` changed since the last call."""
        news, self._news_of_unread = self._news_of_unread, False
        return news

    async def synced(self) -> None:
        for informer in self.informers.values():
            await informer.wait_synced()

    @property
    def behind(self) -> list[str]:
        """Kinds that cannot be followed at the moment, and why."""
        return [
            f"{informer.resource.plural}: {informer.last_error.message}"
            for informer in self.informers.values()
            if informer.last_error is not None
        ]

    def _observed(self, kind: Kind, changes: Sequence[Observed]) -> None:
        self._pending += [typed for change in changes if (typed := self._typed(kind, change)) is not None]
        self._wake()

    def _typed(self, kind: Kind, change: Observed) -> Change | None:
        """None for an object that cannot be read: what was in force before stays so. Without anything before, a policy
        has something that stands in for it."""
        namespace, name = change.key
        if self.undecodable.pop((kind, change.key), None) is not None:
            self._news_of_unread = True
        if change.new is None:
            self._read.discard((kind, change.key))
            return Change(kind, namespace, name, None)
        try:
            typed = convert(change.new, kind)
        except Undecodable as error:
            log.warning("%s %s.%s cannot be read: %s", kind.__name__, name, namespace, error)
            return self._unread(kind, change.key, change.new, str(error))
        self._read.add((kind, change.key))
        return Change(kind, namespace, name, typed)

    def _unread(self, kind: Kind, key: Key, document: JSON, reason: str) -> Change | None:
        self._news_of_unread = True
        metadata = convert(document["metadata"], base.Metadata)
        replaced = (kind, key) not in self._read
        self.undecodable[kind, key] = Unreadable(metadata, document.get("status"), reason, kept=not replaced)
        found = stand_in(kind, metadata, document) if replaced else None
        return Change(kind, *key, found) if found is not None else None
