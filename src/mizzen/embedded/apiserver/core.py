"""`Core.handle(request) -> Answer`: the API server without a transport.

It knows paths and verbs; what they do is in reading.py (get, list, watch), objects.py (create, update, delete) and
subresources.py. Authentication has happened before; see authn.py for who may do what.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from mizzen.embedded.apiserver import authn, bodies, errors, events_group, info, patching
from mizzen.embedded.apiserver.authorization import Authorization
from mizzen.embedded.apiserver.objects import Objects
from mizzen.embedded.apiserver.patch import APPLY_PATCH
from mizzen.embedded.apiserver.reading import (
    DEFAULT_WATCH_SECONDS,
    Page,
    Watch,
    WatchRequest,
    document_in,
    lines,
    parse_filter,
    read_page,
)
from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.reviews import Reviews
from mizzen.embedded.apiserver.shapes import Shaper
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.subresources import Subresources
from mizzen.embedded.apiserver.target import Target, parse
from mizzen.embedded.apiserver.wire import ANONYMOUS, Answer, Request, Response, Stream, reply
from mizzen.kube.api import JSON, ApiError, Resource

AfterCreate = Callable[[Resource, JSON], Awaitable[None]]


async def _at_once(resource: Resource, obj: JSON) -> None:
    """Nothing follows."""


@dataclass(slots=True)
class Core:
    store: Store
    registry: Registry
    objects: Objects
    reviews: Reviews
    subresources: Subresources
    information: info.Information
    authorization: Authorization
    after_create: AfterCreate = field(default=_at_once)
    """Awaited between a create and its answer, so that what must follow from it is there when the client looks."""

    async def handle(self, request: Request) -> Answer:
        """Never raises for what a client did: refusals are answers."""
        try:
            answer = await self._route(request)
        except ApiError as error:
            answer = reply(errors.status_of(error), error.code or 500)
        except sqlite3.Error as error:
            refusal = errors.internal(f"the store cannot be written: {error}")
            answer = reply(refusal.status, refusal.code)
        if isinstance(answer, Response) and request.warnings:
            answer.headers["Warning"] = ", ".join(map(_warning, dict.fromkeys(request.warnings)))
        return answer

    async def _route(self, request: Request) -> Answer:
        authn.check_open(request.user, request.path)
        request.user = self.authorization.user(request)
        parts = request.path.strip("/").split("/")
        if parts[0] not in ("api", "apis") or len(parts) < (3 if parts[0] == "api" else 4):
            return self._about_the_server(request)
        target = parse(request.path, self.registry)
        self.authorization.check(request, target)
        if target.kind.verbs == ("create",) and not target.name:
            return await self._review(request, target)
        if target.resource.group == "metrics.k8s.io":
            return await self.subresources.metrics(request, target)
        if target.subresource:
            return await self.subresources.answer(request, target)
        return await self._verb(request, target)(request, target)

    def _about_the_server(self, request: Request) -> Answer:
        if request.user is not ANONYMOUS:
            self.authorization.check_path(request)
        answer = self.information.answer(request)
        if answer is None:
            raise errors.no_such_path()
        return answer

    def _verb(self, request: Request, target: Target) -> Callable[[Request, Target], Awaitable[Answer]]:
        named = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._replace,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }
        whole = {"GET": self._list, "HEAD": self._list, "POST": self._create, "DELETE": self._delete_collection}
        if request.method == "GET" and request.flag("watch"):
            return self._watch
        found = (named if target.name else whole).get(request.method)
        if found is None or (not target.name and request.method == "POST" and _needs_namespace(target)):
            raise errors.method_not_allowed()
        return found

    async def _review(self, request: Request, target: Target) -> Answer:
        if request.method != "POST":
            raise errors.method_not_allowed()
        if target.resource.plural == "bindings":
            body = bodies.decode_as(target.resource, request)
            pod = self.registry.find("", "v1", "pods")
            assert pod is not None
            bound = Target(pod, target.namespace, (body.get("metadata") or {}).get("name", ""), "binding")
            return await self.subresources.answer(request, bound)
        body = bodies.fit(target.kind, bodies.decode_object(request), bodies.call_of(request), request)
        return reply(self.reviews.review(target, body, request.user), 201)

    # -- reading -----------------------------------------------------------------------------------------------

    async def _get(self, request: Request, target: Target) -> Answer:
        entry = self.objects.entry(target)
        shaper = Shaper(target.kind, request)
        return Response(shaper.one(document_in(target.kind, entry)) if shaper.shape != "object" else shaper.raw(entry))

    async def _list(self, request: Request, target: Target) -> Answer:
        wanted = parse_filter(target, request.parameter("labelSelector"), request.parameter("fieldSelector"))
        exact = 0
        if request.parameter("resourceVersionMatch") == "Exact":
            exact = request.number("resourceVersion") or 0
        limit, token = max(0, request.number("limit") or 0), request.parameter("continue")
        page = read_page(self.store, target, wanted, limit, token, exact)
        asked = request.number("resourceVersion") or 0
        if asked > self.store.revision:
            message = f"Too large resource version: {asked}, current: {self.store.revision}"
            raise errors.failure(504, "Timeout", message)
        return Response(Shaper(target.kind, request).many(page))

    async def _watch(self, request: Request, target: Target) -> Answer:
        fields = request.parameter("fieldSelector")
        if target.name:
            fields = ",".join(part for part in (fields, f"metadata.name={target.name}") if part)
        since = request.number("resourceVersion") or None
        shaper = Shaper(target.kind, request)
        watch = Watch(
            self.store,
            WatchRequest(
                target,
                parse_filter(target, request.parameter("labelSelector"), fields),
                since,
                initial_events=request.flag("sendInitialEvents"),
                bookmarks=request.flag("allowWatchBookmarks"),
                seconds=float(request.number("timeoutSeconds") or DEFAULT_WATCH_SECONDS),
            ),
            shaper.event,
            shaper.bookmark,
        )
        watch.open()
        return Stream(lines(watch))

    # -- writing -----------------------------------------------------------------------------------------------

    async def _create(self, request: Request, target: Target) -> Answer:
        call, body = bodies.call_of(request), bodies.decode_object(request)
        stored = self._stored_face(target)
        body = self._incoming(target, bodies.fit(target.kind, body, call, request))
        created = await self.objects.create(stored, body, call)
        if not call.dry_run:
            await self.after_create(target.resource, created)
        return self._written(request, target, created, 201)

    async def _replace(self, request: Request, target: Target) -> Answer:
        call, body = bodies.call_of(request), bodies.decode_object(request)
        body = self._incoming(target, bodies.fit(target.kind, body, call, request))
        new = await self.objects.update(self._stored_face(target), lambda _: copy.deepcopy(body), call)
        return self._written(request, target, new, 200)

    async def _patch(self, request: Request, target: Target) -> Answer:
        call = bodies.call_of(request)
        if target.resource.group == "events.k8s.io":
            raise errors.failure(405, "MethodNotAllowed", "events are patched through the core API group")
        if bodies.media_type(request) == APPLY_PATCH and self.store.get(target.key) is None:
            self.authorization.check(request, target, "create")
        new, created = await patching.patch(self.objects, request, target, call)
        if created and not call.dry_run:
            await self.after_create(target.resource, new)
        return self._written(request, target, new, 201 if created else 200)

    def _incoming(self, target: Target, body: JSON) -> JSON:
        return events_group.to_core(body) if target.resource.group == "events.k8s.io" else body

    def _stored_face(self, target: Target) -> Target:
        """Events are written through their core face, whichever group the client speaks."""
        if target.resource.group != "events.k8s.io":
            return target
        core = self.registry.find("", "v1", "events")
        assert core is not None
        return replace(target, kind=core)

    def _written(self, request: Request, target: Target, obj: JSON, status: int) -> Response:
        if target.resource.group == "events.k8s.io":
            obj = events_group.from_core(obj)
        return Response(Shaper(target.kind, request).one(obj), status)

    async def _delete(self, request: Request, target: Target) -> Answer:
        options, call = bodies.delete_options(request), bodies.delete_call(request)
        obj, gone = await self.objects.delete(target, options, call)
        if gone and target.kind.storage != "pods":
            return reply(_deleted(target, obj))
        return Response(Shaper(target.kind, request).one(obj))

    async def _delete_collection(self, request: Request, target: Target) -> Answer:
        if _needs_namespace(target):
            raise errors.method_not_allowed()
        wanted = parse_filter(target, request.parameter("labelSelector"), request.parameter("fieldSelector"))
        page = read_page(self.store, target, wanted, max(0, request.number("limit") or 0))
        options, call = bodies.delete_options(request), bodies.delete_call(request)
        for entry in page.entries:
            try:
                await self.objects.delete(target.named(entry.key.name), options, call)
            except ApiError as error:
                if error.code != 404:
                    raise
        return Response(Shaper(target.kind, request).many(Page(page.entries, self.store.revision)))


def _needs_namespace(target: Target) -> bool:
    return target.resource.namespaced and not target.namespace


def _deleted(target: Target, obj: JSON) -> JSON:
    details: JSON = {"name": target.name, "kind": target.resource.plural, "uid": obj["metadata"]["uid"]}
    if target.resource.group:
        details["group"] = target.resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _warning(text: str) -> str:
    """As a header has it: on one line, and without what could end it."""
    plain = "".join(each if each.isprintable() else " " for each in text)
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'
