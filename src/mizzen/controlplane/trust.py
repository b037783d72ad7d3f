"""The roots of trust, handed to every namespace; and our own certificate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509

from mizzen.ca.authority import SERVING_VALIDITY, join, sign_serving
from mizzen.ca.succession import Succession
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, Api, ApiError, Conflict, NotFound, Selector
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change

log = logging.getLogger(__name__)

ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_KEY = "root-cert.pem"
_RETRY_SECONDS = 1.0


class Serving:
    """Our own serving certificate, signed anew when half of its time is over or another authority signs."""

    def __init__(self, authority: Callable[[], Succession], names: Sequence[str]) -> None:
        self._authority = authority
        self._names = names
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        self._key_id = ""
        self._trusted: tuple[x509.Certificate, ...] = ()
        self._shown: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    def current(self) -> tuple[bytes, bytes, bytes]:
        """Key, chain and roots as PEM; the same tuple for as long as nothing changed."""
        now, authority = datetime.now(UTC), self._authority()
        if now >= self._renew_at or authority.signing.key_id != self._key_id:
            key, chain = sign_serving(authority.signing, self._names, now, x509.random_serial_number())
            self._shown = (key, chain, self._shown[2])
            self._key_id = authority.signing.key_id
            self._renew_at = now + timedelta(seconds=SERVING_VALIDITY.total_seconds() / 2)
        if authority.trusted != self._trusted:
            self._trusted = authority.trusted
            self._shown = (*self._shown[:2], join(self._trusted).encode())
        return self._shown


class RootPublisher:
    """Keeps ConfigMap `istio-ca-root-cert` in every namespace, whatever is done to it."""

    def __init__(self, api: Api, namespaces: Informer, roots: str) -> None:
        self._api = api
        self._namespaces = namespaces
        self._roots = roots
        self._copies = Informer(
            api,
            WELL_KNOWN.configmaps,
            selector=Selector(fields=f"metadata.name={ROOT_CONFIG_MAP}"),
            reduce=_only_our_key,
        )
        self._changed = asyncio.Event()
        for informer in (namespaces, self._copies):
            informer.subscribe(self._wake)

    def publish(self, roots: str) -> None:
        """These from now on."""
        self._roots = roots
        self._changed.set()

    @property
    def settled(self) -> bool:
        """Whether every namespace that we know has what is to be there."""
        return not self._lacking()

    def _wake(self, _: Sequence[Change]) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._copies.run())
            await self._copies.wait_synced()
            await self._namespaces.wait_synced()
            while True:
                self._changed.clear()
                if await self._publish():
                    await self._changed.wait()
                else:
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _publish(self) -> bool:
        """Whether every namespace has the root now."""
        results = await asyncio.gather(*(self._put(name) for name in self._lacking()))
        return all(results)

    def _lacking(self) -> list[str]:
        live = [name for (_, name), one in self._namespaces.objects.items() if not _ending(one)]
        return [name for name in live if self._content(name) != self._roots]

    def _content(self, namespace: str) -> str | None:
        found = self._copies.get(namespace, ROOT_CONFIG_MAP)
        return (found.get("data") or {}).get(ROOT_KEY) if found else None

    async def _put(self, namespace: str) -> bool:
        wanted = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CONFIG_MAP, "namespace": namespace, "labels": {"istio.io/config": "true"}},
            "data": {ROOT_KEY: self._roots},
        }
        try:
            if self._copies.get(namespace, ROOT_CONFIG_MAP) is None:
                written = await self._api.create(WELL_KNOWN.configmaps, wanted, namespace)
            else:
                written = await self._api.replace(WELL_KNOWN.configmaps, wanted, namespace)
        except (AlreadyExists, Conflict, NotFound):
            return True  # its watch event will say what is there now
        except ApiError as error:
            log.warning("cannot write %s in namespace %s: %s", ROOT_CONFIG_MAP, namespace, error)
            return 0 < error.code < 500  # worth another try only when the server could not be asked
        self._copies.written(_only_our_key(written))
        return True


def _ending(namespace: JSON) -> bool:
    return bool(namespace["metadata"].get("deletionTimestamp"))


def _only_our_key(config_map: JSON) -> JSON:
    data = config_map.get("data") or {}
    return {"metadata": config_map["metadata"], "data": {key: data[key] for key in data if key == ROOT_KEY}}
