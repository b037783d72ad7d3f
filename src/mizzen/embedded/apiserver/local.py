"""`kube.Api` inside the server's own process: what the controllers speak. No HTTP, no TLS, the same rules."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from mizzen.embedded.apiserver import errors, patching
from mizzen.embedded.apiserver.core import Core
from mizzen.embedded.apiserver.operation import Call, DeleteOptions
from mizzen.embedded.apiserver.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from mizzen.embedded.apiserver.reading import (
    DEFAULT_WATCH_SECONDS,
    Watch,
    WatchRequest,
    document_in,
    parse_filter,
    read_page,
)
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.wire import LOOPBACK, Request, Response, User, encode, parse_query
from mizzen.kube.api import (
    DEFAULT_WRITE,
    EVERYTHING,
    JSON,
    ObjectList,
    PatchType,
    Preconditions,
    Propagation,
    Resource,
    Selector,
    WatchEvent,
    WriteOptions,
)

_CONTENT_TYPES: dict[PatchType, str] = {
    "json": JSON_PATCH,
    "merge": MERGE_PATCH,
    "strategic": STRATEGIC_MERGE_PATCH,
    "apply": APPLY_PATCH,
}


def _call(user: User, options: WriteOptions) -> Call:
    return Call(user, options.manager, options.dry_run, options.force)


def _bookmark(target: Target, revision: int) -> WatchEvent:
    metadata = {"resourceVersion": str(revision)}
    told = {"kind": target.resource.kind, "apiVersion": target.resource.api_version, "metadata": metadata}
    return WatchEvent("BOOKMARK", told)


def _copy(value: Any) -> Any:
    """The caller keeps its own."""
    return msgspec.json.decode(encode(value))


class LocalApi:
    """Implements `kube.api.Api` over the core, as `user`."""

    def __init__(self, core: Core, user: User = LOOPBACK) -> None:
        self._core, self._user = core, user

    def _target(self, resource: Resource, namespace: str | None, name: str = "", subresource: str = "") -> Target:
        kind = self._core.registry.find(resource.group, resource.version, resource.plural)
        if kind is None:
            raise errors.no_such_path()
        if subresource and kind.subresource(subresource) is None:
            raise errors.no_such_path()
        return Target(kind, (namespace or "") if kind.resource.namespaced else "", name, subresource)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JSON:
        target = self._target(resource, namespace, name)
        return document_in(target.kind, self._core.objects.entry(target))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        limit: int | None = None,
    ) -> ObjectList:
        target = self._target(resource, namespace)
        wanted = parse_filter(target, selector.labels, selector.fields)
        page = read_page(self._core.store, target, wanted, limit or 0)
        items = [document_in(target.kind, entry) for entry in page.entries]
        return ObjectList(items, str(page.revision), page.continue_token)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        selector: Selector = EVERYTHING,
        resource_version: str = "",
    ) -> AsyncIterator[WatchEvent]:
        target = self._target(resource, namespace)
        wanted = parse_filter(target, selector.labels, selector.fields)
        since = int(resource_version or 0) or None
        watch = Watch(
            self._core.store,
            WatchRequest(target, wanted, since, initial_events=False, bookmarks=True, seconds=DEFAULT_WATCH_SECONDS),
            lambda kind, entry: WatchEvent(kind, document_in(target.kind, entry)),
            lambda revision, _: _bookmark(target, revision),
        )
        watch.open()
        async with contextlib.aclosing(watch.events()) as events:
            async for some in events:
                for event in some:
                    yield event

    async def create(
        self, resource: Resource, obj: JSON, namespace: str | None = None, options: WriteOptions = DEFAULT_WRITE
    ) -> JSON:
        namespace = namespace or (obj.get("metadata") or {}).get("namespace")
        target = self._target(resource, namespace)
        if target.kind.verbs == ("create",):
            return self._core.reviews.review(target, _copy(obj), self._user)
        return await self._core.objects.create(target, _copy(obj), _call(self._user, options))

    async def replace(
        self,
        resource: Resource,
        obj: JSON,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        options: WriteOptions = DEFAULT_WRITE,
    ) -> JSON:
        metadata = obj["metadata"]
        if subresource in ("scale", "finalize"):
            path = resource.path(namespace or metadata.get("namespace"), metadata["name"], subresource)
            answer: JSON = await self.raw("PUT", path, obj)
            return answer
        target = self._target(resource, namespace or metadata.get("namespace"), metadata["name"], subresource or "")
        return await self._core.objects.update(target, lambda _: _copy(obj), _call(self._user, options))

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
        if subresource == "scale":
            headers = {"content-type": _CONTENT_TYPES[type]}
            answer: JSON = await self.raw("PATCH", resource.path(namespace, name, subresource), patch, headers)
            return answer
        target = self._target(resource, namespace, name, subresource or "")
        call = _call(self._user, options)
        new, _ = await patching.patch_with(self._core.objects, target, _CONTENT_TYPES[type], _copy(patch), call)
        return new

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
        options = DeleteOptions(grace_seconds, propagation, preconditions or Preconditions())
        obj, _ = await self._core.objects.delete(self._target(resource, namespace, name), options, Call(self._user))
        return obj

    async def post_subresource(
        self, resource: Resource, name: str, subresource: str, body: JSON, namespace: str | None = None
    ) -> JSON:
        answer: JSON = await self.raw("POST", resource.path(namespace, name, subresource), body)
        return answer

    async def raw(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Through the core as any request goes. Raises ApiError for what is not 2xx."""
        path, _, query = path.partition("?")
        content = b"" if body is None else encode(body)
        names = {"content-type": "application/json", **{key.lower(): value for key, value in (headers or {}).items()}}
        request = Request(method, path.rstrip("/") or "/", parse_query(query), names, content, self._user)
        answer = await self._core.handle(request)
        if not isinstance(answer, Response):
            raise errors.bad_request(f"{path} is a stream; raw speaks JSON")
        document: Any = msgspec.json.decode(answer.body) if "json" in answer.content_type else answer.body.decode()
        if answer.status >= 400:
            raise errors.failure(answer.status, document["reason"], document["message"], document.get("details"))
        return document

    async def close(self) -> None:
        """Nothing to close: the store is not this object's."""
