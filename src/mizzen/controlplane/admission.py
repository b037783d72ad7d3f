"""Answers to AdmissionReviews: injection and validation, without the HTTP around them.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from mizzen.api.base import Problem
from mizzen.inject import InvalidAnnotation, Settings, decision, difference, inject

JSON: TypeAlias = dict[str, Any]
Check: TypeAlias = Callable[[JSON], Iterable[Problem]]


class BadReview(ValueError):
    """The body is no AdmissionReview with a request."""


def answered(review: JSON, answer: Callable[[JSON], JSON]) -> JSON:
    """The review with a response. Raises BadReview."""
    request = review.get("request")
    if not isinstance(request, dict) or "uid" not in request:
        raise BadReview("an AdmissionReview has a request with a uid")
    return {
        "apiVersion": review.get("apiVersion", "admission.k8s.io/v1"),
        "kind": "AdmissionReview",
        "response": {"uid": request["uid"], **answer(request)},
    }


def injected(request: JSON, settings: Settings) -> JSON:
    """The response for a Pod: a JSON Patch, or nothing to change, or why it cannot be injected as it asks."""
    pod, namespace = request.get("object") or {}, request.get("namespace") or ""
    try:
        result = inject(pod, namespace, settings)
    except InvalidAnnotation as error:
        return _refused(f"the sidecar cannot be injected: {error}", 422)
    if result is None:
        return {"allowed": True, "auditAnnotations": {"reason": decision(pod, namespace, settings.policy).reason}}
    patch = json.dumps(difference(pod, result)).encode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}


def validated(request: JSON, check: Check, dangling: Check) -> JSON:
    """The response for one of the mesh's kinds. `check` judges the object alone, `dangling` what it refers to."""
    document = request.get("object") or {}
    kind = document.get("kind") or (request.get("kind") or {}).get("kind", "")
    problems = list(check(document))
    errors = [_said(problem) for problem in problems if problem.level == "error"]
    if errors:
        return _refused(f"{kind} {document.get('metadata', {}).get('name', '')} is not valid: {'; '.join(errors)}", 422)
    warnings = [_said(problem) for problem in (*problems, *dangling(document)) if problem.level != "error"]
    return {"allowed": True, **({"warnings": warnings} if warnings else {})}


def _said(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}" if problem.path else problem.message


def _refused(message: str, code: int) -> JSON:
    return {"allowed": False, "status": {"code": code, "reason": "Invalid", "message": message}}
