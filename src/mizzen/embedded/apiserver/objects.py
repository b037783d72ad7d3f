"""The verbs that write: create, update (of which patch is one), delete. Every transport goes through here.

A write reads the committed object, changes a copy, passes admission, and is put with the version that it read; when
another write was faster, it starts again, unless the caller named the version it wants to replace.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from mizzen.embedded.apiserver import conversion, errors, strategy
from mizzen.embedded.apiserver.operation import Call, DeleteOptions, Operation
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.store import Stale, Store
from mizzen.embedded.apiserver.store_entries import Entry
from mizzen.embedded.apiserver.target import Target
from mizzen.kube.api import JSON

Change = Callable[[JSON], JSON]
ATTEMPTS = 20


class Admission(Protocol):
    """What stands between a request and the store. Each may raise an ApiError."""

    def default(self, kind: ResourceType, obj: JSON) -> None: ...

    async def mutate(self, operation: Operation) -> None: ...

    async def validate(self, operation: Operation) -> None: ...

    def prepare(self, operation: Operation) -> None:
        """The server's own last touches: allocation, binding, defaults."""
        ...

    def release(self, operation: Operation) -> None:
        """Give back what `prepare` reserved: the write did not happen."""
        ...


class FieldManagement(Protocol):
    """Who owns which field: `metadata.managedFields`."""

    def track(self, kind: ResourceType, old: JSON | None, new: JSON, call: Call, subresource: str) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


class Uids:
    """Random as `uuid4` makes them, from the system's chance by the page: asking for it lets other threads go first."""

    _SIZE = 16

    def __init__(self) -> None:
        self._page = b""

    def new(self) -> str:
        if not self._page:
            self._page = os.urandom(256 * self._SIZE)
        mine, self._page = self._page[: self._SIZE], self._page[self._SIZE :]
        return str(UUID(bytes=mine, version=4))


