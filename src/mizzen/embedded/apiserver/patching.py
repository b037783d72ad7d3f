"""PATCH: which of the patch types it is, and what of the object it sees."""

from __future__ import annotations

from mizzen.embedded.apiserver import bodies, errors, field_owners
from mizzen.embedded.apiserver.objects import Objects
from mizzen.embedded.apiserver.operation import Call
from mizzen.embedded.apiserver.patch import APPLY_PATCH, PatchError, apply_patch
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.wire import Request
from mizzen.kube.api import JSON, NotFound


async def patch(objects: Objects, request: Request, target: Target, call: Call) -> tuple[JSON, bool]:
    """The object afterwards, and whether it was created (only server-side apply creates)."""
    content_type, body = bodies.media_type(request), bodies.decode(request)
    return await patch_with(objects, target, content_type, body, call)


async def patch_with(
    objects: Objects, target: Target, content_type: str, body: object, call: Call
) -> tuple[JSON, bool]:
    """The same for a body that is decoded already."""
    if content_type == APPLY_PATCH:
        return await _apply(objects, target, body, call)
    change = lambda current: changed(target, content_type, current, body, call)  # noqa: E731 - reads best in place
    return await objects.update(target, change, call), False


def changed(target: Target, content_type: str, current: JSON, body: object, call: Call) -> JSON:
    """The patched object, checked as any other body. Raises 400, 415 and 422."""
    try:
        patched = apply_patch(content_type, target.resource, current, body)
    except PatchError as error:
        raise errors.failure(error.code, error.reason, error.message) from None
    return bodies.fit(target.kind, patched, call)


async def _apply(objects: Objects, target: Target, body: object, call: Call) -> tuple[JSON, bool]:
    if not isinstance(body, dict) or not isinstance(body.get("metadata") or {}, dict):
        raise errors.bad_request("the applied configuration must be an object with metadata")
    body["metadata"] = body.get("metadata") or {}
    if call.manager == "unknown":
        raise errors.bad_request(
            "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
        )
    call.applying = True
    wanted = bodies.fit(target.kind, body, call)
    merge = lambda current: field_owners.merge(target.kind, current, wanted, call, target.subresource, objects.now())  # noqa: E731
    try:
        return await objects.update(target, merge, call), False
    except NotFound:
        if target.subresource or objects.store.get(target.key):
            raise
    fresh = field_owners.merge(target.kind, None, wanted, call, "", objects.now())
    return await objects.create(target, fresh, call), True
