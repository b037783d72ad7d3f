"""`kube.api.Api` in memory, for tests: revisions, watches, conflicts, selectors, finalizers, graceful deletion.

It behaves as an API server does without admission: nothing is defaulted or validated, no controller runs. `strategic`
patches are refused; `apply` merges and owns nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from mizzen.kube.api import (
    DEFAULT_WRITE,
    EVERYTHING,
    JSON,
    AlreadyExists,
    ApiError,
    Conflict,
    Expired,
    NotFound,
    ObjectList,
    PatchType,
    Preconditions,
    Propagation,
    Resource,
    Selector,
    WatchEvent,
    WriteOptions,
)
from mizzen.kube.selectors import selects

Name = tuple[str, str]
FINALIZER_OF: Mapping[Propagation, str] = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}
DEFAULT_GRACE = 30


@dataclass(frozen=True, slots=True)
class _Entry:
    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    resource: Resource
    object: JSON
    before: JSON | None


class MemoryApi:
    """One cluster's objects. Everything handed out is a copy; `journal` tells which writes were made."""

    def __init__(self) -> None:
        self._objects: dict[Resource, dict[Name, JSON]] = {}
        self._log: list[_Entry] = []
        self._compacted = 0
        self._revision = itertools.count(2)
        self._latest = 1
        self._news = asyncio.Event()
        self._generation = 0
        self.journal: list[tuple[str, str, str]] = []
        """(verb, plural or plural/subresource, name) of every write that was asked for, in order."""
        self.watch_delay = 0.0
        """Seconds by which watch events come late: real caches lag behind."""
        self.raw_answers: dict[str, Any] = {}
        """What `raw` answers, by path."""
        self.refuse: Callable[[str, Resource, JSON], ApiError | None] = lambda verb, resource, obj: None
        """Asked before each create, replace and patch; plays admission."""

    def compact(self) -> None:
        """Forget the history: watches from before now are Expired."""
        self._compacted = self._latest
        self._log.clear()

    def end_watches(self) -> None:
        """Every watch that is open ends, as at a server's restart."""
        self._generation += 1
        self._wake()

    def all(self, resource: Resource, namespace: str | None = None) -> list[JSON]:
        """Copies of what is stored, sorted by name."""
        found = self._objects.get(resource, {})
        return [_copy(found[name]) for name in sorted(found) if namespace in (None, name[0])]

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JSON:
        return _copied(self._stored(resource, name, namespace))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        limit: int | None = None,
    ) -> ObjectList:
        items = [obj for obj in self.all(resource, namespace) if selects(selector, obj)]
        return ObjectList(items[:limit], str(self._latest))

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        resource_version: str = "",
    ) -> AsyncIterator[WatchEvent]:
        generation, since = self._generation, int(resource_version or 0)
        if since == 0:
            since = self._latest
            for obj in (await self.list(resource, namespace, selector)).items:
                yield WatchEvent("ADDED", obj)
        while generation == self._generation:
            if since < self._compacted:
                raise Expired(410, "Expired", f"too old resource version: {since} ({self._compacted})")
            news = self._news
            for entry in [entry for entry in self._log if entry.revision > since]:
                since = entry.revision
                if entry.resource == resource and namespace in (None, _namespace(entry.object)):
                    for event in _seen_through(selector, entry):
                        await asyncio.sleep(self.watch_delay)
                        yield event
            yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(since)}})
            if self._latest <= since:
                await news.wait()

    async def create(
        self, resource: Resource, obj: JSON, namespace: str | None = None, options: WriteOptions = DEFAULT_WRITE
    ) -> JSON:
        obj = _copy(obj)
        metadata = obj.setdefault("metadata", {})
        if resource.namespaced:
            metadata["namespace"] = namespace or metadata.get("namespace") or "default"
        if "name" not in metadata:
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        self.journal.append(("create", resource.plural, metadata["name"]))
        self._check("create", resource, obj)
        name = (_namespace(obj), metadata["name"])
        if name in self._objects.setdefault(resource, {}):
            raise AlreadyExists(409, "AlreadyExists", f'{resource.plural} "{metadata["name"]}" already exists')
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return obj if options.dry_run else self._store("ADDED", resource, name, obj)

    async def replace(
        self,
        resource: Resource,
        obj: JSON,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> JSON:
        name = obj["metadata"]["name"]
        old = self._stored(resource, name, namespace or obj["metadata"].get("namespace"))
        self.journal.append(("replace", _with(resource, subresource), name))
        return self._update("replace", resource, old, _copy(obj), subresource, options)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        type: PatchType = "merge",
        subresource: str | None = None,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> JSON:
        if type == "strategic":
            raise ApiError(415, "UnsupportedMediaType", "MemoryApi takes json, merge and apply patches")
        try:
            old = self._stored(resource, name, namespace)
        except NotFound:
            if type != "apply":
                raise
            return await self.create(resource, patch, namespace, options)
        self.journal.append(("patch", _with(resource, subresource), name))
        new = _json_patched(_copy(old), patch) if type == "json" else _merged(_copy(old), _copy(patch))
        return self._update("patch", resource, old, new, subresource, options)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation | None = None,
        grace_seconds: int | None = None,
        preconditions: Preconditions | None = None,
    ) -> JSON:
        old = self._stored(resource, name, namespace)
        self.journal.append(("delete", resource.plural, name))
        _check_preconditions(old, preconditions)
        new = _copy(old)
        if finalizer := FINALIZER_OF.get(propagation) if propagation else None:
            new["metadata"].setdefault("finalizers", []).append(finalizer)
        grace = _grace(new, grace_seconds)
        if grace or new["metadata"].get("finalizers") or _namespace_finalizers(new):
            return self._terminate(resource, old, new, grace)
        return self._remove(resource, old)

    async def post_subresource(
        self, resource: Resource, name: str, subresource: str, body: JSON, namespace: str | None = None
    ) -> JSON:
        if (resource.plural, subresource) != ("pods", "binding"):
            raise NotFound(404, "NotFound", f"MemoryApi has no {resource.plural}/{subresource}")
        node = {"spec": {"nodeName": body["target"]["name"]}}
        return await self.patch(resource, name, node, namespace)

    async def raw(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        try:
            return _copy(self.raw_answers[path])
        except KeyError:
            raise NotFound(404, "NotFound", f"{method} {path} is not served") from None

    async def close(self) -> None:
        return None

    def _stored(self, resource: Resource, name: str, namespace: str | None) -> JSON:
        try:
            return self._objects[resource][(namespace or "" if resource.namespaced else "", name)]
        except KeyError:
            raise NotFound(404, "NotFound", f'{resource.plural} "{name}" not found') from None

    def _check(self, verb: str, resource: Resource, obj: JSON) -> None:
        if error := self.refuse(verb, resource, obj):
            raise error

    def _update(
        self, verb: str, resource: Resource, old: JSON, new: JSON, subresource: str | None, options: WriteOptions
    ) -> JSON:
        self._check(verb, resource, new)
        asked = new["metadata"].get("resourceVersion")
        if asked and asked != old["metadata"]["resourceVersion"]:
            message = (
                f'{resource.plural} "{old["metadata"]["name"]}" has been modified; please apply your changes again'
            )
            raise Conflict(409, "Conflict", message)
        new = _allowed(old, new, subresource)
        if new == old or options.dry_run:
            return _copied(new)
        if new["metadata"].get("deletionTimestamp") and not _is_held(new):
            return self._remove(resource, new)
        return self._store("MODIFIED", resource, (_namespace(old), old["metadata"]["name"]), new)

    def _terminate(self, resource: Resource, old: JSON, new: JSON, grace: int) -> JSON:
        new["metadata"].setdefault("deletionTimestamp", _now())
        new["metadata"]["deletionGracePeriodSeconds"] = grace
        if resource.plural == "namespaces":
            new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
        if new == old:
            return _copied(old)
        return self._store("MODIFIED", resource, (_namespace(old), old["metadata"]["name"]), new)

    def _remove(self, resource: Resource, obj: JSON) -> JSON:
        name = (_namespace(obj), obj["metadata"]["name"])
        self._store("DELETED", resource, name, _copy(obj))
        del self._objects[resource][name]
        return {"kind": "Status", "status": "Success", "details": {"name": name[1], "uid": obj["metadata"]["uid"]}}

    def _store(self, type: Literal["ADDED", "MODIFIED", "DELETED"], resource: Resource, name: Name, obj: JSON) -> JSON:
        self._latest = next(self._revision)
        obj["metadata"]["resourceVersion"] = str(self._latest)
        before = self._objects[resource].get(name)
        self._objects[resource][name] = obj
        self._log.append(_Entry(self._latest, type, resource, obj, before))
        self._wake()
        return _copied(obj)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _copy(obj: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(obj))


def _copied(obj: JSON) -> JSON:
    copy: JSON = _copy(obj)
    return copy


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _namespace(obj: JSON) -> str:
    return obj["metadata"].get("namespace") or ""


def _with(resource: Resource, subresource: str | None) -> str:
    return f"{resource.plural}/{subresource}" if subresource else resource.plural


def _seen_through(selector: Selector, entry: _Entry) -> list[WatchEvent]:
    """An object that begins or ceases to match appears or disappears."""
    matches = selects(selector, entry.object)
    matched = entry.before is not None and selects(selector, entry.before)
    if entry.type == "DELETED" or (matched and not matches):
        return [WatchEvent("DELETED", _copy(entry.object))] if matched else []
    if not matches:
        return []
    return [WatchEvent("MODIFIED" if matched else "ADDED", _copy(entry.object))]


def _allowed(old: JSON, new: JSON, subresource: str | None) -> JSON:
    """What a write may change: a subresource its own part, the main resource all but the status."""
    if subresource == "status":
        return {**_copy(old), "status": new.get("status")}
    if subresource == "finalize":
        return {**_copy(old), "spec": new.get("spec")}
    kept = {"uid", "creationTimestamp", "deletionTimestamp", "generation", "resourceVersion"} & old["metadata"].keys()
    metadata = {**new["metadata"], **{key: old["metadata"][key] for key in kept}}
    if new.get("spec") != old.get("spec"):
        metadata["generation"] = old["metadata"]["generation"] + 1
    status = {"status": old["status"]} if "status" in old else {}
    return {**{key: value for key, value in new.items() if key != "status"}, "metadata": metadata, **status}


def _is_held(obj: JSON) -> bool:
    graceful = obj["metadata"].get("deletionGracePeriodSeconds")
    return bool(graceful or obj["metadata"].get("finalizers") or _namespace_finalizers(obj))


def _grace(obj: JSON, asked: int | None) -> int:
    """Only Pods that a node runs are given time to end."""
    spec = obj.get("spec") or {}
    if obj["kind"] != "Pod" or not spec.get("nodeName"):
        return 0
    return asked if asked is not None else int(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE))


