"""Garbage collection: dependents go when their owners do, in the way that the owner's deletion asked for.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from mizzen.embedded.controllers.cluster import MANAGER
from mizzen.embedded.controllers.discovery import deletable_resources
from mizzen.embedded.controllers.ownership import (
    FOREGROUND,
    ORPHAN,
    Graph,
    Keep,
    Node,
    OwnerState,
    Remove,
    fate,
    metadata_only,
    same_ownership,
    without_owners,
)
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import WELL_KNOWN, Api, ApiError, Conflict, NotFound, Preconditions, Resource
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change, Key

log = logging.getLogger(__name__)
REDISCOVERY = 30.0
"""Seconds between looks for new resource types; new custom resources are noticed at once."""
BETWEEN = 0.2
"""Seconds to wait after a change of definitions, as they come in flocks."""
IGNORED = frozenset({"events"})


class Garbage:
    """Follows the metadata of every type that discovery names."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._graph = Graph()
        self._informers: dict[Resource, tuple[Informer, asyncio.Task[None]]] = {}
        self._types_changed = asyncio.Event()
        self.work = Worklist("garbage", self.sync)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._discover(group)
                for informer, _ in list(self._informers.values()):
                    await informer.wait_synced()
                self.work.start()
                while True:
                    await self._wait_for_types()
                    await self._discover(group)
        finally:
            await self.work.stop()

    async def _wait_for_types(self) -> None:
        try:
            async with asyncio.timeout(REDISCOVERY):
                await self._types_changed.wait()
            await asyncio.sleep(BETWEEN)
        except TimeoutError:
            pass  # look anyhow
        self._types_changed.clear()

    async def _discover(self, group: asyncio.TaskGroup) -> None:
        try:
            present = {each for each in await deletable_resources(self._api) if each.plural not in IGNORED}
        except ApiError as error:
            log.warning("cannot discover resource types: %s", error.message)
            return
        for resource in present - self._informers.keys():
            informer = Informer(self._api, resource, same=same_ownership, reduce=metadata_only)
            informer.subscribe(self._listener(resource))
            self._informers[resource] = informer, group.create_task(informer.run())
        for resource in self._informers.keys() - present:
            _, task = self._informers.pop(resource)
            task.cancel()

    def _listener(self, resource: Resource) -> Callable[[Sequence[Change]], None]:
        def listen(changes: Sequence[Change]) -> None:
            for change in changes:
                self._take(resource, change)
            if resource == WELL_KNOWN.crds:
                self._types_changed.set()

        return listen

    def _take(self, resource: Resource, change: Change) -> None:
        concerned: list[str] = []
        if change.old is not None and (change.new is None or _uid(change.old) != _uid(change.new)):
            concerned += self._graph.remove(_uid(change.old))
        if change.new is not None:
            concerned += self._graph.put(Node.of(resource, change.new))
        elif change.old is not None:
            concerned += self._graph.remove(_uid(change.old))
        for uid in concerned:
            self.work.add(("", uid))

    async def sync(self, key: Key) -> float | None:
        node = self._graph.get(key[1])
        if node is None:
            return None
        if node.waits_for_dependents:
            await self._finish_foreground(node)
        elif node.orphans_dependents:
            await self._orphan(node)
        elif node.owners and not node.deleting:
            await self._judge(node)
        return None

    async def _judge(self, node: Node) -> None:
        states = {reference["uid"]: await self._owner_state(node, reference) for reference in node.owners}
        match fate(node, states, bool(self._graph.dependents(node.uid))):
            case Keep(drop) if drop:
                references = without_owners(node.owners, drop)
                await self._patch(node, {"ownerReferences": references})
            case Remove(propagation):
                only_this = Preconditions(uid=node.uid)
                namespace, name = node.key
                await self._api.delete(node.resource, name, namespace, propagation=propagation, preconditions=only_this)

    async def _owner_state(self, node: Node, reference: dict[str, str]) -> OwnerState:
        state = self._graph.owner_state(reference)
        if state is not OwnerState.UNKNOWN:
            return state
        resource = self._resource_of(reference)
        if resource is None:
            return OwnerState.ALIVE  # of a type that is not served (any more): who knows; nothing is lost
        try:
            owner = await self._api.get(resource, reference["name"], node.key[0] if resource.namespaced else None)
        except NotFound:
            return OwnerState.GONE
        return OwnerState.ALIVE if _uid(owner) == reference["uid"] else OwnerState.GONE

    def _resource_of(self, reference: dict[str, str]) -> Resource | None:
        group = reference["apiVersion"].rpartition("/")[0]
        known = (each for each in self._informers if (each.group, each.kind) == (group, reference["kind"]))
        return next(known, None)

    async def _finish_foreground(self, node: Node) -> None:
        """The owner goes when no dependent that blocks it is left."""
        if not any(each.blocks(node.uid) for each in self._graph.dependents(node.uid)):
            await self._drop_finalizer(node, FOREGROUND)

    async def _orphan(self, node: Node) -> None:
        for dependent in self._graph.dependents(node.uid):
            references = without_owners(dependent.owners, {node.uid})
            await self._patch(dependent, {"ownerReferences": references})
        await self._drop_finalizer(node, ORPHAN)

    async def _drop_finalizer(self, node: Node, finalizer: str) -> None:
        kept = [each for each in node.finalizers if each != finalizer]
        await self._patch(node, {"finalizers": kept})

    async def _patch(self, node: Node, metadata: dict[str, object]) -> None:
        """Raises Conflict when the object changed meanwhile; the look that follows knows more."""
        namespace, name = node.key
        live = await self._api.get(node.resource, name, namespace)
        if _uid(live) != node.uid:
            return
        fresh = Node.of(node.resource, live)
        if (fresh.owners, fresh.finalizers) != (node.owners, node.finalizers):
            self._graph.put(fresh)
            raise Conflict(409, "Conflict", f"{name} has changed since it was looked at")
        guarded = {"uid": node.uid, "resourceVersion": live["metadata"]["resourceVersion"], **metadata}
        await self._api.patch(node.resource, name, {"metadata": guarded}, namespace, options=MANAGER)


def _uid(obj: dict[str, dict[str, str]]) -> str:
    return obj["metadata"]["uid"]
