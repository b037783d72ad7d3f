"""The list-and-watch state machine: what a collection looks like now, and what just changed in it. Pure.

Lists and watch events go in, `Change`s come out. `informer` does the talking.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from mizzen.kube.api import JSON, ObjectList, WatchEvent

Key: TypeAlias = tuple[str, str]
"""(namespace, name); the namespace of cluster-wide objects is ""."""
Sameness: TypeAlias = Callable[[JSON, JSON], bool]


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object. `old` is None for a new one, `new` is None for a deleted one."""

    key: Key
    old: JSON | None
    new: JSON | None

    @property
    def latest(self) -> JSON:
        """The object as last seen."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


def key_of(obj: JSON) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


INTENT = ("uid", "labels", "annotations", "deletionTimestamp")


def same_intent(old: JSON, new: JSON) -> bool:
    """Equal but for status and bookkeeping: what a heartbeat or a status write leaves alone."""
    before, after = old["metadata"], new["metadata"]
    return all((before.get(key) or None) == (after.get(key) or None) for key in INTENT) and _body(old) == _body(new)


def _body(obj: JSON) -> JSON:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status", "apiVersion", "kind")}


def same_revision(old: JSON, new: JSON) -> bool:
    """Nothing at all has changed. For who follows status as well."""
    before, after = old["metadata"], new["metadata"]
    return bool(before.get("uid") == after.get("uid") and before["resourceVersion"] == after["resourceVersion"])


class Reflector:
    """A collection, followed. What `same` calls equal keeps the old object, by identity, and is no change.

    `resource_version` is where to watch from; empty means: list first.
    """

    def __init__(self, same: Sameness = same_intent) -> None:
        self._same = same
        self._objects: dict[Key, JSON] = {}
        self.objects: Mapping[Key, JSON] = MappingProxyType(self._objects)
        self._ahead: set[Key] = set()
        self.resource_version = ""
        self.synced = False
        """True from the first list on."""

    def listed(self, listing: ObjectList) -> list[Change]:
        """Take a complete list in; what is no longer there was deleted in between."""
        self.resource_version = listing.resource_version
        self.synced = True
        present = {key_of(obj): obj for obj in listing.items}
        gone = [
            key for key in self._objects if key not in present and not self._is_ahead(key, listing.resource_version)
        ]
        removed = [Change(key, self._objects.pop(key), None) for key in gone]
        return removed + [change for key, obj in present.items() if (change := self._put(key, obj))]

    def observed(self, event: WatchEvent) -> Change | None:
        """Take a watch event in."""
        obj = event.object
        self.resource_version = obj["metadata"]["resourceVersion"]
        match event.type:
            case "BOOKMARK":
                return None
            case "DELETED":
                return self.deleted(obj)
        return self._put(key_of(obj), obj)

    def written(self, obj: JSON) -> Change | None:
        """Take in what the server answered to a write of ours before its watch event comes: we read our own writes.

        Only for such objects are resource versions compared, as numbers (KEP-5504): events from before our write, still
        on their way, must not bring the past back.
        """
        key = key_of(obj)
        change = self._put(key, obj)
        if change is not None:
            self._ahead.add(key)
        return change

    def deleted(self, obj: JSON) -> Change | None:
        """The server says that this object is gone."""
        key = key_of(obj)
        old = self._objects.get(key)
        if old is None or self._is_ahead(key, obj["metadata"]["resourceVersion"]):
            return None
        del self._objects[key]
        return Change(key, obj, None)

    def expired(self) -> None:
        """The server no longer knows our resource version: list next."""
        self.resource_version = ""

    def _put(self, key: Key, obj: JSON) -> Change | None:
        old = self._objects.get(key)
        if old is not None and (self._is_ahead(key, obj["metadata"]["resourceVersion"]) or self._same(old, obj)):
            return None
        self._objects[key] = obj
        return Change(key, old, obj)

    def _is_ahead(self, key: Key, resource_version: str) -> bool:
        """Whether we wrote the object we hold, and `resource_version` is from before that."""
        if key not in self._ahead:
            return False
        held = self._objects.get(key)
        if held is not None and int(resource_version) < int(held["metadata"]["resourceVersion"]):
            return True
        self._ahead.discard(key)
        return False
