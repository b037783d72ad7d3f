"""Keeps a `Reflector` up to date over an `Api`, and tells listeners what changed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TypeAlias

from mizzen.kube.api import EVERYTHING, JSON, Api, ApiError, Expired, Resource, Selector, WatchEvent
from mizzen.kube.reflector import Change, Key, Reflector, Sameness, same_intent

Listener: TypeAlias = Callable[[Sequence[Change]], None]
log = logging.getLogger(__name__)

FIRST_DELAY = 0.05
LONGEST_DELAY = 2.0
"""Seconds between attempts: short, because an API server that restarts is back within a second."""
SHORT_WATCH = 1.0
"""A watch that ends sooner than this, in seconds, and brought nothing, counts as a failure."""


class Informer:
    """The objects of one resource type, followed for as long as `run` runs.

    Listeners are called in the order of their subscription, in the event loop, with at least one change, after
    `objects` has been brought up to date. A list after a gap comes as one sequence. They must not block nor raise.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        *,
        same: Sameness = same_intent,
        reduce: Callable[[JSON], JSON] | None = None,
    ) -> None:
        """`reduce` makes a smaller object of each, with `metadata`'s name, namespace, uid and resourceVersion."""
        self.resource = resource
        self.last_error: ApiError | None = None
        """Why the collection may be out of date; None while all is well."""
        self._api = api
        self._namespace = namespace
        self._selector = selector
        self._reduce = reduce
        self._reflector = Reflector(same)
        self._listeners: list[Listener] = []
        self._synced = asyncio.Event()

    @property
    def objects(self) -> Mapping[Key, JSON]:
        return self._reflector.objects

    def get(self, namespace: str, name: str) -> JSON | None:
        return self._reflector.objects.get((namespace, name))

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def wait_synced(self) -> None:
        """Returns when the first list has been taken in."""
        await self._synced.wait()

    def written(self, obj: JSON) -> None:
        """See `Reflector.written`."""
        self._tell([self._reflector.written(self._reduced(obj))])

    def deleted(self, obj: JSON) -> None:
        """See `Reflector.deleted`."""
        self._tell([self._reflector.deleted(self._reduced(obj))])

    async def run(self) -> None:
        """Lists and watches until cancelled; errors are logged once each, and tried again after a while."""
        delay = 0.0
        while True:
            try:
                went_well = await self._round()
                delay = 0.0 if went_well else _longer(delay)
            except ApiError as error:
                self._failed(error)
                delay = _longer(delay)
            await asyncio.sleep(delay)

    async def _round(self) -> bool:
        """One list where needed, and one watch. False when the server ended it at once, with nothing."""
        if not self._reflector.resource_version:
            await self._list()
        try:
            return await self._watch()
        except Expired:
            self._reflector.expired()
            return True

    async def _list(self) -> None:
        listing = await self._api.list(self.resource, self._namespace, self._selector)
        if self._reduce is not None:
            listing.items[:] = map(self._reduce, listing.items)
        self.last_error = None
        self._tell(self._reflector.listed(listing))
        self._synced.set()

    async def _watch(self) -> bool:
        began, seen = time.monotonic(), 0
        version = self._reflector.resource_version
        events = self._api.watch(self.resource, self._namespace, self._selector, version)
        try:
            async for event in events:
                seen += 1
                self.last_error = None
                self._take(event)
        finally:
            if isinstance(events, AsyncGenerator):
                await events.aclose()
        return seen > 0 or time.monotonic() - began > SHORT_WATCH

    def _take(self, event: WatchEvent) -> None:
        if event.type != "BOOKMARK" and self._reduce is not None:
            event = WatchEvent(event.type, self._reduce(event.object))
        self._tell([self._reflector.observed(event)])

    def _reduced(self, obj: JSON) -> JSON:
        return self._reduce(obj) if self._reduce is not None else obj

    def _tell(self, changes: Sequence[Change | None]) -> None:
        real = [change for change in changes if change is not None]
        if real:
            for listener in self._listeners:
                listener(real)

    def _failed(self, error: ApiError) -> None:
        if self.last_error is None or self.last_error.message != error.message:
            log.warning("cannot follow %s: %s", self.resource.plural, error.message)
        self.last_error = error


def _longer(delay: float) -> float:
    return min(max(delay * 2, FIRST_DELAY), LONGEST_DELAY)
