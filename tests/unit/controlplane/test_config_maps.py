"""ConfigMaps that are followed by name."""

from __future__ import annotations

import asyncio
from typing import Any

from envoys import until
from mizzen.controlplane.config_maps import NamedConfigMaps
from mizzen.kube.api import WELL_KNOWN
from mizzen.kube.memory import MemoryApi
from mizzen.scope.snapshot import SYSTEM_NAMESPACE, Change


def config_map(name: str, roots: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"ca.crt": roots, "other": "text"}}


async def test_those_that_are_wanted_are_followed_and_then_forgotten() -> None:
    api, found = MemoryApi(), list[Change]()
    await api.create(WELL_KNOWN.configmaps, config_map("roots", "one"), "a")
    await api.create(WELL_KNOWN.configmaps, config_map("others", "one"), "a")
    maps = NamedConfigMaps(api, found.append)
    maps.want(frozenset({("a", "roots"), ("b", "missing"), (SYSTEM_NAMESPACE, "ours")}))
    work = asyncio.create_task(maps.run())
    await asyncio.wait_for(maps.known(), 5)
    assert [(one.namespace, one.name) for one in found] == [("a", "roots")]
    stored = await api.get(WELL_KNOWN.configmaps, "roots", "a")
    await api.replace(WELL_KNOWN.configmaps, {**stored, "data": {"ca.crt": "two"}}, "a")
    await until(lambda: len(found) == 2)
    maps.want(frozenset())
    await until(lambda: len(found) == 3)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert [one.after and one.after.data for one in found] == [{"ca.crt": "one"}, {"ca.crt": "two"}, None]  # type: ignore[attr-defined]
