"""Which Pod holds a certificate of which authority, and whom its proxy trusts: what every replica has signed.

A ConfigMap holds it, one entry for each Pod, so that replicas add to each other's knowledge and a restart forgets none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mizzen.ca.authority import fingerprint
from mizzen.ca.service import Issued
from mizzen.ca.succession import Standing, Succession
from mizzen.kube.api import JSON, WELL_KNOWN, Api, ApiError, NotFound, Selector
from mizzen.kube.informer import Informer

log = logging.getLogger(__name__)

CONFIG_MAP = "istio-ca-issued"
SETTLED_AFTER = 3.0
"""Seconds after which a proxy has taken in what its agent had when it asked."""
SHORT = 16
"""Digits of a fingerprint that are kept: 64 bits tell roots apart, and nothing is decided by them alone."""
_TOGETHER = 0.2
_RETRY_SECONDS = 2.0
_GONE_FOR_SURE = 60.0
_LONGEST_KEY = 253
_NOBODY = "-"

PodKey: TypeAlias = tuple[str, str]
"""(namespace, name)"""


@dataclass(frozen=True, slots=True)
class Holding:
    """A Pod's newest certificate. Times are seconds since the epoch; key id and fingerprints are cut to `SHORT`."""

    key_id: str
    not_after: int
    issued: float
    since: float
    """Since when the Pod has been given certificates by this key, and has said to trust the same."""
    trusts: frozenset[str]

    @classmethod
    def of(cls, issued: Issued, now: float, before: Holding | None = None) -> Holding:
        trusts, key_id = frozenset(one[:SHORT] for one in issued.trusts), issued.key_id[:SHORT]
        same = before is not None and (before.key_id, before.trusts) == (key_id, trusts)
        since = before.since if before is not None and same else now
        return cls(key_id, int(issued.not_after.timestamp()), now, since, trusts)

    def __str__(self) -> str:
        trusts = ",".join(sorted(self.trusts)) or _NOBODY
        return f"{self.key_id} {self.not_after} {self.issued:.3f} {self.since:.3f} {trusts}"

    @classmethod
    def read(cls, text: str) -> Holding:
        """Raises ValueError."""
        key_id, not_after, issued, since, trusts = text.split(" ")
        return cls(key_id, int(not_after), float(issued), float(since), frozenset(trusts.split(",")) - {_NOBODY})


def standing(
    holdings: Mapping[PodKey, Holding], pods: Collection[PodKey], succession: Succession, now: float
) -> Standing:
    """How far these Pods are. Pure."""
    done, signs = settled(holdings, now), succession.signing.key_id[:SHORT]
    return Standing(
        trusting=all(trusting(done.get(pod), succession) for pod in pods),
        renewed=all(pod in done and done[pod].key_id == signs for pod in pods),
    )


def settled(holdings: Mapping[PodKey, Holding], now: float) -> dict[PodKey, Holding]:
    """Without what is new: a proxy may not have it yet."""
    return {pod: held for pod, held in holdings.items() if held.since <= now - SETTLED_AFTER}


def trusting(held: Holding | None, succession: Succession) -> bool:
    """Whether a Pod has said that it trusts the successor. What it said before that one came counts no longer."""
    if held is None or succession.successor is None:
        return False
    coming = {fingerprint(root)[:SHORT] for root in succession.successor.trusted}
    return held.issued >= succession.since.timestamp() and coming <= held.trusts


class Ledger:
    """`record` what was signed; `run` until cancelled."""

    def __init__(self, api: Api, namespace: str, exists: Callable[[PodKey], bool]) -> None:
        """`exists` says whether there is such a Pod: entries of others are dropped."""
        self._api = api
        self._namespace = namespace
        self._exists = exists
        self._pending: dict[PodKey, Holding] = {}
        self._filled = asyncio.Event()
        self._stored = Informer(api, WELL_KNOWN.configmaps, namespace, Selector(fields=f"metadata.name={CONFIG_MAP}"))

    @property
    def holdings(self) -> dict[PodKey, Holding]:
        found = self._read()
        for pod, held in self._pending.items():
            if pod not in found or found[pod].issued < held.issued:
                found[pod] = held
        return found

    def record(self, pod: PodKey, issued: Issued) -> None:
        before = self._pending.get(pod) or self._read_one(pod)
        self._pending[pod] = Holding.of(issued, time.time(), before)
        self._filled.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stored.run())
            await self._stored.wait_synced()
            while True:
                await self._filled.wait()
                await asyncio.sleep(_TOGETHER)
                self._filled.clear()
                try:
                    await self._write(dict(self._pending))
                except ApiError as error:
                    log.warning("cannot note in ConfigMap %s who holds which certificate: %s", CONFIG_MAP, error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._filled.set()

    async def _write(self, pending: Mapping[PodKey, Holding]) -> None:
        data = {_key(pod): str(held) for pod, held in pending.items() if len(_key(pod)) <= _LONGEST_KEY}
        dropped = dict.fromkeys(map(_key, self._gone()))
        patch = {"data": {**dropped, **data}}
        try:
            written = await self._api.patch(WELL_KNOWN.configmaps, CONFIG_MAP, patch, self._namespace, type="merge")
        except NotFound:
            metadata = {"name": CONFIG_MAP, "namespace": self._namespace}
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            written = await self._api.create(WELL_KNOWN.configmaps, obj, self._namespace)
        self._stored.written(written)
        for pod, held in pending.items():
            if self._pending.get(pod) is held:
                del self._pending[pod]

    def _gone(self) -> Iterable[PodKey]:
        """Our watch may be behind: a Pod that was given a certificate just now is not gone."""
        old = time.time() - _GONE_FOR_SURE
        return [pod for pod, held in self._read().items() if held.issued < old and not self._exists(pod)]

    def _read(self) -> dict[PodKey, Holding]:
        pods = ((key.partition(".")[0], key.partition(".")[2]) for key in self._data)
        return {pod: held for pod in pods if (held := self._read_one(pod))}

    def _read_one(self, pod: PodKey) -> Holding | None:
        text = self._data.get(_key(pod))
        try:
            return Holding.read(text) if text else None
        except ValueError:
            log.warning("ConfigMap %s: %s is not an entry of ours: %r", CONFIG_MAP, _key(pod), text)
            return None

    @property
    def _data(self) -> dict[str, str]:
        stored: JSON = self._stored.get(self._namespace, CONFIG_MAP) or {}
        return stored.get("data") or {}


def _key(pod: PodKey) -> str:
    """A namespace has no dot, so that the first one ends it."""
    return ".".join(pod)
