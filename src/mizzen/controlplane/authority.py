"""The mesh's authority, as the Secrets of the cluster hold it: made once, followed by every replica, changed with care.

What is *wanted* stands in Secret `cacerts`, else in `istio-ca-secret`. What is *in force* stands in `istio-ca-in-force`
and follows step by step (`ca.succession`). Each replica works out the next step; the first to write it wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from cryptography import x509

from mizzen.ca.authority import DEFAULT_KEY, ROOT_VALIDITY, KeyKind, Root, new_root
from mizzen.ca.succession import Standing, Succession
from mizzen.controlplane import authority_secrets as stored
from mizzen.controlplane.authority_secrets import IN_FORCE, PLUGGED_IN, SELF_SIGNED
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, Api, ApiError, Conflict, NotFound, Selector
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change, same_revision

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_MOVING_SECONDS, _STEADY_SECONDS = 0.25, 3600.0
"""How often to look again when no Secret changes: while a succession is under way, and whether a root grows old."""

Judge: TypeAlias = Callable[[Succession], Standing]


@dataclass(frozen=True, slots=True)
class RootSettings:
    """What a self-signed root is to be like."""

    validity: timedelta = ROOT_VALIDITY
    key: KeyKind = DEFAULT_KEY


DEFAULT_ROOT = RootSettings()


class Authority:
    """`run` until cancelled; from `loaded` on there is a `current` succession, and listeners hear of every other."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        trust_domain: Callable[[], str],
        judge: Judge,
        root: RootSettings = DEFAULT_ROOT,
    ) -> None:
        """`judge` says how far the workloads are."""
        self._api = api
        self._namespace = namespace
        self._trust_domain = trust_domain
        self._judge = judge
        self._root = root
        self._current: Succession | None = None
        self._listeners: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._loaded = asyncio.Event()
        self.problem = ""
        """Why what is wanted is not followed."""
        self._secrets: Mapping[str, Informer] = {
            name: self._follow(name) for name in (PLUGGED_IN, SELF_SIGNED, IN_FORCE)
        }

    def _follow(self, name: str) -> Informer:
        selector = Selector(fields=f"metadata.name={name}")
        informer = Informer(self._api, WELL_KNOWN.secrets, self._namespace, selector, same=same_revision)
        informer.subscribe(self._observed)
        return informer

    @property
    def current(self) -> Succession:
        """After `loaded`."""
        assert self._current is not None
        return self._current

    @property
    def source(self) -> str:
        """The Secret that says who is to sign."""
        return PLUGGED_IN if self._stored(PLUGGED_IN) else SELF_SIGNED

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Called in the event loop after `current` has changed."""
        self._listeners.append(listener)

    async def loaded(self) -> None:
        await self._loaded.wait()

    async def run(self) -> None:
        """Until cancelled. Raises ValueError when there is no record and the Secrets hold no authority."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._secrets.values():
                tasks.create_task(informer.run())
                await informer.wait_synced()
            while True:
                self._changed.clear()
                try:
                    await self._step()
                except ApiError as error:
                    log.warning("cannot bring the mesh's authority forward: %s", error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                await self._until_changed()

    async def _until_changed(self) -> None:
        steady = self._current is not None and self._current.phase == "steady"
        try:
            await asyncio.wait_for(self._changed.wait(), _STEADY_SECONDS if steady else _MOVING_SECONDS)
        except TimeoutError:
            return

    async def outlasting(self, until: datetime) -> None:
        """Remember, before it is handed out, a certificate whose renewal nobody can see. Raises ApiError."""
        while (after := self.current.outlasting(until)) is not self.current:
            await self._write(IN_FORCE, stored.IN_FORCE_TYPE, stored.in_force_data(after))

    # What the Secrets say

    def _observed(self, changes: Sequence[Change]) -> None:
        self._changed.set()
        for change in changes:
            if change.key[1] == IN_FORCE and change.new is not None:
                self._take(change.new)

    def _take(self, record: JSON) -> None:
        try:
            found = stored.read_in_force(record)
        except ValueError as error:
            log.error("%s", error)
            return
        before, self._current = self._current, found
        self._loaded.set()
        if before is None or before.phase != found.phase:
            log.info("authority: %s, signed by key %s", found.phase, found.signing.key_id[:16])
        for listener in self._listeners:
            listener()

    def _stored(self, name: str) -> JSON | None:
        return self._secrets[name].get(self._namespace, name)

    # What follows

    async def _step(self) -> None:
        now = datetime.now(UTC)
        wanted = await self._wanted(now)
        record = self._current if self._stored(IN_FORCE) else None
        if record is None:
            after = self._current or (Succession(wanted, now) if wanted else None)
        else:
            after = record.heard(wanted, now) if wanted else record
            if after is record:
                after = record.moved(self._judge(record), now)
        if after is not None and after is not record:
            await self._write(IN_FORCE, stored.IN_FORCE_TYPE, stored.in_force_data(after))

    async def _wanted(self, now: datetime) -> Root | None:
        """None while it is being made, or when what is there cannot be used."""
        try:
            if (plugged := self._stored(PLUGGED_IN)) is not None:
                found: Root | None = stored.plugged_in(plugged, now)
            else:
                found = await self._self_signed(now)
        except ValueError as error:
            if self._current is None:
                raise
            if self.problem != str(error):
                log.error("%s; the authority that signed until now goes on", error)
            self.problem = str(error)
            return None
        self.problem = ""
        return found

    async def _self_signed(self, now: datetime) -> Root | None:
        own = self._stored(SELF_SIGNED)
        if own is not None:
            root = stored.self_signed(own)
            if not stored.wants_new_root(own, root, now):
                return root
        root = new_root(self._trust_domain(), now, x509.random_serial_number(), self._root.validity, self._root.key)
        await self._write(SELF_SIGNED, stored.SELF_SIGNED_TYPE, stored.self_signed_data(root))
        log.info("made a root certificate and stored it in Secret %s/%s", self._namespace, SELF_SIGNED)
        return None

    async def _write(self, name: str, type_: str, data: Mapping[str, bytes]) -> None:
        """In the place of what we have seen last; where another replica was faster, its word counts."""
        obj, seen = stored.secret(name, self._namespace, type_, data), self._stored(name)
        try:
            if seen is None:
                written = await self._api.create(WELL_KNOWN.secrets, obj, self._namespace)
            else:
                obj["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"]
                written = await self._api.replace(WELL_KNOWN.secrets, obj, self._namespace)
        except (AlreadyExists, Conflict, NotFound):
            await asyncio.sleep(_MOVING_SECONDS)  # its watch event says what is there now
            return
        self._secrets[name].written(written)