def _namespace_finalizers(obj: JSON) -> bool:
    return obj["kind"] == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))


def _check_preconditions(obj: JSON, wanted: Preconditions | None) -> None:
    metadata = obj["metadata"]
    if wanted and (
        (wanted.uid and wanted.uid != metadata["uid"])
        or (wanted.resource_version and wanted.resource_version != metadata["resourceVersion"])
    ):
        raise Conflict(409, "Conflict", "the preconditions do not hold")


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _json_patched(document: Any, operations: list[JSON]) -> Any:
    """RFC 6902: add, replace, remove and test."""
    for operation in operations:
        *parents, last = (_unescaped(part) for part in operation["path"].lstrip("/").split("/"))
        target = document
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        _operate(target, last, operation)
    return document


def _operate(target: Any, last: str, operation: JSON) -> None:
    position: Any = int(last) if isinstance(target, list) and re.fullmatch(r"\d+", last) else last
    match operation["op"]:
        case "add" if isinstance(target, list):
            target.insert(len(target) if last == "-" else position, operation["value"])
        case "add" | "replace":
            target[position] = operation["value"]
        case "remove":
            del target[position]
        case "test":
            if target[position] != operation["value"]:
                raise ApiError(422, "Invalid", f"the server rejected the patch: test of {operation['path']} failed")
        case verb:
            raise ApiError(400, "BadRequest", f"MemoryApi has no JSON patch operation {verb!r}")


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
