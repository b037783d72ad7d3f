"""get, list and watch: what is in the store, in the shape that the client asked for.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Generic, TypeVar

import msgspec

from mizzen.embedded.apiserver import conversion, errors, events_group, selectors
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.store import Store, Subscription
from mizzen.embedded.apiserver.store_collection import Moment, place_of
from mizzen.embedded.apiserver.store_entries import Entry, Event, EventType
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.wire import encode
from mizzen.kube.api import JSON

T = TypeVar("T")
BOOKMARK_SECONDS = 60.0
DEFAULT_WATCH_SECONDS = 30 * 60.0
_TICK = 0.01
"""Seconds: as much as a timer may come too early."""
CHUNK_BYTES = 1024 * 1024
"""What is written at once: a slow reader must not hold more of the memory."""
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class Filter:
    """Parsed selectors. `namespace` and `name` are the parts of the target and of `metadata.name=`."""

    labels: tuple[selectors.Requirement, ...] = ()
    fields: tuple[selectors.FieldRequirement, ...] = ()

    def accepts(self, entry: Entry) -> bool:
        if self.labels and not selectors.matches_labels(self.labels, entry.labels):
            return False
        if not self.fields:
            return True
        for each in self.fields:
            if each.path == "metadata.name" and (entry.key.name == each.value) is not each.equal:
                return False
        rest = [each for each in self.fields if each.path != "metadata.name"]
        return not rest or (lambda document: all(each.holds(document) for each in rest))(entry.document())


def parse_filter(target: Target, labels: str, fields: str) -> Filter:
    """Raises 400."""
    parsed = selectors.parse_fields(fields)
    if target.resource.group == "events.k8s.io":
        parsed = tuple(replace(each, path=events_group.core_path(each.path)) for each in parsed)
    version = target.kind.crd_version or {}
    extra = frozenset(each["jsonPath"].lstrip(".") for each in version.get("selectableFields") or ())
    selectors.check_fields(parsed, target.kind.storage, extra)
    return Filter(selectors.parse_labels(labels), parsed)


def raw_in(kind: ResourceType, entry: Entry) -> bytes:
    """The object's JSON in the version that was asked for."""
    if entry.api_version == kind.resource.api_version:
        return entry.raw
    return encode(document_in(kind, entry))


def document_in(kind: ResourceType, entry: Entry) -> JSON:
    """A fresh copy of the object in the version that was asked for."""
    document = entry.document()
    if kind.resource.group == "events.k8s.io":
        return events_group.from_core(document)
    return conversion.to_served(kind, document)


class _Continue(msgspec.Struct):
    revision: int
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Page:
    entries: list[Entry]
    revision: int
    continue_token: str = ""
    remaining: int | None = None

    def metadata(self) -> JSON:
        found: JSON = {"resourceVersion": str(self.revision)}
        if self.continue_token:
            found["continue"] = self.continue_token
        if self.remaining is not None:
            found["remainingItemCount"] = self.remaining
        return found


def read_page(store: Store, target: Target, wanted: Filter, limit: int = 0, token: str = "", exact: int = 0) -> Page:
    """One page of a collection, all pages of which show the same moment. Raises 410 when that moment is gone."""
    place = _decode_continue(token) if token else None
    revision = place.revision if place else exact or store.revision
    moment = _moment(store, target, revision, bool(token))
    found = filter(wanted.accepts, moment.entries((place.namespace, place.name) if place else None))
    if not limit:
        return Page(list(found), revision)
    page = list(islice(found, limit))
    if next(found, None) is None:
        return Page(page, revision)
    last = page[-1]
    unfiltered = not (wanted.labels or wanted.fields)
    remaining = moment.count(place_of(last)) if unfiltered else None
    return Page(page, revision, _encode_continue(revision, last.key), remaining)


def _moment(store: Store, target: Target, revision: int, continued: bool) -> Moment:
    if revision > store.revision:
        raise errors.failure(504, "Timeout", f"Too large resource version: {revision}, current: {store.revision}")
    try:
        return store.at(revision, target.kind.storage, target.namespace)
    except LookupError:
        raise (errors.continue_expired() if continued else errors.too_old(revision, store.oldest)) from None


def _encode_continue(revision: int, key: tuple[str, str, str]) -> str:
    return base64.urlsafe_b64encode(encode(_Continue(revision, key[1], key[2]))).decode()


def _decode_continue(token: str) -> _Continue:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=_Continue)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise errors.bad_request("continue key is not valid: it was not issued by this server") from None


