"""The connected proxies: who they are, which views they have, and what was sent to them and acknowledged.

A proxy is who its certificate says; what it may see follows from its Pod, as the API server holds it, and never from
what it claims about itself. Of its claims only one counts: whether it has an IPv6 address to listen on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import is_
from typing import Any, TypeVar

from mizzen.ads.server import Refused, Stream
from mizzen.ads.store import Store
from mizzen.ads.target import Layers
from mizzen.api.base import Resource
from mizzen.api.core import Pod
from mizzen.ca.spiffe import Identity
from mizzen.controlplane.histogram import Histogram
from mizzen.controlplane.push import Touched
from mizzen.controlplane.refusals import Refusal
from mizzen.controlplane.rights import Account
from mizzen.controlplane.views import View, Views
from mizzen.scope.snapshot import SecretReader, Snapshot
from mizzen.scope.view import Proxy

R = TypeVar("R", bound=Resource)
log = logging.getLogger(__name__)

KNOWN_WITHIN = 5.0
"""Seconds that a proxy may be ahead of our watch of its Pod, and of the API server's answer to whether it gets keys."""
KINDS = ("sidecar", "router")


@dataclass(slots=True, eq=False)
class Connected:
    """One proxy and where it stands."""

    stream: Stream
    proxy: Proxy
    kind: str
    views: tuple[View, ...]
    since: float
    """Seconds since the epoch."""
    layers: Layers = ()
    refused: frozenset[tuple[str, str]] = frozenset()
    """Types and names of what it did not take when it last said something."""


@dataclass(slots=True)
class _Change:
    """A push on its way: when the change came, and who has not acknowledged yet."""

    began: float
    waiting: set[Connected]


