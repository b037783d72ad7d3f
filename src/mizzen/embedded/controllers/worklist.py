"""Level-triggered work: keys that need a look, each looked at by one task at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeAlias

from mizzen.kube.api import ApiError, Conflict, NotFound
from mizzen.kube.reflector import Key

Sync: TypeAlias = Callable[[Key], Awaitable[float | None]]
"""Brings the world nearer to what the key's object asks; may say after how many seconds to look again."""
log = logging.getLogger(__name__)

CONCURRENT = 32
FIRST_DELAY, LONGEST_DELAY = 0.01, 3.0
reconciling: ContextVar[bool] = ContextVar("reconciling", default=False)
"""True in everything a controller does, so that its own writes do not wait for controllers."""


class Worklist:
    """Coalesces: a key added while it is being worked on is worked on once more, however often it was added."""

    def __init__(self, name: str, sync: Sync) -> None:
        self.name = name
        self._sync = sync
        self._started = False
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._dirty: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._waiters: dict[Key, list[asyncio.Future[None]]] = {}
        self._slots = asyncio.Semaphore(CONCURRENT)

    def start(self) -> None:
        """From now on keys are worked on; those added before are taken up."""
        self._started = True
        waiting, self._dirty = self._dirty, set()
        for key in waiting:
            self.add(key)

    async def stop(self) -> None:
        self._started = False
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, key: Key) -> None:
        if not self._started or key in self._running:
            self._dirty.add(key)
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._running[key] = asyncio.create_task(self._work(key), name=f"{self.name} {'/'.join(key)}")

    def add_after(self, key: Key, seconds: float) -> None:
        """Later, unless an earlier look is due anyhow."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    async def settled(self, key: Key) -> None:
        """Returns when a look that began after this call is over, whether it succeeded or not."""
        over = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, []).append(over)
        self.add(key)
        await over

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self, key: Key) -> None:
        reconciling.set(True)
        try:
            while True:
                self._dirty.discard(key)
                async with self._slots:
                    await self._look(key)
                if key not in self._dirty:
                    return
        finally:
            del self._running[key]

    async def _look(self, key: Key) -> None:
        waiters = self._waiters.pop(key, ())
        try:
            again = await self._sync(key)
            self._failures.pop(key, None)
            if again is not None:
                self.add_after(key, again)
        except Exception as error:
            self._failed(key, error)
        finally:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _failed(self, key: Key, error: Exception) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        what = f"{self.name} {'/'.join(part for part in key if part)}"
        if not isinstance(error, ApiError):
            log.error("%s failed", what, exc_info=error)
        elif not _is_expected(error) and count in (1, 10):
            log.warning("%s: %s", what, error.message)
        self.add_after(key, min(FIRST_DELAY * 2 ** (count - 1), LONGEST_DELAY))


def _is_expected(error: ApiError) -> bool:
    """No news for the log: our cache was behind, or the namespace is on its way out."""
    causes = (error.status.get("details") or {}).get("causes") or ()
    return isinstance(error, Conflict | NotFound) or any(each["reason"] == "NamespaceTerminating" for each in causes)