def encode_list(kind: ResourceType, page: Page) -> bytes:
    """The list document; its items are the stored bytes."""
    head = {"kind": kind.list_kind, "apiVersion": kind.resource.api_version, "metadata": page.metadata()}
    items = b",".join(raw_in(kind, entry) for entry in page.entries)
    return encode(head)[:-1] + b',"items":[' + items + b"]}"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    target: Target
    wanted: Filter
    since: int | None
    """None: begin with the present state."""
    initial_events: bool
    bookmarks: bool
    seconds: float


@dataclass(slots=True)
class Watch(Generic[T]):
    """One watch, whose events are what `shape` makes of their type and object, and `bookmark` of revisions."""

    store: Store
    request: WatchRequest
    shape: Callable[[EventType, Entry], T]
    bookmark: Callable[[int, bool], T]
    _subscription: Subscription = field(init=False)
    _start: int = field(init=False)
    _initial: list[Entry] = field(init=False, default_factory=list)
    _rang: bool = False
    """It is time for a bookmark, or for the end."""

    def open(self) -> None:
        """Raises 410 (as the answer itself) when the revision to begin from is not kept any more."""
        target, since = self.request.target, self.request.since
        self._start = self.store.revision if since is None or self.request.initial_events else since
        try:
            self._subscription = self.store.subscribe(target.kind.storage, target.namespace, self._start)
        except LookupError:
            raise errors.too_old(self._start, self.store.oldest) from None
        if since is None or self.request.initial_events:
            entries = self.store.entries(target.kind.storage, target.namespace)
            self._initial = [entry for entry in entries if self.request.wanted.accepts(entry)]

    async def events(self) -> AsyncGenerator[list[T]]:
        """As many at once as there are, until the time is over, the watcher falls behind, or the server stops."""
        try:
            if self._initial:
                yield [self.shape("ADDED", entry) for entry in self._initial]
                self._initial = []
            if self.request.initial_events and self.request.bookmarks:
                yield [self.bookmark(self._start, True)]
            async for some in self._live():
                yield some
        finally:
            self.store.unsubscribe(self._subscription)

    async def _live(self) -> AsyncIterator[list[T]]:
        """One timer serves many events: to set another for each would cost every watcher of every write."""
        end = time.monotonic() + self.request.seconds
        alarm = self._alarm(self.request.seconds)
        try:
            while not self._subscription.closed:
                if self._rang and not self._subscription.pending:
                    if self.request.bookmarks:
                        yield [self.bookmark(self.store.revision, False)]
                    if (left := end - time.monotonic()) <= _TICK:
                        return
                    alarm = self._alarm(left)
                await self._subscription.wait()
                if some := self._drain():
                    yield some
        finally:
            alarm.cancel()

    def _alarm(self, left: float) -> asyncio.TimerHandle:
        self._rang = False
        return asyncio.get_running_loop().call_later(min(left, BOOKMARK_SECONDS), self._ring)

    def _ring(self) -> None:
        self._rang = True
        self._subscription.rouse()

    def _drain(self) -> list[T]:
        found: list[T] = []
        pending = self._subscription.pending
        size = 0
        while pending and len(found) < 500 and size < CHUNK_BYTES:
            event = pending.popleft()
            kind = _seen_as(event, self.request.wanted)
            if kind:
                found.append(self.shape(kind, event.entry))
                size += len(event.entry.raw)
        return found


async def lines(watch: Watch[bytes]) -> AsyncIterator[bytes]:
    """A watch over the wire: what happened at once is written at once."""
    async with contextlib.aclosing(watch.events()) as events:
        async for some in events:
            yield b"".join(some)


def _seen_as(event: Event, wanted: Filter) -> EventType | None:
    """What an event is to a watcher with selectors: objects come into view and leave it."""
    before = event.previous is not None and wanted.accepts(event.previous)
    if event.type == "DELETED":
        return "DELETED" if before else None
    if wanted.accepts(event.entry):
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else None


def line(kind: str, obj: bytes) -> bytes:
    """One event over the wire."""
    return b'{"type":"' + kind.encode() + b'","object":' + obj + b"}\n"


def plain_bookmark(kind: ResourceType, revision: int, initial_end: bool) -> bytes:
    """A BOOKMARK line; the first one after the initial events says so in an annotation."""
    metadata: JSON = {"resourceVersion": str(revision), "creationTimestamp": None}
    if initial_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    document = {"kind": kind.resource.kind, "apiVersion": kind.resource.api_version, "metadata": metadata}
    return line("BOOKMARK", encode(document))
