"""Pods that no node will ever finish, and Events that have had their hour.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from mizzen.embedded.controllers.cluster import Cluster
from mizzen.embedded.controllers.objects import is_deleting, moment
from mizzen.embedded.controllers.pods import is_finished
from mizzen.embedded.controllers.worklist import Worklist
from mizzen.kube.api import JSON, WELL_KNOWN, NotFound, Resource
from mizzen.kube.reflector import Change, Key, key_of

PODS, NODES, EVENTS = WELL_KNOWN.pods, WELL_KNOWN.nodes, WELL_KNOWN.events
EVENT_AGE = timedelta(hours=1)
ROUND = 300.0
"""Seconds between looks for old Events."""
MOST_FINISHED = 1000
"""Finished Pods that are kept; the oldest go first."""
EVENT_ROUND: Key = ("", "events")


class Leftovers:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.work = Worklist("leftovers", self.sync)
        cluster.feed(PODS, self.work, _suspects)
        cluster.feed(NODES, self.work, self._pods_of_node)
        self.work.add(EVENT_ROUND)

    def _pods_of_node(self, change: Change) -> Iterable[Key]:
        if change.new is None:
            pods = self._cluster.all(PODS).values()
            yield from [key_of(pod) for pod in pods if _node(pod) == change.key[1]]

    async def sync(self, key: Key) -> float | None:
        if key == EVENT_ROUND:
            await self._old_events()
            await self._many_finished()
            return ROUND
        pod = self._cluster.get(PODS, key)
        if pod is not None and self._is_stranded(pod):
            await self._cluster.delete(PODS, pod, propagation=None, grace_seconds=0)
        return None

    def _is_stranded(self, pod: JSON) -> bool:
        """Deleted without ever having had a node, or bound to one that is gone."""
        if not _node(pod):
            return is_deleting(pod)
        nodes = self._cluster.all(NODES)
        return bool(nodes) and ("", _node(pod)) not in nodes

    async def _old_events(self) -> None:
        oldest = self._cluster.now() - EVENT_AGE
        for event in (await self._cluster.api.list(EVENTS)).items:
            seen = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
            if moment(seen) < oldest:
                await self._delete_quietly(EVENTS, event)

    async def _many_finished(self) -> None:
        finished = [pod for pod in self._cluster.all(PODS).values() if is_finished(pod) and not is_deleting(pod)]
        finished.sort(key=lambda pod: pod["metadata"]["creationTimestamp"], reverse=True)
        for pod in finished[MOST_FINISHED:]:
            await self._cluster.delete(PODS, pod, propagation=None, grace_seconds=0)

    async def _delete_quietly(self, resource: Resource, obj: JSON) -> None:
        namespace, name = key_of(obj)
        try:
            await self._cluster.api.delete(resource, name, namespace)
        except NotFound:
            return  # someone was faster


def _suspects(change: Change) -> Iterable[Key]:
    """A Pod without a node that is being deleted, and every Pod when it first appears on one."""
    pod = change.new
    if pod is None:
        return
    newly_bound = bool(_node(pod)) and (change.old is None or not _node(change.old))
    if newly_bound or (is_deleting(pod) and not _node(pod)):
        yield change.key


def _node(pod: JSON) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""
