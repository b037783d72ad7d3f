"""Keeps our certificate authority in the webhook configurations that lead to us, whoever writes them.

The validating webhook fails open until we serve; once we do, it is turned to Fail.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

from mizzen.kube.api import WELL_KNOWN, Api, ApiError, Conflict, NotFound, Resource
from mizzen.kube.informer import Informer
from mizzen.kube.reflector import Change

JSON: TypeAlias = dict[str, Any]
log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_PATH = {WELL_KNOWN.mutating_webhooks: "/inject", WELL_KNOWN.validating_webhooks: "/validate"}


def patched(configuration: JSON, service: str, namespace: str, path: str, bundle: str) -> JSON | None:
    """The configuration with our bundle wherever it leads to us, or None when it is in place already."""
    changed = False
    webhooks = []
    for webhook in configuration.get("webhooks") or ():
        target = (webhook.get("clientConfig") or {}).get("service") or {}
        ours = (target.get("name"), target.get("namespace"), target.get("path")) == (service, namespace, path)
        wanted = {**webhook, "clientConfig": {**webhook["clientConfig"], "caBundle": bundle}, "failurePolicy": "Fail"}
        changed |= ours and wanted != webhook
        webhooks.append(wanted if ours else webhook)
    return {**configuration, "webhooks": webhooks} if changed else None


class WebhookKeeper:
    """Follows both kinds of configuration; start it when the webhooks serve: nothing is written before."""

    def __init__(self, api: Api, service: str, namespace: str, roots: str) -> None:
        self._api = api
        self._service = service
        self._namespace = namespace
        self._bundle = _encoded(roots)
        self._informers = {resource: Informer(api, resource) for resource in _PATH}
        self._changed = asyncio.Event()
        for informer in self._informers.values():
            informer.subscribe(self._wake)

    def publish(self, roots: str) -> None:
        """These from now on."""
        self._bundle = _encoded(roots)
        self._changed.set()

    @property
    def settled(self) -> bool:
        """Whether all that lead to us trust what they are to trust."""
        return not any(
            self._wanted(configuration, path)
            for resource, path in _PATH.items()
            for configuration in self._informers[resource].objects.values()
        )

    def _wake(self, _: Sequence[Change]) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled; start it when the webhooks serve."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers.values():
                tasks.create_task(informer.run())
                await informer.wait_synced()
            while True:
                self._changed.clear()
                results = [await self._keep(resource, path) for resource, path in _PATH.items()]
                if all(results):
                    await self._changed.wait()
                else:
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _keep(self, resource: Resource, path: str) -> bool:
        informer = self._informers[resource]
        for configuration in list(informer.objects.values()):
            wanted = self._wanted(configuration, path)
            if wanted is None:
                continue
            try:
                patch = {"webhooks": wanted["webhooks"], "metadata": _at_revision(configuration)}
                name = configuration["metadata"]["name"]
                informer.written(await self._api.patch(resource, name, patch, type="merge"))
            except (NotFound, Conflict):
                continue  # its watch event will say what is there now
            except ApiError as error:
                log.warning("cannot write our bundle into %s: %s", configuration["metadata"]["name"], error)
                return False
        return True

    def _wanted(self, configuration: JSON, path: str) -> JSON | None:
        return patched(configuration, self._service, self._namespace, path, self._bundle)


def _encoded(roots: str) -> str:
    return base64.b64encode(roots.encode()).decode()


def _at_revision(configuration: JSON) -> JSON:
    """Makes the patch fail, and be tried again, when somebody else was faster."""
    return {"resourceVersion": configuration["metadata"]["resourceVersion"]}
