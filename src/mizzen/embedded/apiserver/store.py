"""Where objects live: SQLite for what must survive, a dict for reading, a ring of recent events for watches.

One writer thread commits whatever has gathered since its last commit (group commit, `synchronous=FULL`); a write
becomes visible, and its caller is answered, only after COMMIT. All other methods belong to the event loop's thread.
Revisions are one global counter, as etcd's are; a write may leave a gap, never a reuse.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, NamedTuple

import msgspec

from mizzen.kube.api import JSON

SCHEMA_VERSION = 1
RING_SIZE = 20_000
SLOW_WATCHER = 20_000
"""Undelivered events after which a watch is ended; its client lists again."""

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(JSON).decode


class Key(NamedTuple):
    """`resource` is `plural` or `plural.group`; `namespace` is "" for what is cluster-wide."""

    resource: str
    namespace: str
    name: str


class _StoredMeta(msgspec.Struct):
    uid: str = ""
    labels: dict[str, str] | None = None


class _Stored(msgspec.Struct, rename="camel"):
    api_version: str = ""
    metadata: _StoredMeta = msgspec.field(default_factory=_StoredMeta)


_decode_meta = msgspec.json.Decoder(_Stored).decode


class Entry:
    """One version of one object: immutable bytes, and the few parts that every list looks at."""

    __slots__ = ("api_version", "key", "labels", "raw", "revision", "uid")

    def __init__(self, key: Key, revision: int, raw: bytes) -> None:
        head = _decode_meta(raw)
        self.key, self.revision, self.raw = key, revision, raw
        self.api_version, self.uid, self.labels = head.api_version, head.metadata.uid, head.metadata.labels or {}

    def document(self) -> JSON:
        """A fresh copy: the caller may change it."""
        return _decode(self.raw)


class Event(NamedTuple):
    """`entry` is the object after the event (for DELETED: its last state with the deletion's revision)."""

    revision: int
    type: EventType
    entry: Entry
    previous: Entry | None


class Stale(Exception):
    """The object is not at the expected revision any more; read it again."""


class StoreTooNew(Exception):
    """The store file was written by a newer version of this program."""


@dataclass(slots=True)
class _Bucket:
    """The objects of one resource in one namespace, with their names in order."""

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
        start = 0 if name is None else bisect_right(self.names, name)
        return (self.entries[each] for each in self.names[start:])


@dataclass(eq=False)
class Subscription:
    """Events of one watch, in order. `closed` once the watcher was too slow or the store closes."""

    resource: str
    namespace: str
    pending: deque[Event] = field(default_factory=deque)
    closed: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, event: Event) -> None:
        if self.namespace and event.entry.key.namespace != self.namespace:
            return
        if len(self.pending) >= SLOW_WATCHER:
            self.close()
            return
        self.pending.append(event)
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Until there is something pending, it is closed, or the time is over."""
        if self.pending or self.closed:
            return
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return


class _Write(NamedTuple):
    event: Event
    done: asyncio.Future[Entry]


class Store:
    """Open it inside a running event loop. Errors: `Stale` for lost races, `sqlite3.Error` when the disk fails."""

    def __init__(self, path: Path, ring_size: int = RING_SIZE) -> None:
        self._loop = asyncio.get_running_loop()
        self._buckets: dict[str, dict[str, _Bucket]] = {}
        self._ring: deque[Event] = deque(maxlen=ring_size)
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._listeners: dict[str, list[Callable[[Event], None]]] = {}
        self._uncommitted: dict[Key, tuple[int, Entry | None, asyncio.Future[Entry]]] = {}
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._database = _open(path)
        self._next_revision = self._load()
        self.revision = self._next_revision - 1
        self._oldest = self.revision
        self._writer = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._writer.start()

    # -- reading -----------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Entry | None:
        bucket = self._buckets.get(key.resource, {}).get(key.namespace)
        return bucket.entries.get(key.name) if bucket else None

    def entries(self, resource: str, namespace: str = "", after: tuple[str, str] | None = None) -> Iterator[Entry]:
        """In order of (namespace, name); `namespace=""` means all; `after` skips what comes up to it."""
        buckets = self._buckets.get(resource, {})
        start_namespace, start_name = after or ("", None)
        for each in [namespace] if namespace else sorted(buckets):
            if each in buckets and each >= start_namespace:
                yield from buckets[each].after(start_name if each == start_namespace else None)

    def entries_at(self, resource: str, namespace: str, revision: int) -> list[Entry]:
        """The collection as it was at an earlier revision, undone from the ring. Raises LookupError if too old."""
        if revision < self._oldest:
            raise LookupError(revision)
        found = {entry.key: entry for entry in self.entries(resource, namespace)}
        for event in reversed(self._ring):
            if event.revision <= revision:
                break
            if event.entry.key.resource == resource:
                _undo(found, event)
        wanted = (entry for entry in found.values() if not namespace or entry.key.namespace == namespace)
        return sorted(wanted, key=lambda entry: (entry.key.namespace, entry.key.name))

    def subscribe(self, resource: str, namespace: str, since: int) -> Subscription:
        """Everything after revision `since`. Raises LookupError if that is no longer retained."""
        if since < self._oldest:
            raise LookupError(since)
        subscription = Subscription(resource, namespace)
        for event in self._events_since(since):
            if event.entry.key.resource == resource:
                subscription.offer(event)
        self._subscriptions.setdefault(resource, set()).add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.get(subscription.resource, set()).discard(subscription)

    def listen(self, resource: str, listener: Callable[[Event], None]) -> None:
        """Call `listener` at once for what exists, then for every committed event, before its writer is answered."""
        self._listeners.setdefault(resource, []).append(listener)
        for entry in list(self.entries(resource)):
            listener(Event(entry.revision, "ADDED", entry, None))

    @property
    def oldest(self) -> int:
        """Watches can begin at this revision or a later one."""
        return self._oldest

    def _events_since(self, since: int) -> list[Event]:
        found: list[Event] = []
        for event in reversed(self._ring):
            if event.revision <= since:
                break
            found.append(event)
        return found[::-1]

    # -- writing -----------------------------------------------------------------------------------------------

    def put(self, key: Key, document: JSON, expected: Entry | None) -> asyncio.Future[Entry]:
        """Create (`expected` None) or replace; writes `metadata.resourceVersion` into `document`. Raises Stale."""
        self._check(key, expected)
        revision = self._take_revision()
        document["metadata"]["resourceVersion"] = str(revision)
        entry = Entry(key, revision, _encode(document))
        return self._submit(Event(revision, "MODIFIED" if expected else "ADDED", entry, expected), entry)

    def delete(self, expected: Entry) -> asyncio.Future[Entry]:
        """Remove; the future's entry is the last state, carrying the deletion's revision. Raises Stale."""
        self._check(expected.key, expected)
        revision = self._take_revision()
        document = expected.document()
        document["metadata"]["resourceVersion"] = str(revision)
        last = Entry(expected.key, revision, _encode(document))
        return self._submit(Event(revision, "DELETED", last, expected), None)

    async def settled(self, key: Key) -> None:
        """Wait until no write to this object is on its way to the disk."""
        while key in self._uncommitted:
            await asyncio.wait([self._uncommitted[key][2]])
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End all watches, finish what was submitted, close the file."""
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._database.close()

    def _check(self, key: Key, expected: Entry | None) -> None:
        current = self._uncommitted[key][1] if key in self._uncommitted else self.get(key)
        if (current and current.revision) != (expected and expected.revision):
            raise Stale(key)

    def _take_revision(self) -> int:
        self._next_revision += 1
        return self._next_revision - 1

    def _submit(self, event: Event, latest: Entry | None) -> asyncio.Future[Entry]:
        done: asyncio.Future[Entry] = self._loop.create_future()
        self._uncommitted[event.entry.key] = (event.revision, latest, done)
        self._queue.put(_Write(event, done))
        return done

    # -- the writer thread -------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            stop = False
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    stop = True
                    break
                batch.append(more)
            self._commit(batch)
            if stop:
                return

    def _commit(self, batch: list[_Write]) -> None:
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                for write in batch:
                    _apply(self._database, write.event)
                self._database.execute("UPDATE counter SET revision = ?", (batch[-1].event.revision,))
        except sqlite3.Error as error:
            self._loop.call_soon_threadsafe(self._failed, batch, error)
        else:
            self._loop.call_soon_threadsafe(self._committed, batch)

    def _committed(self, batch: list[_Write]) -> None:
        for write in batch:
            self._show(write.event)
            self._forget_uncommitted(write)
            if not write.done.cancelled():
                write.done.set_result(write.event.entry)

    def _failed(self, batch: list[_Write], error: sqlite3.Error) -> None:
        for write in batch:
            self._forget_uncommitted(write)
            if not write.done.cancelled():
                write.done.set_exception(error)

    def _forget_uncommitted(self, write: _Write) -> None:
        key = write.event.entry.key
        if key in self._uncommitted and self._uncommitted[key][0] == write.event.revision:
            del self._uncommitted[key]

    def _show(self, event: Event) -> None:
        key = event.entry.key
        bucket = self._buckets.setdefault(key.resource, {}).setdefault(key.namespace, _Bucket())
        if event.type == "DELETED":
            bucket.remove(key.name)
        else:
            bucket.put(event.entry)
        self.revision = event.revision
        if len(self._ring) == self._ring.maxlen:
            self._oldest = self._ring[0].revision
        self._ring.append(event)
        for listener in self._listeners.get(key.resource, ()):
            listener(event)
        for subscription in self._subscriptions.get(key.resource, ()):
            subscription.offer(event)

    def _load(self) -> int:
        rows = self._database.execute("SELECT resource, namespace, name, revision, body FROM objects")
        for resource, namespace, name, revision, body in rows:
            bucket = self._buckets.setdefault(resource, {}).setdefault(namespace, _Bucket())
            bucket.put(Entry(Key(resource, namespace, name), revision, body))
        (revision,) = self._database.execute("SELECT revision FROM counter").fetchone()
        return int(revision) + 1


def _undo(found: dict[Key, Entry], event: Event) -> None:
    if event.previous is None:
        found.pop(event.entry.key, None)
    else:
        found[event.entry.key] = event.previous


def _apply(database: sqlite3.Connection, event: Event) -> None:
    entry = event.entry
    if event.type == "DELETED":
        database.execute("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", entry.key)
        return
    database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*entry.key, entry.revision, entry.raw))


def _open(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        database.close()
        raise StoreTooNew(f"{path.name} has schema {version}; this version of mizzen knows up to {SCHEMA_VERSION}")
    for step in _MIGRATIONS[version:]:
        database.executescript(step)
    return database


_MIGRATIONS = (
    """
    BEGIN;
    CREATE TABLE objects (
        resource TEXT, namespace TEXT, name TEXT, revision INTEGER, body BLOB,
        PRIMARY KEY (resource, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE counter (revision INTEGER);
    INSERT INTO counter VALUES (1);
    PRAGMA user_version = 1;
    COMMIT;
    """,
)
"""Statement scripts, each leading from its index to the next `user_version`."""
