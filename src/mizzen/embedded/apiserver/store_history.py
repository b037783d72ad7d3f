"""The recent past: from which revisions a watch can begin, and how a collection looked then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from mizzen.embedded.apiserver.store_entries import Entry, Event, Key

MAX_EVENTS = 20_000
MAX_BYTES = 32 * 1024 * 1024
"""Of the objects in the events: a large object that is written all the time must not fill the memory."""


class Forgotten(NamedTuple):
    """Nobody can ask for these versions any more: watches begin at `oldest` or later."""

    oldest: int
    revisions: tuple[int, ...]


class History:
    """Events in order. Every revision after `oldest` is complete."""

    def __init__(self, oldest: int, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.oldest = oldest
        self._events: deque[Event] = deque()
        self._bytes = 0
        self.max_events, self.max_bytes = max_events, max_bytes

    def append(self, event: Event) -> Forgotten | None:
        """Remember it; what had to be forgotten for it, if anything."""
        self._events.append(event)
        self._bytes += len(event.entry.raw)
        before, forgotten = self.oldest, list[int]()
        while len(self._events) > self.max_events or (self._bytes > self.max_bytes and len(self._events) > 1):
            forgotten.extend(self._forget())
        return Forgotten(self.oldest, tuple(forgotten)) if self.oldest != before else None

    def _forget(self) -> Iterator[int]:
        """What only the oldest event could still be asked for: the version before it, and of what is gone, the last."""
        event = self._events.popleft()
        self._bytes -= len(event.entry.raw)
        self.oldest = event.revision
        if event.previous is not None:
            yield event.previous.revision
        if event.type == "DELETED":
            yield event.revision

    def since(self, revision: int) -> list[Event]:
        """What happened after it. Raises LookupError if that is no longer known."""
        if revision < self.oldest:
            raise LookupError(revision)
        found: list[Event] = []
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            found.append(event)
        return found[::-1]

    def changed(self, resource: str, revision: int) -> dict[Key, Entry | None]:
        """The objects that changed since, as they were then; None where there was none. Raises LookupError."""
        events = (event for event in reversed(self.since(revision)) if event.entry.key.resource == resource)
        return {event.entry.key: event.previous for event in events}
