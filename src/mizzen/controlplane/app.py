"""istiod: where the parts meet. The Kubernetes API is the only platform it knows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio

from mizzen.ads.server import AdsServer, Serving
from mizzen.ads.store import Store
from mizzen.ads.tls import mutual_tls, server_tls
from mizzen.analysis import dangling_references
from mizzen.api.authorization import RequestAuthentication
from mizzen.api.base import Problem
from mizzen.api.core import ConfigMap, Namespace
from mizzen.api.decode import Undecodable
from mizzen.api.validate import validate
from mizzen.ca.authority import join
from mizzen.controlplane import trust
from mizzen.controlplane import web as pages
from mizzen.controlplane.admission import injected, validated
from mizzen.controlplane.authority import DEFAULT_ROOT, RootSettings
from mizzen.controlplane.certificates import Certificates, Surroundings
from mizzen.controlplane.config_maps import NamedConfigMaps
from mizzen.controlplane.debug import Debug
from mizzen.controlplane.fleet import KNOWN_WITHIN, Fleet
from mizzen.controlplane.garbage import Collector
from mizzen.controlplane.ingress_status import IngressStatusWriter
from mizzen.controlplane.keys import REFRESH, KeyFetcher
from mizzen.controlplane.push import Pace, touched
from mizzen.controlplane.refusals import refusals
from mizzen.controlplane.rights import SecretRights
from mizzen.controlplane.status import StatusWriter
from mizzen.controlplane.watching import SETTINGS, Watching
from mizzen.controlplane.webhooks import WebhookKeeper
from mizzen.inject import Settings as InjectorSettings
from mizzen.inject import read_settings
from mizzen.kube.api import Api
from mizzen.kube.authorities import unread
from mizzen.scope.guards import key_sources
from mizzen.scope.origination import config_maps, secret_readers
from mizzen.scope.snapshot import SYSTEM_NAMESPACE, Change, Snapshot

with unread():
    from aiohttp import web

JSON: TypeAlias = dict[str, Any]
log = logging.getLogger(__name__)

JUDGED_WITHIN = 0.5
"""Seconds for which a push may hold up the status of what it brings."""


@dataclass(frozen=True, slots=True)
class Ports:
    """0 takes any free port; `ControlPlane.ports` says which."""

    ads: int = 15011
    ca: int = 15012
    webhooks: int = 15017
    monitoring: int = 15014
    ready: int = 8080


@dataclass(frozen=True, slots=True)
class Settings:
    host: str = "0.0.0.0"
    ports: Ports = Ports()
    service: str = "istiod"
    namespace: str = SYSTEM_NAMESPACE
    domain: str = "cluster.local"
    name: str = "istiod"
    """The Pod's, as `proxy-status` shows it."""
    stop_grace: float = 0.2
    """Seconds that streams get to end by themselves."""
    root: RootSettings = DEFAULT_ROOT
    key_refresh: float = REFRESH
    """Seconds after which the keys of token issuers are got anew."""

    @property
    def dns_names(self) -> tuple[str, ...]:
        short = f"{self.service}.{self.namespace}"
        return f"{short}.svc", short, f"{short}.svc.{self.domain}", self.service


