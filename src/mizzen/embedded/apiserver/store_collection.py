"""The objects of one resource in their order, now and as they were a moment ago. A page costs what is on it."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from typing import TypeAlias

from mizzen.embedded.apiserver.store_entries import Entry, Key

Place: TypeAlias = tuple[str, str]
"""(namespace, name): objects are listed in this order."""


def place_of(entry: Entry) -> Place:
    return entry.key[1:]


@dataclass(slots=True)
class _Bucket:
    """The objects of one namespace, with their names in order."""

    entries: dict[str, Entry] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def put(self, entry: Entry) -> None:
        if entry.key.name not in self.entries:
            insort(self.names, entry.key.name)
        self.entries[entry.key.name] = entry

    def remove(self, name: str) -> None:
        if self.entries.pop(name, None) is not None:
            del self.names[bisect_right(self.names, name) - 1]

    def after(self, name: str | None) -> Iterator[Entry]:
        for index in range(self._start(name), len(self.names)):
            yield self.entries[self.names[index]]

    def count(self, name: str | None) -> int:
        return len(self.names) - self._start(name)

    def _start(self, name: str | None) -> int:
        return 0 if name is None else bisect_right(self.names, name)


class Collection:
    """One resource. `namespace=""` means all of them; `after` leaves out what comes up to that place.

    Nothing may be put or removed while somebody goes through `entries`.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def get(self, namespace: str, name: str) -> Entry | None:
        bucket = self._buckets.get(namespace)
        return bucket.entries.get(name) if bucket else None

    def put(self, entry: Entry) -> None:
        self._buckets.setdefault(entry.key.namespace, _Bucket()).put(entry)

    def remove(self, key: Key) -> None:
        bucket = self._buckets.get(key.namespace)
        if bucket is not None:
            bucket.remove(key.name)

    def entries(self, namespace: str = "", after: Place | None = None) -> Iterator[Entry]:
        for bucket, name in self._from(namespace, after):
            yield from bucket.after(name)

    def count(self, namespace: str = "", after: Place | None = None) -> int:
        return sum(bucket.count(name) for bucket, name in self._from(namespace, after))

    def _from(self, namespace: str, after: Place | None) -> Iterator[tuple[_Bucket, str | None]]:
        start, name = after or ("", None)
        for each in [namespace] if namespace else sorted(self._buckets):
            if each in self._buckets and each >= start:
                yield self._buckets[each], name if each == start else None


class Moment:
    """A collection at one revision: as it is now, but for what has `changed` since, which was so."""

    def __init__(self, now: Collection, namespace: str, changed: Mapping[Key, Entry | None]) -> None:
        self._now, self._namespace = now, namespace
        self._changed = {key: was for key, was in changed.items() if not namespace or key.namespace == namespace}
        self._was = sorted(filter(None, self._changed.values()), key=place_of)

    def entries(self, after: Place | None = None) -> Iterator[Entry]:
        now = self._now.entries(self._namespace, after)
        if not self._changed:
            return now
        was = (entry for entry in self._was if after is None or place_of(entry) > after)
        return merge((entry for entry in now if entry.key not in self._changed), was, key=place_of)

    def count(self, after: Place) -> int:
        """How many come after that place."""
        changed = sum(self._now.get(*key[1:]) is not None for key in self._changed if key[1:] > after)
        return self._now.count(self._namespace, after) - changed + sum(place_of(each) > after for each in self._was)
