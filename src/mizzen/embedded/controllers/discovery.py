"""Which resource types a server has, by the discovery documents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mizzen.kube.api import JSON, Api, Resource

NEEDED = frozenset({"list", "watch", "delete"})


async def deletable_resources(api: Api) -> list[Resource]:
    """Every type whose objects can be listed, watched and deleted, in one version each."""
    groups = (await api.raw("GET", "/apis"))["groups"]
    versions = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    documents = await asyncio.gather(*(api.raw("GET", path) for path in versions))
    return [resource for document in documents for resource in _resources(document)]


async def namespaced_resources(api: Api) -> list[Resource]:
    return [resource for resource in await deletable_resources(api) if resource.namespaced]


def _resources(document: JSON) -> Iterable[Resource]:
    group, _, version = document["groupVersion"].rpartition("/")
    for each in document["resources"]:
        if "/" not in each["name"] and set(each["verbs"]) >= NEEDED:
            yield Resource(group, version, each["name"], each["kind"], each["namespaced"])