class ControlPlane:
    """One istiod. `run` until cancelled."""

    def __init__(self, settings: Settings, api: Api) -> None:
        self.settings = settings
        self.ports = settings.ports
        self.snapshot = Snapshot()
        self.fleet = Fleet(Store(), self.snapshot)
        self.debug = Debug(self)
        self.serving = asyncio.Event()
        """Set when the snapshot is complete and all ports are open."""
        self._api = api
        self._changed = asyncio.Event()
        self._began = 0.0
        self._watching = Watching(api, self._wake)
        self._status = StatusWriter(api, settings.name)
        self._ingresses = IngressStatusWriter(api, settings.name)
        self._keys = KeyFetcher(self._learned, refresh=settings.key_refresh)
        self._rights = SecretRights(api, self._learned)
        self._config_maps = NamedConfigMaps(api, self._learned)
        self._learnings: list[Change] = []
        around = Surroundings(lambda: self.snapshot, self._roots_published)
        self.certificates = Certificates(api, settings.namespace, around, settings.root)
        self._certificate = trust.Serving(lambda: self.certificates.authority.current, settings.dns_names)
        self._publishers: tuple[trust.RootPublisher | WebhookKeeper, ...] = ()
        self._pace = Pace()
        self._judgeable = asyncio.Event()
        self.fleet.refusals_changed = self._judgeable.set
        self.fleet.accounts_changed = self._want_rights
        self._injector: tuple[object, InjectorSettings] | None = None

    async def run(self) -> None:
        """Until cancelled; proxies keep what they have. Raises OSError when a port is taken."""
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
            for informer in self._watching.informers.values():
                tasks.create_task(informer.run())
            await self._watching.synced()
            self._apply(self._watching.take())
            tasks.create_task(self.certificates.authority.run())
            tasks.create_task(self._rights.run())
            tasks.create_task(self._config_maps.run())
            await self.certificates.authority.loaded()
            await self._credentials_known()
            await self._serve(stack)
            self.serving.set()
            log.info("serving: %s", self.ports)
            self._keep(tasks)
            await self._push_forever()

    def _keep(self, tasks: asyncio.TaskGroup) -> None:
        namespaces, roots = self._watching.informers[Namespace], self._roots()
        webhooks = WebhookKeeper(self._api, self.settings.service, self.settings.namespace, roots)
        self._publishers = (trust.RootPublisher(self._api, namespaces, roots), webhooks)
        for publisher in self._publishers:
            tasks.create_task(publisher.run())
        self.certificates.authority.subscribe(self._publish_roots)
        tasks.create_task(self.certificates.ledger.run())
        tasks.create_task(Collector(lambda: self.fleet.pushes, lambda: self.fleet.settled).run())
        self._judgeable.set()
        tasks.create_task(self._judge_forever())
        tasks.create_task(self._status.run())
        tasks.create_task(self._ingresses.run())
        tasks.create_task(self._keys.run())

    def _roots(self) -> str:
        return join(self.certificates.authority.current.trusted)

    def _publish_roots(self) -> None:
        for publisher in self._publishers:
            publisher.publish(self._roots())

    def _roots_published(self) -> bool:
        """Whether namespaces and webhooks have the roots as they are to be now."""
        return bool(self._publishers) and all(one.settled for one in self._publishers)

    # Serving

    async def _serve(self, stack: AsyncExitStack) -> None:
        host, wanted, grace = self.settings.host, self.settings.ports, self.settings.stop_grace
        tls = mutual_tls(self._certificate.current)
        ads = AdsServer(self.fleet, self.fleet.store, Serving(host, wanted.ads, tls))
        await ads.start()
        stack.push_async_callback(ads.stop, grace)
        ca = grpc.aio.server()
        ca.add_generic_rpc_handlers((self.certificates.service(),))
        ca_port = ca.add_secure_port(f"{host}:{wanted.ca}", _server_credentials(self._certificate))
        await ca.start()
        stack.push_async_callback(ca.stop, grace)
        tls = server_tls(self._certificate.current)
        webhooks = await self._http(stack, pages.webhook_app(self._answers()), wanted.webhooks, tls)
        monitoring = await self._http(stack, pages.pages_app(self.debug.pages()), wanted.monitoring)
        ready = await self._http(stack, pages.readiness_app(self.missing), wanted.ready)
        self.ports = Ports(ads.port, ca_port, webhooks, monitoring, ready)

    async def _http(self, stack: AsyncExitStack, app: web.Application, port: int, tls: Any = None) -> int:
        runner = await pages.serve(app, self.settings.host, port, tls)
        stack.push_async_callback(runner.cleanup)
        return pages.port_of(runner)

    def missing(self) -> str:
        """What keeps us from being ready; "" when nothing does."""
        return "" if self.serving.is_set() else "not all ports are open yet"

    # Webhooks

    def _answers(self) -> Mapping[str, pages.Answer]:
        return {
            "/inject": lambda request: injected(request, self.injector_settings()),
            "/validate": lambda request: validated(request, validate, self._dangling),
        }

    def injector_settings(self) -> InjectorSettings:
        """From the ConfigMaps, read once per version; what cannot be read leaves the last good settings in force."""
        maps = [self.snapshot.get(ConfigMap, SYSTEM_NAMESPACE, name) for name in SETTINGS]
        key = tuple(map(id, maps))
        if self._injector is None or self._injector[0] != (key, maps):
            mesh, injector = (one.data if one else {} for one in maps)
            try:
                read = read_settings(mesh.get("mesh", ""), injector.get("values", ""), injector.get("config", ""))
            except Undecodable as error:
                log.error("the injector's settings cannot be read: %s", error)
                read = self._injector[1] if self._injector else InjectorSettings()
            self._injector = ((key, maps), read)
        return self._injector[1]

    def _dangling(self, document: JSON) -> list[Problem]:
        return list(dangling_references(self.snapshot, document))

    # Pushing

    def _wake(self) -> None:
        if not self._changed.is_set():
            self._began = time.monotonic()
            self._changed.set()

    def _learned(self, change: Change) -> None:
        self._learnings.append(change)
        self._wake()

    def _take_learned(self) -> list[Change]:
        taken, self._learnings = self._learnings, []
        return taken

    async def _push_forever(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._pace.pause(time.monotonic()))
            began = self._began
            self._changed.clear()
            if self._watching.take_unread():
                self._judgeable.set()
            self.push([*self._watching.take(), *self._take_learned()], began)

    def push(self, changes: list[Change], began: float) -> None:
        start = time.monotonic()
        before = self.snapshot
        if self._apply(changes):
            found = touched(before, self.snapshot, changes)
            self.fleet.advance(self.snapshot, found, began)
            if found.scopes:
                self._judgeable.set()
        self._pace.pushed(start, time.monotonic())

    async def _judge_forever(self) -> None:
        """Proxies first: what is to be said about objects is worked out when a push has arrived, or takes long."""
        while True:
            await self._judgeable.wait()
            await self.fleet.at_rest(JUDGED_WITHIN)
            self._judgeable.clear()
            problems = {*self.fleet.views.problems(), *refusals(self.fleet.refusals())}
            self._status.settle(self.snapshot, problems, self._watching.undecodable)
            self._ingresses.settle(self.snapshot, problems)

    def _apply(self, changes: list[Change]) -> bool:
        """Whether that makes a difference."""
        after = self.snapshot.apply(*changes)
        changed = after is not self.snapshot
        self.snapshot = self.fleet.views.snapshot = after
        self._keys.want(key_sources(after.table(RequestAuthentication)))
        self._want_rights()
        self._config_maps.want(config_maps(after))
        return changed

    def _want_rights(self) -> None:
        self._rights.want(secret_readers(self.snapshot) | self.fleet.accounts)

    async def _credentials_known(self) -> None:
        """Proxies that come back after our restart are not to be told first that there is none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_WITHIN):
                await self._rights.known()
                await self._config_maps.known()
        self._apply(self._take_learned())


def _server_credentials(certificate: trust.Serving) -> grpc.ServerCredentials:
    """TLS without client certificates, by our newest certificate."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        key, chain, _ = certificate.current()
        return grpc.ssl_server_certificate_configuration([(key, chain)])

    return grpc.dynamic_ssl_server_credentials(configuration(), configuration, require_client_authentication=False)


async def run(settings: Settings, api: Api) -> None:
    """One istiod until cancelled."""
    await ControlPlane(settings, api).run()
