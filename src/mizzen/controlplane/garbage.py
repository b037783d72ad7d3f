"""When the interpreter looks through all its objects for garbage: while nobody waits for a push.

Left to itself it comes in the middle of some push: with a thousand proxies that made the slowest pushes a third slower
(bench/README.md). https://docs.python.org/3/library/gc.html#gc.set_threshold
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

_ALLOCATIONS_PER_COLLECTION = 20_000
_COLLECTIONS = 20
"""Of the young objects before the older ones are looked at, and of these before all are."""
_NEVER = 1 << 30


class Collector:
    """`pushes` counts pushes, `settled` says whether all of them are acknowledged."""

    def __init__(self, pushes: Callable[[], int], settled: Callable[[], bool]) -> None:
        self._pushes = pushes
        self._settled = settled

    async def run(self, pause: float = 1.0, patience: float = 60.0) -> None:
        """Until cancelled. The mesh as it is now stays: it is not looked through again. What is due waits until nothing
        was pushed for `pause` seconds, and at most for `patience` seconds."""
        before = gc.get_threshold()
        gc.freeze()
        gc.set_threshold(_ALLOCATIONS_PER_COLLECTION, _COLLECTIONS, _NEVER)
        try:
            while True:
                await self._due(pause)
                await self._at_rest(pause, patience)
                gc.collect()
        finally:
            gc.set_threshold(*before)

    async def _due(self, pause: float) -> None:
        while gc.get_count()[2] < _COLLECTIONS:  # noqa: ASYNC110 - the interpreter tells nobody
            await asyncio.sleep(pause)

    async def _at_rest(self, pause: float, patience: float) -> None:
        for _ in range(round(patience / pause)):
            pushes = self._pushes()
            await asyncio.sleep(pause)
            if self._settled() and pushes == self._pushes():
                return
