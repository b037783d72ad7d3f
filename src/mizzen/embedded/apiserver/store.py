"""Where objects live: SQLite for what must survive, a dict for reading, a ring of recent events for watches.

One writer thread commits whatever has gathered since its last commit (group commit, `synchronous=FULL`); it is given
the writes of one round of the event loop together. A write becomes visible, and its caller is answered, only after
COMMIT. All other methods belong to the event loop's thread.
Revisions are one global counter, as etcd's are; a write may leave a gap, never a reuse.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import msgspec

from mizzen.embedded.apiserver import store_disk
from mizzen.embedded.apiserver.store_collection import Collection, Moment
from mizzen.embedded.apiserver.store_entries import Entry, Event, Key
from mizzen.embedded.apiserver.store_history import MAX_EVENTS, Forgotten, History
from mizzen.kube.api import JSON

SLOW_WATCHER = 20_000
"""Undelivered events after which a watch is ended; its client lists again."""

_encode = msgspec.json.Encoder().encode


class Stale(Exception):
    """The object is not at the expected revision any more; read it again."""


@dataclass(eq=False)
class Subscription:
    """Events of one watch, in order. `closed` once the watcher was too slow or the store closes."""

    resource: str
    namespace: str
    pending: deque[Event] = field(default_factory=deque)
    closed: bool = False
    _waiter: asyncio.Future[None] | None = None

    def offer(self, event: Event) -> None:
        if self.namespace and event.entry.key.namespace != self.namespace:
            return
        if len(self.pending) >= SLOW_WATCHER:
            self.close()
            return
        self.pending.append(event)
        self.rouse()

    def close(self) -> None:
        self.closed = True
        self.rouse()

    def rouse(self) -> None:
        """Let who waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until there is something pending, it is closed, or somebody rouses it."""
        if self.pending or self.closed:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class _Write(NamedTuple):
    event: Event
    done: asyncio.Future[Entry]


class Store:
    """Open it inside a running event loop. Errors: `Stale` for lost races, `sqlite3.Error` when the disk fails."""

    def __init__(self, path: Path, max_events: int = MAX_EVENTS) -> None:
        self._loop = asyncio.get_running_loop()
        self._collections: dict[str, Collection] = {}
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._listeners: dict[str, list[Callable[[Event], None]]] = {}
        self._uncommitted: dict[Key, tuple[int, Entry | None, asyncio.Future[Entry]]] = {}
        self._gathered: list[_Write] = []
        self._queue: SimpleQueue[list[_Write] | None] = SimpleQueue()
        self._forgotten: SimpleQueue[Forgotten] = SimpleQueue()
        self._database = store_disk.open_file(path)
        self.revision, oldest = store_disk.read_counter(self._database)
        self._next_revision = self.revision + 1
        self.history = History(oldest, max_events)
        self._load()
        self._writer = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._writer.start()

    # -- reading -----------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Entry | None:
        collection = self._collections.get(key.resource)
        return collection.get(key.namespace, key.name) if collection else None

    def entries(self, resource: str, namespace: str = "") -> Iterator[Entry]:
        """In order of (namespace, name); `namespace=""` means all."""
        return self._collection(resource).entries(namespace)

    def at(self, revision: int, resource: str, namespace: str = "") -> Moment:
        """The collection as it was at an earlier revision. Raises LookupError if that is no longer known."""
        return Moment(self._collection(resource), namespace, self.history.changed(resource, revision))

    def _collection(self, resource: str) -> Collection:
        if resource not in self._collections:
            self._collections[resource] = Collection()
        return self._collections[resource]

    def subscribe(self, resource: str, namespace: str, since: int) -> Subscription:
        """Everything after revision `since`. Raises LookupError if that is no longer retained."""
        subscription = Subscription(resource, namespace)
        for event in self.history.since(since):
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
        return self.history.oldest

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
        self._hand_over()
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
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Write(event, done))
        return done

    def _hand_over(self) -> None:
        """Once for all writes of this round: waking the other thread costs more than most of what a write needs."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._queue.put(gathered)

    # -- the writer thread -------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = first
            stop = False
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    stop = True
                    break
                batch += more
            self._commit(batch)
            if stop:
                return

    def _commit(self, batch: list[_Write]) -> None:
        try:
            store_disk.commit(self._database, [write.event for write in batch], self._to_forget())
        except sqlite3.Error as error:
            self._loop.call_soon_threadsafe(self._failed, batch, error)
        else:
            self._loop.call_soon_threadsafe(self._committed, batch)

    def _to_forget(self) -> Iterator[Forgotten]:
        while not self._forgotten.empty():
            yield self._forgotten.get()

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
        self._keep(event)
        self.revision = event.revision
        self._remember(event)
        for listener in self._listeners.get(event.entry.key.resource, ()):
            listener(event)
        for subscription in self._subscriptions.get(event.entry.key.resource, ()):
            subscription.offer(event)

    def _keep(self, event: Event) -> None:
        collection = self._collection(event.entry.key.resource)
        if event.type == "DELETED":
            collection.remove(event.entry.key)
        else:
            collection.put(event.entry)

    def _remember(self, event: Event) -> None:
        if forgotten := self.history.append(event):
            self._forgotten.put(forgotten)

    def _load(self) -> None:
        for event in store_disk.read_events(self._database):
            self._keep(event)
            if event.revision > self.history.oldest:
                self._remember(event)
