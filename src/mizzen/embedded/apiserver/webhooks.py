"""Admission webhooks: who is asked, with which words, and what becomes of the answer.

Pure but for the callable that posts. https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import msgspec

from mizzen.embedded.apiserver import errors, matching
from mizzen.embedded.apiserver.cel_programs import CannotEvaluate
from mizzen.embedded.apiserver.operation import Operation
from mizzen.embedded.apiserver.patch import PatchError, json_patch
from mizzen.embedded.apiserver.store import Store
from mizzen.kube.api import JSON, ApiError

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
DEFAULT_SECONDS = 10


class CallFailed(Exception):
    """The webhook could not be asked, or answered nonsense; the text says why."""


Post = Callable[[JSON, JSON, float], Awaitable[JSON]]
"""(clientConfig, AdmissionReview, seconds) -> AdmissionReview. Raises CallFailed."""


Conditions = Callable[[JSON, Operation], bool]
"""(webhook, operation) -> whether all its `matchConditions` hold. Raises CannotEvaluate."""


@dataclass(slots=True)
class WebhookChain:
    """Implements `admission.Webhooks` over the stored configurations."""

    store: Store
    post: Post
    conditions: Conditions

    async def mutate(self, operation: Operation) -> bool:
        """Ask each mutating webhook in order; once more those that want it if a later one changed the object."""
        hooks = list(self._matching(MUTATING, operation))
        changed_after: set[int] = set()
        changed = False
        for index, hook in enumerate(hooks):
            if await self._mutate_by(hook, operation):
                changed = True
                changed_after |= set(range(index))
        for index, hook in enumerate(hooks):
            if index in changed_after and hook.get("reinvocationPolicy") == "IfNeeded":
                changed = await self._mutate_by(hook, operation) or changed
        return changed

    async def validate(self, operation: Operation) -> None:
        for hook in self._matching(VALIDATING, operation):
            await self._ask(hook, operation)

    async def _mutate_by(self, hook: JSON, operation: Operation) -> bool:
        response = await self._ask(hook, operation)
        if not response or not response.get("patch") or operation.obj is None:
            return False
        before = operation.obj
        try:
            patched = json_patch(before, msgspec.json.decode(base64.b64decode(response["patch"])))
        except (PatchError, binascii.Error, msgspec.DecodeError) as error:
            raise errors.internal(f'failed calling webhook "{hook["name"]}": invalid patch: {error}') from None
        if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
            raise errors.internal(f'failed calling webhook "{hook["name"]}": its patch leaves no object')
        operation.obj = patched
        return before != patched

    async def _ask(self, hook: JSON, operation: Operation) -> JSON | None:
        """The response, or None when the call failed and its failurePolicy says to go on. Raises what it denies."""
        if operation.call.dry_run and hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise errors.bad_request(f'admission webhook "{hook["name"]}" does not support dry run')
        uid = str(uuid4())
        try:
            if not self.conditions(hook, operation):
                return None
            seconds = float(hook.get("timeoutSeconds") or DEFAULT_SECONDS)
            review = await self.post(hook["clientConfig"], review_of(operation, uid, hook), seconds)
            response = _response(review, uid)
        except (CallFailed, CannotEvaluate) as failure:
            if hook.get("failurePolicy") == "Ignore":
                return None
            raise errors.internal(f'failed calling webhook "{hook["name"]}": {failure}') from None
        operation.call.warnings.extend(response.get("warnings") or ())
        if not response.get("allowed"):
            raise denial(hook["name"], response.get("status") or {})
        return response

    # -- who is asked ----------------------------------------------------------------------------------------------

    def _matching(self, configurations: str, operation: Operation) -> Iterator[JSON]:
        if matching.exempt(operation):
            return
        for entry in list(self.store.entries(configurations)):
            for hook in entry.document().get("webhooks") or ():
                if self._matches(hook, operation):
                    yield hook

    def _matches(self, hook: JSON, operation: Operation) -> bool:
        concerned = any(matching.rule_matches(rule, operation) for rule in hook.get("rules") or ())
        return concerned and matching.selected(self.store, hook, operation)


# -- words ---------------------------------------------------------------------------------------------------------


def review_of(operation: Operation, uid: str, hook: JSON) -> JSON:
    """The AdmissionReview that a webhook is asked with."""
    request = {"uid": uid, **operation.request(), "object": operation.obj, "oldObject": operation.old}
    versions = hook.get("admissionReviewVersions") or ["v1"]
    version = "v1" if "v1" in versions else versions[0]
    return {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": request}


def _response(review: JSON, uid: str) -> JSON:
    response = review.get("response") if isinstance(review, dict) else None
    if not isinstance(response, dict):
        raise CallFailed("expected response.allowed, got no response")
    if response.get("uid") != uid:
        raise CallFailed(f'expected response.uid="{uid}", got "{response.get("uid", "")}"')
    return response


def denial(name: str, status: JSON) -> ApiError:
    """What the client hears when a webhook says no."""
    message = f'admission webhook "{name}" denied the request'
    if status.get("message"):
        message += f": {status['message']}"
    elif status.get("reason"):
        message += f": {status['reason']}"
    else:
        message += " without explanation"
    code = status.get("code") or 400
    reason = status.get("reason") or {403: "Forbidden", 422: "Invalid"}.get(code, "")
    return errors.failure(code if code >= 400 else 400, reason or "BadRequest", message, status.get("details"))
