"""Asking proxies to let go of connections that began under older rules, and seeing that they did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec.structs import replace

from mizzen.api.base import Model
from mizzen.explain.reach import ENVOY_ADMIN_PORT, JSON, http_get, is_ending
from mizzen.kube.api import WELL_KNOWN, ApiError, NotFound
from mizzen.kube.http import HttpApi
from mizzen.scope.drains import POD_ANNOTATION

_EVERY = 0.2
_CHANGED = ("listener_manager.listener_in_place_updated", "listener_manager.listener_modified")
_DRAINING = ("listener_manager.total_filter_chains_draining", "listener_manager.total_listeners_draining")
_OPEN = "downstream_cx_active"
_STATS = "/stats?filter=^(listener_manager|listener\\..*downstream_cx_active$)"
_OWN_LISTENERS = (".worker_", "listener.admin.", "_15090.", "_15021.", "_15001.")
"""Parts of others; admin, statistics, health, and what the application itself calls."""
_ENDED = "the Pod ended, and its connections with it"


class Drained(Model):
    """How far one proxy is."""

    pod: str
    """`NAME.NAMESPACE`"""
    connections: int
    """How many were open when it began."""
    state: str
    done: bool = False
    changes: int = 0
    """How often its listeners had changed before."""


async def ask_to_drain(api: HttpApi, namespace: str, pods: Iterable[str]) -> list[Drained]:
    """By an annotation, the same for all of them. Raises ApiError, also for a Pod without a proxy."""
    mark = {"metadata": {"annotations": {POD_ANNOTATION: datetime.now(UTC).isoformat(timespec="milliseconds")}}}
    return await asyncio.gather(*(_ask(api, namespace, pod, mark) for pod in pods))


async def _ask(api: HttpApi, namespace: str, pod: str, mark: JSON) -> Drained:
    try:
        stats = await _stats(api, namespace, pod)
        await api.patch(WELL_KNOWN.pods, pod, mark, namespace)
    except ApiError:
        if await _ends(api, namespace, pod):
            return Drained(pod=f"{pod}.{namespace}", connections=0, state=_ENDED, done=True)
        raise
    return Drained(pod=f"{pod}.{namespace}", connections=_open(stats), state="asked", changes=_sum(stats, _CHANGED))


async def _ends(api: HttpApi, namespace: str, pod: str) -> bool:
    """Whether the Pod is gone or about to be: then its connections end with it."""
    try:
        return is_ending(await api.get(WELL_KNOWN.pods, pod, namespace))
    except NotFound:
        return True


async def watch_drain(api: HttpApi, begun: Iterable[Drained], seconds: float) -> list[Drained]:
    """Until they are done, and at the latest after so many seconds. Raises ApiError."""
    return await asyncio.gather(*(_watch(api, one, seconds) for one in begun))


async def _watch(api: HttpApi, row: Drained, seconds: float) -> Drained:
    name, _, namespace = row.pod.partition(".")
    try:
        return row if row.done else await _watch_proxy(api, row, name, namespace, seconds)
    except ApiError:
        if await _ends(api, namespace, name):
            return replace(row, state=_ENDED, done=True)
        raise


async def _watch_proxy(api: HttpApi, row: Drained, name: str, namespace: str, seconds: float) -> Drained:
    started = time.monotonic()
    while True:
        stats, passed = await _stats(api, namespace, name), time.monotonic() - started
        taken_up, left = _sum(stats, _CHANGED) > row.changes, _sum(stats, _DRAINING)
        if taken_up and not left:
            return replace(row, state=f"let go after {passed:.1f} s", done=True)
        if passed > seconds:
            late = "still draining" if taken_up else "has not taken it up: does istiod run?"
            return replace(row, state=late)
        await asyncio.sleep(_EVERY)


async def _stats(api: HttpApi, namespace: str, pod: str) -> dict[str, int]:
    page = (await http_get(api, namespace, pod, ENVOY_ADMIN_PORT, _STATS)).decode()
    pairs = (line.rpartition(": ") for line in page.splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def _open(stats: dict[str, int]) -> int:
    return sum(
        count
        for name, count in stats.items()
        if name.startswith("listener.") and name.endswith(_OPEN) and not any(one in name for one in _OWN_LISTENERS)
    )


def _sum(stats: dict[str, int], names: Iterable[str]) -> int:
    return sum(stats.get(name, 0) for name in names)
