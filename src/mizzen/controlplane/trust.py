"""The root of trust: made once however many replicas start, handed to every namespace; and our own certificate."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509

from mizzen.ca.authority import SERVING_VALIDITY, Root, new_root, sign_serving
from mizzen.kube.api import JSON, WELL_KNOWN, AlreadyExists, Api, ApiError, Conflict, NotFound, Selector
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change

log = logging.getLogger(__name__)

SECRET = "istio-ca-secret"  # noqa: S105 - an object's name
PLUGGED_IN = "cacerts"
SECRET_TYPE = "istio.io/ca-root"  # noqa: S105
ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_KEY = "root-cert.pem"
_RETRY_SECONDS = 1.0


async def load_root(api: Api, namespace: str, trust_domain: str) -> Root:
    """The authority that signs: the one that is plugged in (Secret `cacerts`), else the mesh's own root, made if there
    is none. Asks until the API server answers. Raises ValueError for a Secret that holds no authority."""
    while True:
        try:
            return await _load_or_make(api, namespace, trust_domain)
        except ApiError as error:
            log.warning("cannot get the mesh's root yet: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)


async def _load_or_make(api: Api, namespace: str, trust_domain: str) -> Root:
    try:
        found = _plugged_in(await api.get(WELL_KNOWN.secrets, PLUGGED_IN, namespace))
        log.info("Secret %s/%s is the mesh's authority", namespace, PLUGGED_IN)
        return found
    except NotFound:
        pass
    try:
        return _root_in(await api.get(WELL_KNOWN.secrets, SECRET, namespace))
    except NotFound:
        pass
    root = new_root(trust_domain, datetime.now(UTC), x509.random_serial_number())
    try:
        await api.create(WELL_KNOWN.secrets, _secret(root, namespace), namespace)
    except AlreadyExists:  # another replica was faster: its root counts
        return _root_in(await api.get(WELL_KNOWN.secrets, SECRET, namespace))
    log.info("made the mesh's root certificate and stored it in Secret %s/%s", namespace, SECRET)
    return root


def _secret(root: Root, namespace: str) -> JSON:
    certificate, key = (base64.b64encode(part).decode() for part in root.to_pem())
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": namespace},
        "type": SECRET_TYPE,
        "data": {"ca-cert.pem": certificate, "ca-key.pem": key},
    }


def _root_in(secret: JSON) -> Root:
    data = secret.get("data") or {}
    try:
        return Root.from_pem(base64.b64decode(data["ca-cert.pem"]), base64.b64decode(data["ca-key.pem"]))
    except KeyError as error:
        raise ValueError(f"Secret {SECRET} has no {error}: delete it, and a new root is made") from error


def _plugged_in(secret: JSON) -> Root:
    data = secret.get("data") or {}
    try:
        parts = [base64.b64decode(data[f"{name}.pem"]) for name in ("ca-cert", "ca-key", "cert-chain", "root-cert")]
    except KeyError as error:
        raise ValueError(f"Secret {PLUGGED_IN} has no {error}") from error
    try:
        return Root.plugged_in(*parts)
    except ValueError as error:
        raise ValueError(f"Secret {PLUGGED_IN} cannot be used: {error}") from error


class Serving:
    """Our own serving certificate, signed anew when half of its time is over."""

    def __init__(self, root: Root, names: Sequence[str]) -> None:
        self._root = root
        self._names = names
        self._renew_at = datetime.min.replace(tzinfo=UTC)
        self._shown: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    def current(self) -> tuple[bytes, bytes, bytes]:
        """Key, chain and root as PEM; the same tuple for as long as nothing changed."""
        now = datetime.now(UTC)
        if now >= self._renew_at:
            key, chain = sign_serving(self._root, self._names, now, x509.random_serial_number())
            self._shown = (key, chain, self._root.trusted.encode())
            self._renew_at = now + timedelta(seconds=SERVING_VALIDITY.total_seconds() / 2)
        return self._shown


class RootPublisher:
    """Keeps ConfigMap `istio-ca-root-cert` in every namespace, whatever is done to it."""

    def __init__(self, api: Api, namespaces: Informer, root: str) -> None:
        self._api = api
        self._namespaces = namespaces
        self._root = root
        self._copies = Informer(
            api,
            WELL_KNOWN.configmaps,
            selector=Selector(fields=f"metadata.name={ROOT_CONFIG_MAP}"),
            reduce=_only_our_key,
        )
        self._changed = asyncio.Event()
        for informer in (namespaces, self._copies):
            informer.subscribe(self._wake)

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
        return [name for name in live if self._content(name) != self._root]

    def _content(self, namespace: str) -> str | None:
        found = self._copies.get(namespace, ROOT_CONFIG_MAP)
        return (found.get("data") or {}).get(ROOT_KEY) if found else None

    async def _put(self, namespace: str) -> bool:
        wanted = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CONFIG_MAP, "namespace": namespace, "labels": {"istio.io/config": "true"}},
            "data": {ROOT_KEY: self._root},
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
