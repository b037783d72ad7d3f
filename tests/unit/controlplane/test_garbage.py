import asyncio
import gc
import itertools

import pytest

from mizzen.controlplane.garbage import Collector


@pytest.fixture
def looks(monkeypatch):
    """Times when everything was looked through; the process's own settings stay as they are."""
    found: list[float] = []
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, 0 if found else 20))
    monkeypatch.setattr(gc, "collect", lambda: found.append(asyncio.get_running_loop().time()))
    return found


async def once(looks, collector, patience) -> float:
    """How long it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    task = asyncio.create_task(collector.run(pause=0.005, patience=patience))
    async with asyncio.timeout(10):
        while not looks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    task.cancel()
    return looks[0] - begun


async def test_garbage_is_looked_for_at_rest(looks):
    assert await once(looks, Collector(lambda: 7, lambda: True), patience=600)


async def test_or_when_it_cannot_wait_any_longer(looks):
    pushes = itertools.count()
    assert await once(looks, Collector(lambda: next(pushes), lambda: True), patience=0.1) > 0.09
    looks.clear()
    assert await once(looks, Collector(lambda: 7, lambda: False), patience=0.1) > 0.09
