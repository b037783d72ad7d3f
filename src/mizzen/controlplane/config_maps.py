"""ConfigMaps that rules take authorities from, followed one by one: most of a cluster's are none of our business."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from mizzen.api.core import ConfigMap
from mizzen.api.decode import convert
from mizzen.controlplane.watching import config_map
from mizzen.kube.api import WELL_KNOWN, Api, Selector
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change as Observed
from mizzen.scope.snapshot import SYSTEM_NAMESPACE, Change, present

Place: TypeAlias = tuple[str, str]
"""Namespace and name."""


class NamedConfigMaps:
    """`want` says which matter now; `tell` hears of each that is there, changes or goes.

    Those of our own namespace are followed anyway, by `Watching`.
    """

    def __init__(self, api: Api, tell: Callable[[Change], None]) -> None:
        self._api = api
        self._tell = tell
        self._changed = asyncio.Event()
        self._followed: dict[Place, Informer] = {}

    def want(self, places: frozenset[Place]) -> None:
        elsewhere = frozenset(place for place in places if place[0] != SYSTEM_NAMESPACE)
        for place in self._followed.keys() - elsewhere:
            self._forget(place)
        for place in elsewhere - self._followed.keys():
            self._followed[place] = self._informer(place)
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            running: dict[Informer, asyncio.Task[None]] = {}
            while True:
                self._changed.clear()
                for informer in running.keys() - set(self._followed.values()):
                    running.pop(informer).cancel()
                for informer in set(self._followed.values()) - running.keys():
                    running[informer] = tasks.create_task(informer.run())
                await self._changed.wait()

    async def known(self) -> None:
        """Returns when all that were wanted at the call have been looked for."""
        for informer in list(self._followed.values()):
            await informer.wait_synced()

    def _informer(self, place: Place) -> Informer:
        namespace, name = place
        selector = Selector(fields=f"metadata.name={name}")
        informer = Informer(self._api, WELL_KNOWN.configmaps, namespace, selector, reduce=config_map)
        informer.subscribe(self._observed)
        return informer

    def _forget(self, place: Place) -> None:
        if self._followed.pop(place).get(*place) is not None:
            self._tell(Change(ConfigMap, *place, None))
        self._changed.set()

    def _observed(self, changes: Sequence[Observed]) -> None:
        for change in changes:
            if change.key not in self._followed:
                continue  # the last words of one that is not wanted any more
            gone = Change(ConfigMap, *change.key, None)
            self._tell(gone if change.new is None else present(convert(change.new, ConfigMap)))
