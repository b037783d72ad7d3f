"""A snapshot of what a cluster holds, for questions that istiod answers for itself all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from mizzen.api import base, core
from mizzen.api.apps import ReplicaSet
from mizzen.api.decode import Undecodable, convert
from mizzen.api.discovery import EndpointSlice
from mizzen.api.registry import KINDS
from mizzen.kube.api import WELL_KNOWN, Api, NotFound, Resource
from mizzen.scope.snapshot import MESH_CONFIG_MAP, WATCHED, Snapshot

MESH: dict[type[base.Resource], Resource] = {
    one.struct: Resource(one.group, one.storage_version, one.plural, one.kind) for one in KINDS if one.struct in WATCHED
}
_CORE: dict[type[base.Resource], Resource] = {
    core.Service: WELL_KNOWN.services,
    EndpointSlice: WELL_KNOWN.endpointslices,
    core.Pod: WELL_KNOWN.pods,
    ReplicaSet: WELL_KNOWN.replicasets,
}


async def snapshot(api: Api, system_namespace: str = "istio-system") -> Snapshot:
    """Without Secrets and Nodes. Objects that cannot be read are left out, as istiod leaves them out.

    Raises ApiError.
    """
    kinds: dict[type[base.Resource], Resource] = {**_CORE, **MESH}
    found = await asyncio.gather(*(_listed(api, kind, resource) for kind, resource in kinds.items()))
    mesh = await _mesh_config(api, system_namespace)
    return Snapshot.of([*mesh, *(obj for objects in found for obj in objects)])


async def _listed(api: Api, kind: type[base.Resource], resource: Resource) -> list[base.Resource]:
    try:
        items = (await api.list(resource)).items
    except NotFound:
        return []  # a kind whose definition is not installed
    return list(_readable(items, kind))


def _readable(items: Iterable[dict[str, Any]], kind: type[base.Resource]) -> Iterable[base.Resource]:
    for one in items:
        try:
            yield convert(one, kind)
        except Undecodable:
            continue


async def _mesh_config(api: Api, namespace: str) -> list[base.Resource]:
    try:
        return [convert(await api.get(WELL_KNOWN.configmaps, MESH_CONFIG_MAP, namespace), core.ConfigMap)]
    except NotFound:
        return []