class Fleet:
    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        self.views = Views(store, snapshot)
        self.store = store
        self.connected: dict[Stream, Connected] = {}
        self.latency = Histogram()
        """Seconds from a watch event to the last proxy's acknowledgement."""
        self.pushes = 0
        self.refusals_changed: Callable[[], None] = lambda: None
        """Called when a proxy refuses something, or no longer does."""
        self.accounts_changed: Callable[[], None] = lambda: None
        """Called when `accounts` says something else."""
        self._gateways: dict[Stream, Account] = {}
        self._changes: list[_Change] = []
        self._moved = asyncio.Event()
        self._rest = asyncio.Event()
        self._rest.set()

    # What the discovery server tells

    async def join(self, stream: Stream) -> None:
        """Raises Refused."""
        try:
            kind, address, name, namespace = stream.node.parts
        except ValueError as error:
            raise Refused(str(error)) from error
        if kind not in KINDS:
            raise Refused(f"proxies of type {kind!r} are not served; there are {', '.join(KINDS)}")
        pod = await self._pod(namespace, name)
        mesh = self.views.snapshot.mesh
        _require_identity(stream.identities, namespace, pod, (mesh.trust_domain, *mesh.trust_domain_aliases))
        if kind == "router":
            await self._right_known(stream, (namespace, pod.account))
        proxy = _proxy(pod, address, *_known_to_itself(stream.node.metadata, address))
        member = Connected(stream, proxy, kind, self.views.of(proxy, kind), time.time())
        self.views.enter(member.views)
        self.connected[stream] = member
        self._send(member)
        log.info("proxy %s connected", stream.node.id)

    async def _pod(self, namespace: str, name: str) -> Pod:
        pod = await self._known(Pod, namespace, name)
        if pod is None:
            raise Refused(f"there is no Pod {name} in namespace {namespace}")
        return pod

    async def _right_known(self, stream: Stream, account: Account) -> None:
        """Without it a gateway would be told to refuse TLS, and a moment later of its certificates."""
        self._gateways[stream] = account
        self.accounts_changed()
        try:
            await self._known(SecretReader, *account)
        except asyncio.CancelledError:
            self._forget(stream)
            raise

    async def _known(self, kind: type[R], namespace: str, name: str) -> R | None:
        """The object, as soon as the snapshot has it; None if that takes too long."""
        try:
            # Not `wait_for`: before Python 3.12 it begins to wait a moment later, and news of that moment is lost.
            async with asyncio.timeout(KNOWN_WITHIN):
                while (found := self.views.snapshot.get(kind, namespace, name)) is None:
                    await self._moved.wait()
        except TimeoutError:
            return None
        return found

    @property
    def accounts(self) -> frozenset[Account]:
        """Service accounts of the gateways that are here or coming: keys are for who may list Secrets."""
        return frozenset(self._gateways.values())

    def _forget(self, stream: Stream) -> None:
        if self._gateways.pop(stream, None) is not None:
            self.accounts_changed()

    def acknowledged(self, stream: Stream) -> None:
        member = self.connected.get(stream)
        if member is None:
            return
        if stream.session.settled:
            self._settled(member, time.monotonic())
        refused = stream.session.refused
        if (refused or member.refused) and refused.keys() != member.refused:
            member.refused = frozenset(refused)
            self.refusals_changed()

    def refusals(self) -> Iterator[Refusal]:
        """What every proxy does not take."""
        for member in self.connected.values():
            name, scopes = f"{member.proxy.name}.{member.proxy.namespace}", self.views.scopes(member.views)
            for (url, resource), refusal in member.stream.session.refused.items():
                yield Refusal(name, url, resource, refusal.message, scopes)

    def leave(self, stream: Stream) -> None:
        member = self.connected.pop(stream)
        self.views.leave(member.views)
        self._forget(stream)
        self._settled(member, None)
        if member.refused:
            self.refusals_changed()
        log.info("proxy %s disconnected", stream.node.id)

    # What the control plane tells

    def advance(self, snapshot: Snapshot, touched: Touched, began: float) -> None:
        """Bring every proxy to a newer snapshot; `began` is when its first change came, in monotonic seconds."""
        self.views.advance(snapshot, touched)
        self._moved.set()
        self._moved.clear()
        if touched.scopes or touched.pods:
            self._change_views(touched)
        waiting = {member for member in self.connected.values() if self._send(member)}
        self.pushes += 1
        self.store.sweep()
        if waiting:
            self._changes.append(_Change(began, waiting))
            self._rest.clear()

    def _change_views(self, touched: Touched) -> None:
        for member in self.connected.values():
            own = (member.proxy.namespace, member.proxy.name)
            if not touched.scopes and own not in touched.pods:
                continue
            pod = self.views.snapshot.get(Pod, *own)
            if pod is not None:  # a proxy of a Pod that is gone keeps what it has until it goes too
                member.proxy = _proxy(pod, member.proxy.address, member.proxy.ipv6, member.proxy.foreign_certificates)
            views = self.views.of(member.proxy, member.kind)
            if views != member.views:
                self.views.enter(views)
                self.views.leave(member.views)
                member.views = views

    def _send(self, member: Connected) -> bool:
        """Whether the proxy is told anything that it must acknowledge."""
        layers = self.views.layers(member.views)
        if len(layers) == len(member.layers) and all(map(is_, layers, member.layers)):
            return False
        member.layers = layers
        member.stream.publish(layers)
        return not member.stream.session.settled

    def _settled(self, member: Connected, now: float | None) -> None:
        """The proxy holds all it was told, and so every change up to now; None: it is gone."""
        over = False
        for change in self._changes:  # a loop: this is asked at each acknowledgement of each proxy
            change.waiting.discard(member)
            over = over or not change.waiting
        if not over:
            return
        for change in self._changes:
            if not change.waiting and now is not None:
                self.latency.observe(now - change.began)
        self._changes = [change for change in self._changes if change.waiting]
        if not self._changes:
            self._rest.set()

    @property
    def settled(self) -> bool:
        return not self._changes

    async def at_rest(self, seconds: float) -> None:
        """Returns when all proxies hold what they were told, and at the latest after so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._rest.wait(), seconds)

    def proxies(self) -> Iterable[Connected]:
        return self.connected.values()


def _proxy(pod: Pod, address: str, ipv6: bool, foreign_certificates: bool) -> Proxy:
    metadata = pod.metadata
    return Proxy(
        namespace=metadata.namespace,
        name=metadata.name,
        labels=metadata.labels,
        address=address,
        ipv6=ipv6,
        foreign_certificates=foreign_certificates,
    )


def _known_to_itself(metadata: Mapping[str, Any], address: str) -> tuple[bool, bool]:
    """What it knows better, and that is nobody else's concern: whether it can bind listeners to IPv6 addresses, and
    whether somebody else gives it certificates."""
    told = metadata.get("INSTANCE_IPS")
    return ":" in (told if isinstance(told, str) and told else address), metadata.get("EXTERNAL_SECRETS") is True


def _require_identity(identities: tuple[str, ...], namespace: str, pod: Pod, trust_domains: tuple[str, ...]) -> None:
    """The certificate must be that of the Pod's service account, in the mesh's domain or an alias. Raises Refused."""
    possible = [str(Identity(domain, namespace, pod.account)) for domain in trust_domains]
    if not set(possible) & set(identities):
        expected = possible[0]
        shown = ", ".join(identities) or "no identity"
        raise Refused(f"Pod {pod.metadata.name}.{namespace} runs as {expected}, but the certificate says {shown}")
