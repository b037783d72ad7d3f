"""Who owns whom: a graph of the metadata of all objects, and what it says should become of one. Pure.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from mizzen.kube.api import JSON, Propagation, Resource
from mizzen.kube.reflector import Key, key_of

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
_KEPT = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")
_COMPARED = ("uid", "ownerReferences", "finalizers", "deletionTimestamp")


def metadata_only(obj: JSON) -> JSON:
    """What the graph needs of an object."""
    return {"metadata": {key: obj["metadata"][key] for key in _KEPT if key in obj["metadata"]}}


def same_ownership(old: JSON, new: JSON) -> bool:
    return all(old["metadata"].get(key) == new["metadata"].get(key) for key in _COMPARED)


@dataclass(frozen=True, slots=True)
class Node:
    resource: Resource
    key: Key
    uid: str
    resource_version: str
    owners: tuple[JSON, ...]
    finalizers: tuple[str, ...]
    deleting: bool

    @classmethod
    def of(cls, resource: Resource, obj: JSON) -> Node:
        metadata = obj["metadata"]
        return cls(
            resource,
            key_of(obj),
            metadata["uid"],
            metadata["resourceVersion"],
            tuple(metadata.get("ownerReferences") or ()),
            tuple(metadata.get("finalizers") or ()),
            bool(metadata.get("deletionTimestamp")),
        )

    @property
    def waits_for_dependents(self) -> bool:
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def orphans_dependents(self) -> bool:
        return self.deleting and ORPHAN in self.finalizers

    def blocks(self, owner_uid: str) -> bool:
        return any(each["uid"] == owner_uid and each.get("blockOwnerDeletion") for each in self.owners)


class OwnerState(Enum):
    ALIVE = "alive"
    WAITING = "in foreground deletion, waiting for its dependents"
    GONE = "gone"
    UNKNOWN = "not in the graph; the server must be asked"


class Graph:
    """Every object by uid, and the dependents of each uid, also of owners that are not there."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def put(self, node: Node) -> list[str]:
        """Takes a new or changed object in; returns the uids that need a look."""
        self._forget(node.uid)
        self._nodes[node.uid] = node
        for owner in node.owners:
            self._dependents.setdefault(owner["uid"], set()).add(node.uid)
        concerned = [node.uid] if node.owners or node.deleting else []
        if node.waits_for_dependents:
            concerned += self._dependents.get(node.uid, ())
        return concerned + self._waiting_owners(node)

    def remove(self, uid: str) -> list[str]:
        """Takes an object out; its dependents need a look, and owners that waited for it."""
        node = self._forget(uid)
        waiting = self._waiting_owners(node) if node is not None else []
        return [*self._dependents.get(uid, ()), *waiting]

    def dependents(self, uid: str) -> list[Node]:
        return [self._nodes[each] for each in self._dependents.get(uid, ()) if each in self._nodes]

    def owner_state(self, reference: JSON) -> OwnerState:
        owner = self._nodes.get(reference["uid"])
        if owner is None:
            return OwnerState.UNKNOWN
        return OwnerState.WAITING if owner.waits_for_dependents else OwnerState.ALIVE

    def _waiting_owners(self, node: Node) -> list[str]:
        owners = (self._nodes.get(reference["uid"]) for reference in node.owners)
        return [owner.uid for owner in owners if owner is not None and owner.waits_for_dependents]

    def _forget(self, uid: str) -> Node | None:
        node = self._nodes.pop(uid, None)
        for owner in node.owners if node is not None else ():
            siblings = self._dependents[owner["uid"]]
            siblings.discard(uid)
            if not siblings:
                del self._dependents[owner["uid"]]
        return node


@dataclass(frozen=True, slots=True)
class Keep:
    """The object stays; `drop` are the uids of owners that it should no longer name."""

    drop: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Remove:
    """The object goes."""

    propagation: Propagation


def fate(node: Node, owners: Mapping[str, OwnerState], has_dependents: bool) -> Keep | Remove:
    """What becomes of an object, given the state of each owner by uid."""
    if not node.owners or node.deleting:
        return Keep()
    lost = frozenset(uid for uid, state in owners.items() if state is not OwnerState.ALIVE)
    if lost < owners.keys():
        return Keep(lost)
    if has_dependents and OwnerState.WAITING in owners.values():
        return Remove("Foreground")
    if ORPHAN in node.finalizers:
        return Remove("Orphan")
    return Remove("Foreground" if FOREGROUND in node.finalizers else "Background")


def without_owners(references: Iterable[JSON], dropped: Iterable[str]) -> list[JSON]:
    gone = set(dropped)
    return [each for each in references if each["uid"] not in gone]
