"""Everything below an object: status, scale, token, binding, eviction, approval, and the ways into a container."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from mizzen.embedded.apiserver import bodies, errors, eviction, patching, pods, scale, strategy
from mizzen.embedded.apiserver.node_relay import NodeRelay
from mizzen.embedded.apiserver.objects import Objects
from mizzen.embedded.apiserver.operation import Call, DeleteOptions
from mizzen.embedded.apiserver.patch import APPLY_PATCH, PatchError, apply_patch
from mizzen.embedded.apiserver.reading import document_in
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.shapes import Shaper
from mizzen.embedded.apiserver.store_entries import Entry, Key
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.tokens import API_AUDIENCES, MAX_SECONDS, MIN_SECONDS, TokenIssuer
from mizzen.embedded.apiserver.wire import Answer, Request, Response, Upgrade, reply
from mizzen.kube.api import JSON, Conflict, Preconditions, Resource

_SCALE = Resource("autoscaling", "v1", "scales", "Scale")
_BINDING = Resource("", "v1", "bindings", "Binding")
_EVICTION = Resource("policy", "v1", "evictions", "Eviction")
_TOKEN_REQUEST = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
_Verb = Callable[[Request, Target], Awaitable[Answer]]


@dataclass(slots=True)
class Subresources:
    objects: Objects
    issuer: TokenIssuer
    relay: NodeRelay
    budgets: ResourceType

    async def answer(self, request: Request, target: Target) -> Answer:
        own: dict[str, dict[str, _Verb]] = {
            "scale": {"GET": self._get_scale, "PUT": self._put_scale, "PATCH": self._patch_scale},
            "token": {"POST": self._token},
            "binding": {"POST": self._bind},
            "eviction": {"POST": self._evict},
            "log": {"GET": self._log},
            "exec": {"GET": self._connect, "POST": self._connect},
            "attach": {"GET": self._connect, "POST": self._connect},
            "portforward": {"GET": self._connect, "POST": self._connect},
            "finalize": {"PUT": self._finalize},
            "proxy": {},
        }
        part = {"GET": self._get, "PUT": self._put, "PATCH": self._patch}
        verb = own.get(target.subresource, part).get(request.method)
        if target.subresource == "proxy":
            return await self.relay.proxy(self.objects, request, target)
        if verb is None:
            raise errors.method_not_allowed()
        return await verb(request, target)

    async def metrics(self, request: Request, target: Target) -> Answer:
        if request.method != "GET":
            raise errors.method_not_allowed()
        return await self.relay.metrics(self.objects.store, request, target)

    # -- status and other parts of the object itself ---------------------------------------------------------------

    async def _get(self, request: Request, target: Target) -> Answer:
        return Response(Shaper(target.kind, request).one(document_in(target.kind, self.objects.entry(target))))

    async def _put(self, request: Request, target: Target) -> Answer:
        call = bodies.call_of(request)
        body = bodies.fit(target.kind, bodies.decode_object(request), call, request)
        new = await self.objects.update(target, lambda _: copy.deepcopy(body), call)
        return Response(Shaper(target.kind, request).one(new))

    async def _patch(self, request: Request, target: Target) -> Answer:
        new, _ = await patching.patch(self.objects, request, target, bodies.call_of(request))
        return Response(Shaper(target.kind, request).one(new))

    async def _finalize(self, request: Request, target: Target) -> Answer:
        body = bodies.decode_as(target.resource, request)
        finalizers = (body.get("spec") or {}).get("finalizers") or []

        def finalized(namespace: JSON) -> JSON:
            namespace["spec"] = {**(namespace.get("spec") or {}), "finalizers": finalizers}
            return namespace

        return reply(await self.objects.update(target, finalized, bodies.call_of(request)))

    # -- scale -----------------------------------------------------------------------------------------------------

    async def _get_scale(self, request: Request, target: Target) -> Answer:
        return reply(scale.scale_of(target.kind, document_in(target.kind, self.objects.entry(target))))

    async def _put_scale(self, request: Request, target: Target) -> Answer:
        body = bodies.decode_as(_SCALE, request)
        return await self._scaled(request, target, lambda _: body)

    async def _patch_scale(self, request: Request, target: Target) -> Answer:
        content_type, body = bodies.media_type(request), bodies.decode(request)
        content_type = "application/merge-patch+json" if content_type == APPLY_PATCH else content_type

        def patched(current: JSON) -> JSON:
            try:
                return bodies.checked(_SCALE, apply_patch(content_type, _SCALE, current, body))
            except PatchError as error:
                raise errors.failure(error.code, error.reason, error.message) from None

        return await self._scaled(request, target, patched)

    async def _scaled(self, request: Request, target: Target, change: Callable[[JSON], JSON]) -> Answer:
        kind = target.kind

        def scaled(obj: JSON) -> JSON:
            return scale.scaled(kind, obj, change(scale.scale_of(kind, obj)))

        return reply(scale.scale_of(kind, await self.objects.update(target, scaled, bodies.call_of(request))))

    # -- tokens ----------------------------------------------------------------------------------------------------

    async def _token(self, request: Request, target: Target) -> Answer:
        body = bodies.decode_as(_TOKEN_REQUEST, request)
        return reply(self.issue_token(target, body), 201)

    def issue_token(self, target: Target, body: JSON) -> JSON:
        """A TokenRequest with its status. Raises 404, 422."""
        account = self.objects.entry(target)
        spec = dict(body.get("spec") or {})
        spec["audiences"] = spec.get("audiences") or list(API_AUDIENCES)
        spec["expirationSeconds"] = spec.get("expirationSeconds") or 3600
        self._check_lifetime(target, spec["expirationSeconds"])
        bound = {"namespace": target.namespace, "serviceaccount": {"name": target.name, "uid": account.uid}}
        bound.update(self._bound_object(target, spec.get("boundObjectRef")))
        now: datetime = self.objects.now()
        token = self.issuer.issue(bound, spec["audiences"], now, spec["expirationSeconds"], str(uuid4()))
        ends = strategy.timestamp(now + timedelta(seconds=spec["expirationSeconds"]))
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": target.name,
                "namespace": target.namespace,
                "creationTimestamp": strategy.timestamp(now),
            },
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": ends},
        }

    def _check_lifetime(self, target: Target, seconds: int) -> None:
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            why = (
                "may not specify a duration less than 10 minutes"
                if seconds < MIN_SECONDS
                else "may not specify a duration larger than 2^32 seconds"
            )
            cause = errors.invalid_value("spec.expirationSeconds", seconds, why)
            raise errors.invalid(_TOKEN_REQUEST, target.name, [cause])

    def _bound_object(self, target: Target, reference: JSON | None) -> JSON:
        if not reference:
            return {}
        kind, name, uid = reference.get("kind", ""), reference.get("name", ""), reference.get("uid", "")
        resource = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(kind)
        if resource is None:
            raise errors.bad_request(f"cannot bind token for serviceaccount to object of type {kind}")
        namespace = "" if kind == "Node" else target.namespace
        entry = self.objects.store.get(Key(resource, namespace, name))
        if entry is None:
            raise errors.failure(404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource})
        if uid and uid != entry.uid:
            why = f"the UID in the bound object reference ({uid}) does not match the UID in record ({entry.uid})"
            raise errors.conflict(target.resource, name, why)
        bound: JSON = {kind.lower(): {"name": name, "uid": entry.uid}}
        document = entry.document() if kind == "Pod" else {}
        if node := document.get("spec", {}).get("nodeName"):
            found = self.objects.store.get(Key("nodes", "", node))
            bound["node"] = {"name": node, **({"uid": found.uid} if found else {})}
        return bound

    # -- pods ------------------------------------------------------------------------------------------------------

    async def _bind(self, request: Request, target: Target) -> Answer:
        body = bodies.decode_as(_BINDING, request)
        node = (body.get("target") or {}).get("name", "")

        def bound(pod: JSON) -> JSON:
            if pod["spec"].get("nodeName"):
                why = f'pod {target.name} is already assigned to node "{pod["spec"]["nodeName"]}"'
                raise errors.conflict(target.resource, target.name, why)
            pods.bind(pod, "", strategy.timestamp(self.objects.now()), node)
            return pod

        place = Target(target.kind, target.namespace, target.name, "binding")
        await self.objects.update(place, bound, bodies.call_of(request))
        return reply({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    async def _evict(self, request: Request, target: Target) -> Answer:
        options = bodies.decode_as(_EVICTION, request).get("deleteOptions") or {}
        conditions = options.get("preconditions") or {}
        wanted = DeleteOptions(
            options.get("gracePeriodSeconds"),
            options.get("propagationPolicy"),
            Preconditions(conditions.get("uid"), conditions.get("resourceVersion")),
        )
        place = Target(target.kind, target.namespace, target.name)
        call = bodies.deleting(bodies.call_of(request), options)
        await self._charge_budget(self.objects.entry(place), call)
        await self.objects.delete(place, wanted, call)
        return reply({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201)

    async def _charge_budget(self, pod: Entry, call: Call) -> None:
        """Raises 429. Who finds that another eviction was charged meanwhile looks again."""
        while (budget := eviction.budget_of(self.objects.store, pod)) is not None:
            place = Target(self.budgets, pod.key.namespace, budget["metadata"]["name"], "status")
            charged = eviction.charged(budget)
            with contextlib.suppress(Conflict):
                await self.objects.update(place, functools.partial(_instead, charged), call)
                return

    async def _log(self, request: Request, target: Target) -> Answer:
        pod = document_in(target.kind, self.objects.entry(target))
        return await self.relay.log(request, pod, choose_container(pod, request.parameter("container")))

    async def _connect(self, request: Request, target: Target) -> Answer:
        pod = document_in(target.kind, self.objects.entry(target))
        verb = target.subresource
        assert verb in ("exec", "attach", "portforward")
        container = "" if verb == "portforward" else choose_container(pod, request.parameter("container"))
        return Upgrade(verb, target.namespace, target.name, container, request)  # type: ignore[arg-type]


def _instead(new: JSON, _: JSON) -> JSON:
    return copy.deepcopy(new)


def choose_container(pod: JSON, asked: str) -> str:
    """The container that is meant; the only one if none is named. Raises 400."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    parts = ("initContainers", "containers", "ephemeralContainers")
    names: dict[str, list[str]] = {part: [each["name"] for each in spec.get(part) or ()] for part in parts}
    if asked and any(asked in found for found in names.values()):
        return asked
    if asked:
        raise errors.bad_request(f"container {asked} is not valid for pod {name}")
    if len(names["containers"]) == 1:
        return names["containers"][0]
    choices = f"choose one of: [{' '.join(names['containers'])}]"
    if names["initContainers"]:
        choices += f" or one of the init containers: [{' '.join(names['initContainers'])}]"
    raise errors.bad_request(f"a container name must be specified for pod {name}, {choices}")
