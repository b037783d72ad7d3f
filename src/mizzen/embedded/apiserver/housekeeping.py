"""What the server does by itself: empty a deleted CustomResourceDefinition, aggregate roles, sign certificates.

Everything else that happens without a request is a controller's work.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mizzen.embedded.apiserver import certificate_requests, policy_types, role_aggregation
from mizzen.embedded.apiserver.crds import CLEANUP_FINALIZER
from mizzen.embedded.apiserver.objects import Objects
from mizzen.embedded.apiserver.operation import Call, DeleteOptions
from mizzen.embedded.apiserver.pki import Authority
from mizzen.embedded.apiserver.policies import POLICIES
from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.resources import ResourceType, storage_name
from mizzen.embedded.apiserver.rights import CLUSTER_ROLES
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Entry, Event, Key
from mizzen.embedded.apiserver.target import Target
from mizzen.kube.api import JSON, ApiError, NotFound

log = logging.getLogger(__name__)
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
_CALL = Call(manager="mizzen-apiserver")


@dataclass(slots=True)
class Housekeeping:
    """Starts with `start`, inside the event loop; `stop` ends it."""

    store: Store
    registry: Registry
    objects: Objects
    authority: Callable[[], Authority]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _aggregating: bool = False

    def start(self) -> None:
        self.store.listen(CRDS, self._crd_changed)
        self.store.listen(CLUSTER_ROLES, self._cluster_role_changed)
        self.store.listen(POLICIES, self._policy_changed)
        self.store.listen(certificate_requests.STORAGE, self._certificate_requested)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _later(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        task = asyncio.get_running_loop().create_task(_logged(work, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- aggregated roles ------------------------------------------------------------------------------------------

    def _cluster_role_changed(self, event: Event) -> None:
        """Changes come in swarms, of which the last one decides."""
        if not self._aggregating:
            self._aggregating = True
            self._later(self._aggregate, "aggregating cluster roles")

    async def _aggregate(self) -> None:
        self._aggregating = False
        kind = self.registry.find("rbac.authorization.k8s.io", "v1", "clusterroles")
        assert kind is not None
        for name, rules in role_aggregation.stale(self.store.entries(CLUSTER_ROLES)).items():
            await self.objects.update(Target(kind, "", name), functools.partial(_with_rules, rules), _CALL)

    # -- policies --------------------------------------------------------------------------------------------------

    def _policy_changed(self, event: Event) -> None:
        policy = event.entry.document()
        seen = (policy.get("status") or {}).get("observedGeneration")
        if event.type != "DELETED" and seen != policy["metadata"]["generation"]:
            self._later(lambda: self._tell_types(event.entry), f"checking the types of {event.entry.key.name}")

    async def _tell_types(self, entry: Entry) -> None:
        kind = self.registry.find("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
        assert kind is not None

        def told(policy: JSON) -> JSON:
            found = policy_types.warnings(policy, self.registry)
            checked = {"expressionWarnings": found} if found else {}
            return {
                **policy,
                "status": {"observedGeneration": policy["metadata"]["generation"], "typeChecking": checked},
            }

        await self.objects.update(Target(kind, "", entry.key.name, "status"), told, _CALL)

    # -- certificates ----------------------------------------------------------------------------------------------

    def _certificate_requested(self, event: Event) -> None:
        if event.type != "DELETED" and certificate_requests.waits_for_us(event.entry.document()):
            self._later(lambda: self._sign(event.entry.key.name), f"signing {event.entry.key.name}")

    async def _sign(self, name: str) -> None:
        kind = self.registry.find("certificates.k8s.io", "v1", "certificatesigningrequests")
        assert kind is not None
        now = self.objects.now()

        def answered(request: JSON) -> JSON:
            return {**request, "status": certificate_requests.answer(self.authority(), request, now)}

        await self.objects.update(Target(kind, "", name, "status"), answered, _CALL)

    # -- custom resources ------------------------------------------------------------------------------------------

    def _crd_changed(self, event: Event) -> None:
        metadata = event.entry.document()["metadata"]
        if event.type == "DELETED" or "deletionTimestamp" not in metadata:
            return
        if CLEANUP_FINALIZER in (metadata.get("finalizers") or ()):
            self._later(lambda: self._empty(event.entry), f"emptying {event.entry.key.name}")

    async def _empty(self, entry: Entry) -> None:
        """Delete all instances; the definition may go once none is left."""
        spec = entry.document()["spec"]
        storage = storage_name(spec["group"], spec["names"]["plural"])
        kinds = self.registry.versions_of(storage)
        for instance in list(self.store.entries(storage)) if kinds else ():
            await self._delete(kinds[0], instance.key)
        await self._until_empty(storage)
        crd = self.registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert crd is not None
        await self.objects.update(Target(crd, "", entry.key.name), _without_cleanup, _CALL)

    async def _until_empty(self, storage: str) -> None:
        """Instances with finalizers go when their owners let them."""
        subscription = self.store.subscribe(storage, "", self.store.revision)
        try:
            while list(self.store.entries(storage)):
                await subscription.wait()
                subscription.pending.clear()
        finally:
            self.store.unsubscribe(subscription)

    async def _delete(self, kind: ResourceType, key: Key) -> None:
        try:
            await self.objects.delete(Target(kind, key.namespace, key.name), DeleteOptions(), _CALL)
        except ApiError as error:
            if error.code != 404:
                raise


async def _logged(work: Callable[[], Awaitable[None]], what: str) -> None:
    try:
        await work()
    except NotFound:
        log.debug("%s: it has gone already", what)
    except ApiError as error:
        log.warning("%s: %s", what, error)


def _with_rules(rules: list[JSON], role: JSON) -> JSON:
    return {**role, "rules": rules}


def _without_cleanup(crd: JSON) -> JSON:
    finalizers = [each for each in crd["metadata"].get("finalizers") or () if each != CLEANUP_FINALIZER]
    crd["metadata"]["finalizers"] = finalizers
    return crd
