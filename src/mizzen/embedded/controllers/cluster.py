"""The cluster as controllers hold it in memory: every collection they follow, indexed, and their own writes at once.

A write's answer goes into the cache before the next look, so no controller makes a second Pod because it has not heard
of the first. (Kubernetes' controllers, whose API server is remote, keep counts of "expectations" instead.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from mizzen.embedded.controllers.objects import controller_of, timestamp
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import (
    EVERYTHING,
    JSON,
    WELL_KNOWN,
    Api,
    ApiError,
    NotFound,
    Preconditions,
    Propagation,
    Resource,
    Selector,
    WriteOptions,
)
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change, Key, key_of, same_revision

MANAGER = WriteOptions(manager="kube-controller-manager")
EVENT_DELAY = 0.05
"""Seconds: what the event tells of goes first."""
log = logging.getLogger(__name__)


class Collection:
    """One resource type, with indexes by namespace and by controller."""

    def __init__(self, api: Api, resource: Resource, selector: Selector) -> None:
        self.selector = selector
        self.informer = Informer(api, resource, selector=selector, same=same_revision)
        self._by_namespace: dict[str, dict[Key, JSON]] = {}
        self._by_controller: dict[tuple[str, str], dict[Key, JSON]] = {}
        self.informer.subscribe(self._index)

    def within(self, namespace: str) -> Sequence[JSON]:
        return list(self._by_namespace.get(namespace, {}).values())

    def controlled(self, namespace: str, uid: str) -> Sequence[JSON]:
        """The objects whose controller is `uid`; "" is for those that have none."""
        return list(self._by_controller.get((namespace, uid), {}).values())

    def _index(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._take_out(change.key, change.old)
            self._take_out(change.key, change.new)
            if change.new is not None:
                self._by_namespace.setdefault(change.key[0], {})[change.key] = change.new
                self._by_controller.setdefault(_controller_key(change.new), {})[change.key] = change.new

    def _take_out(self, key: Key, obj: JSON | None) -> None:
        self._by_namespace.get(key[0], {}).pop(key, None)
        if obj is not None:
            self._by_controller.get(_controller_key(obj), {}).pop(key, None)


def _controller_key(obj: JSON) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", (controller_of(obj) or {}).get("uid", "")


class Cluster:
    """What every controller is given."""

    def __init__(self, api: Api, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.api = api
        self.now = now
        self._collections: dict[Resource, Collection] = {}
        self._events: set[asyncio.Task[None]] = set()

    def timestamp(self) -> str:
        return timestamp(self.now())

    def collection(self, resource: Resource, selector: Selector = EVERYTHING) -> Collection:
        """Of the objects that are selected, which must be the same for all who ask."""
        if resource not in self._collections:
            self._collections[resource] = Collection(self.api, resource, selector)
        found = self._collections[resource]
        assert found.selector == selector
        return found

    def feed(
        self,
        resource: Resource,
        work: Worklist,
        keys: Callable[[Change], Iterable[Key]] | None = None,
        selector: Selector = EVERYTHING,
    ) -> None:
        """Have `work` look at the keys that a change concerns; without `keys`, at the object that changed."""

        def listen(changes: Sequence[Change]) -> None:
            for change in changes:
                for key in keys(change) if keys else (change.key,):
                    work.add(key)

        self.collection(resource, selector).informer.subscribe(listen)

    async def run(self) -> None:
        """Follows everything that controllers asked for before this call."""
        try:
            async with asyncio.TaskGroup() as group:
                for collection in self._collections.values():
                    group.create_task(collection.informer.run())
        finally:
            for task in self._events:
                task.cancel()

    async def wait_synced(self) -> None:
        for collection in self._collections.values():
            await collection.informer.wait_synced()

    def get(self, resource: Resource, key: Key) -> JSON | None:
        return self._collections[resource].informer.objects.get(key)

    def all(self, resource: Resource) -> Mapping[Key, JSON]:
        return self._collections[resource].informer.objects

    def within(self, resource: Resource, namespace: str) -> Sequence[JSON]:
        return self._collections[resource].within(namespace)

    def controlled(self, resource: Resource, owner: JSON) -> Sequence[JSON]:
        return self._collections[resource].controlled(key_of(owner)[0], owner["metadata"]["uid"])

    def uncontrolled(self, resource: Resource, namespace: str) -> Sequence[JSON]:
        return self._collections[resource].controlled(namespace, "")

    def written(self, resource: Resource, obj: JSON) -> None:
        """Take in an object that the server has just answered with."""
        if resource in self._collections:
            self._collections[resource].informer.written(obj)

    async def create(self, resource: Resource, obj: JSON, namespace: str | None = None) -> JSON:
        made = await self.api.create(resource, obj, namespace, MANAGER)
        self.written(resource, made)
        return made

    async def replace(self, resource: Resource, obj: JSON, subresource: str | None = None) -> JSON:
        made = await self.api.replace(resource, obj, key_of(obj)[0], subresource=subresource, options=MANAGER)
        self.written(resource, made)
        return made

    async def set_status(self, resource: Resource, obj: JSON, status: JSON) -> JSON:
        """Writes a status that differs from the object's own."""
        if status == (obj.get("status") or {}):
            return obj
        return await self.replace(resource, {**obj, "status": status}, "status")

    async def patch(self, resource: Resource, obj: JSON, patch: JSON) -> JSON:
        """A merge patch of this very object: a namesake made since then is not touched."""
        namespace, name = key_of(obj)
        metadata = {"uid": obj["metadata"]["uid"], **patch.get("metadata", {})}
        made = await self.api.patch(resource, name, {**patch, "metadata": metadata}, namespace, options=MANAGER)
        self.written(resource, made)
        return made

    async def delete(
        self,
        resource: Resource,
        obj: JSON,
        *,
        propagation: Propagation | None = "Background",
        grace_seconds: int | None = None,
    ) -> None:
        """Deletes this very object; it is well when it is gone already."""
        namespace, name = key_of(obj)
        only_this = Preconditions(uid=obj["metadata"]["uid"])
        try:
            answer = await self.api.delete(
                resource, name, namespace, propagation=propagation, grace_seconds=grace_seconds, preconditions=only_this
            )
        except NotFound:
            answer = {}
        collection = self._collections.get(resource)
        if collection is None:
            return
        if "deletionTimestamp" in answer.get("metadata", {}):
            collection.informer.written(answer)
        else:
            collection.informer.deleted(obj)

    def record(self, obj: JSON, type: str, reason: str, message: str, source: str = MANAGER.manager) -> None:
        """An Event for `kubectl describe`, written beside the work: nothing waits for it."""
        event = {**_event(obj, type, reason, message, self.timestamp()), "source": {"component": source}}
        task = asyncio.create_task(self._write_event(event))
        self._events.add(task)
        task.add_done_callback(self._events.discard)

    async def _write_event(self, event: JSON) -> None:
        await asyncio.sleep(EVENT_DELAY)
        try:
            await self.api.create(WELL_KNOWN.events, event, event["metadata"]["namespace"], MANAGER)
        except ApiError as error:
            name = event["involvedObject"]["name"]
            log.info("event %s of %s was not recorded: %s", event["reason"], name, error.message)


def _event(obj: JSON, type: str, reason: str, message: str, now: str) -> JSON:
    metadata = obj["metadata"]
    name = f"{metadata['name']}.{time.time_ns():x}"  # a list of them is in their order
    reference = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
    return {
        "metadata": {"name": name, "namespace": metadata.get("namespace") or "default"},
        "involvedObject": {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **reference},
        "type": type,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
    }


def owners_of_kind(resource: Resource) -> Callable[[Change], Iterable[Key]]:
    """For `Cluster.feed`: the keys of an object's controller, before and after, when it is of this kind."""

    def keys(change: Change) -> Iterable[Key]:
        for obj in (change.old, change.new):
            owner = controller_of(obj) if obj is not None else None
            if owner is not None and owner["kind"] == resource.kind:
                yield change.key[0], owner["name"]

    return keys