@dataclass(slots=True)
class Objects:
    store: Store
    admission: Admission
    fields: FieldManagement
    now: Callable[[], datetime] = field(default=_now)
    uids: Uids = field(default_factory=Uids)

    # -- reading one -------------------------------------------------------------------------------------------

    def entry(self, target: Target) -> Entry:
        """Raises 404."""
        entry = self.store.get(target.key)
        if entry is None:
            raise errors.not_found(target.resource, target.name)
        return entry

    # -- create ------------------------------------------------------------------------------------------------

    async def create(self, target: Target, obj: JSON, call: Call) -> JSON:
        """Store a new object, which is also the answer. `target.name` may be empty."""
        kind = target.kind
        strategy.check_versions(kind, obj)
        self._name(target, obj)
        if obj["metadata"].get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        for _ in range(ATTEMPTS):
            target = target.named(obj["metadata"]["name"])
            if self.store.get(target.key):
                raise errors.already_exists(target.resource, target.name)
            try:
                return await self._create_once(target, obj, call)
            except Stale:
                await self.store.settled(target.key)
        raise errors.already_exists(target.resource, target.name)

    async def _create_once(self, target: Target, obj: JSON, call: Call) -> JSON:
        kind = target.kind
        strategy.reset_for_create(kind, obj, self.uids.new(), self.now())
        self.admission.default(kind, obj)
        self.fields.track(kind, None, obj, call, "")
        operation = Operation("CREATE", kind, target.namespace, target.name, obj, None, call)
        await self.admission.mutate(operation)
        assert operation.obj is not None
        try:
            self.admission.prepare(operation)
            await self.admission.validate(operation)
            if call.dry_run:
                self.admission.release(operation)
                return operation.obj
            return await self._put(target, operation.obj, None)
        except BaseException:
            self.admission.release(operation)
            raise

    def _name(self, target: Target, obj: JSON) -> None:
        metadata = obj.setdefault("metadata", {})
        if target.namespace and metadata.setdefault("namespace", target.namespace) != target.namespace:
            if metadata["namespace"]:
                message = "the namespace of the provided object does not match the namespace sent on the request"
                raise errors.bad_request(message)
            metadata["namespace"] = target.namespace
        if not target.kind.resource.namespaced:
            metadata.pop("namespace", None)
        if not metadata.get("name") and metadata.get("generateName"):
            suffix = "".join(secrets.choice(strategy.GENERATE_ALPHABET) for _ in range(5))
            metadata["name"] = strategy.generated_name(metadata["generateName"], suffix)
        if not metadata.get("name"):
            cause = errors.required("metadata.name", "name or generateName is required")
            raise errors.invalid(target.resource, "", [cause])

    async def _put(self, target: Target, obj: JSON, expected: Entry | None) -> JSON:
        before = expected.document() if expected and conversion.converts(target.kind) else {}
        await self.store.put(target.key, conversion.to_stored(target.kind, obj, before), expected)
        return obj

    # -- update ------------------------------------------------------------------------------------------------

    async def update(self, target: Target, change: Change, call: Call, options: JSON | None = None) -> JSON:
        """Replace the object by what `change` makes of it. A `metadata.resourceVersion` it leaves is a condition."""
        for _ in range(ATTEMPTS):
            entry = self.entry(target)
            try:
                return await self._update_once(target, entry, change, call)
            except Stale:
                await self.store.settled(target.key)
        raise errors.conflict(target.resource, target.name)

    async def _update_once(self, target: Target, entry: Entry, change: Change, call: Call) -> JSON:
        old = served(target.kind, entry)
        new = self._updated(target, old, change(served(target.kind, entry)))
        self.admission.default(target.kind, new)
        self.fields.track(target.kind, old, new, call, target.subresource)
        operation = Operation("UPDATE", target.kind, target.namespace, target.name, new, old, call, target.subresource)
        await self.admission.mutate(operation)
        assert operation.obj is not None
        try:
            return await self._store_update(target, entry, operation)
        except BaseException:
            self.admission.release(operation)
            raise

    async def _store_update(self, target: Target, entry: Entry, operation: Operation) -> JSON:
        kind, old, new, call = target.kind, operation.old, operation.obj, operation.call
        assert old is not None and new is not None
        strategy.keep_server_owned(old, new)
        self.admission.prepare(operation)
        strategy.bump_generation(kind, old, new)
        await self.admission.validate(operation)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if strategy.same(old, new):
            return old
        if call.dry_run:
            self.admission.release(operation)
            return new
        if strategy.may_go(kind, new):
            await self.store.delete(entry)
            return new
        return await self._put(target, new, entry)

    def _updated(self, target: Target, old: JSON, new: JSON) -> JSON:
        strategy.check_versions(target.kind, new)
        before, after = old["metadata"], new.setdefault("metadata", {})
        if after.setdefault("name", target.name) != target.name:
            raise errors.bad_request(
                f"the name of the object ({after['name']}) does not match the name on the URL ({target.name})"
            )
        if target.namespace and after.setdefault("namespace", target.namespace) != target.namespace:
            raise errors.bad_request(
                f"the namespace of the object ({after['namespace']}) does not match the namespace on the URL "
                f"({target.namespace})"
            )
        if after.get("uid") and after["uid"] != before["uid"]:
            why = f"Precondition failed: UID in precondition: {after['uid']}, UID in object meta: {before['uid']}"
            raise errors.conflict(target.resource, target.name, why)
        if after.get("resourceVersion") not in (None, "", "0", before["resourceVersion"]):
            raise errors.conflict(target.resource, target.name)
        return strategy.isolate(target.kind, old, new, target.subresource)

    # -- delete ------------------------------------------------------------------------------------------------

    async def delete(self, target: Target, options: DeleteOptions, call: Call) -> tuple[JSON, bool]:
        """The object's last or present state, and whether it is gone."""
        for _ in range(ATTEMPTS):
            entry = self.entry(target)
            try:
                return await self._delete_once(target, entry, options, call)
            except Stale:
                await self.store.settled(target.key)
        raise errors.conflict(target.resource, target.name)

    async def _delete_once(self, target: Target, entry: Entry, options: DeleteOptions, call: Call) -> tuple[JSON, bool]:
        old = served(target.kind, entry)
        _check_preconditions(target, old, options)
        operation = Operation("DELETE", target.kind, target.namespace, target.name, None, old, call)
        await self.admission.mutate(operation)
        await self.admission.validate(operation)
        new = self._marked(target.kind, served(target.kind, entry), options)
        if strategy.may_go(target.kind, new):
            if not call.dry_run:
                await self.store.delete(entry)
            return old, True
        if call.dry_run or strategy.same(old, new):
            return new, False
        return await self._put(target, new, entry), False

    def _marked(self, kind: ResourceType, obj: JSON, options: DeleteOptions) -> JSON:
        """The object with its deletion written into it."""
        metadata = obj["metadata"]
        grace = strategy.grace_seconds(kind, obj, options.grace_seconds)
        present = metadata.get("deletionGracePeriodSeconds")
        finalizers = strategy.deletion_finalizers(metadata.get("finalizers") or [], options.propagation)
        metadata["finalizers"] = finalizers
        if not finalizers:
            del metadata["finalizers"]
        if "deletionTimestamp" not in metadata or (present is not None and grace < present):
            metadata["deletionTimestamp"] = strategy.timestamp(self.now() + timedelta(seconds=grace))
            metadata["deletionGracePeriodSeconds"] = grace
            if "generation" in metadata:
                metadata["generation"] += 1
        if kind.storage == "namespaces":
            obj.setdefault("status", {})["phase"] = "Terminating"
        return obj


def served(kind: ResourceType, entry: Entry) -> JSON:
    """A fresh copy of the object in the version that was asked for."""
    return conversion.to_served(kind, entry.document())


def _check_preconditions(target: Target, obj: JSON, options: DeleteOptions) -> None:
    wanted, metadata = options.preconditions, obj["metadata"]
    if wanted.uid and wanted.uid != metadata["uid"]:
        why = f"Precondition failed: UID in precondition: {wanted.uid}, UID in object meta: {metadata['uid']}"
        raise errors.conflict(target.resource, target.name, why)
    if wanted.resource_version and wanted.resource_version != metadata["resourceVersion"]:
        why = (
            f"Precondition failed: ResourceVersion in precondition: {wanted.resource_version}, ResourceVersion in "
            f"object meta: {metadata['resourceVersion']}"
        )
        raise errors.conflict(target.resource, target.name, why)
