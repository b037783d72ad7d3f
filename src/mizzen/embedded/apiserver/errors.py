"""The refusals of an API server, worded as Kubernetes words them (kubectl prints the message as it is).

Each function returns the `ApiError` to raise; its `status` is the `Status` document that goes over the wire.
Wording: https://github.com/kubernetes/kubernetes/blob/release-1.32/staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mizzen.kube.api import JSON, AlreadyExists, ApiError, Conflict, Expired, NotFound, Resource

_CLASSES: dict[tuple[int, str], type[ApiError]] = {
    (404, "NotFound"): NotFound,
    (409, "AlreadyExists"): AlreadyExists,
    (409, "Conflict"): Conflict,
    (410, "Expired"): Expired,
    (410, "Gone"): Expired,
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of `details.causes`: `reason` is FieldValueInvalid and friends, `field` a JSON path."""

    reason: str
    field: str
    message: str

    def document(self) -> JSON:
        return {"reason": self.reason, "message": self.message, "field": self.field}


def failure(code: int, reason: str, message: str, details: JSON | None = None) -> ApiError:
    """Any refusal."""
    status: JSON = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    if details:
        status["details"] = details
    return _CLASSES.get((code, reason), ApiError)(code, reason, message, status)


def status_of(error: ApiError) -> JSON:
    """The `Status` document of an error, also when whoever raised it wrote none."""
    return dict(error.status) or dict(failure(error.code or 500, error.reason, error.message).status)


def qualified(resource: Resource) -> str:
    """`deployments.apps`, or `pods` in the core group."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _qualified_kind(resource: Resource) -> str:
    return f"{resource.kind}.{resource.group}" if resource.group else resource.kind


def _details(resource: Resource, name: str) -> JSON:
    details: JSON = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    return details


def not_found(resource: Resource, name: str) -> ApiError:
    return failure(404, "NotFound", f'{qualified(resource)} "{name}" not found', _details(resource, name))


def already_exists(resource: Resource, name: str) -> ApiError:
    return failure(409, "AlreadyExists", f'{qualified(resource)} "{name}" already exists', _details(resource, name))


def conflict(resource: Resource, name: str, why: str = "") -> ApiError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {why}'
    return failure(409, "Conflict", message, _details(resource, name))


def forbidden(resource: Resource, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    details = _details(resource, name)
    if causes:
        details["causes"] = [cause.document() for cause in causes]
    subject = f'{qualified(resource)} "{name}"' if name else qualified(resource)
    return failure(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """422; `causes` must not be empty."""
    lines = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    details = {**_details(resource, name), "kind": resource.kind, "causes": [cause.document() for cause in causes]}
    return failure(422, "Invalid", f'{_qualified_kind(resource)} "{name}" is invalid: {text}', details)


def invalid_value(field: str, value: Any, why: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {why}")


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", field, f"Required value{': ' + why if why else ''}")


def bad_request(message: str) -> ApiError:
    return failure(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return failure(401, "Unauthorized", "Unauthorized")


def no_such_path() -> ApiError:
    return failure(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    message = "the server does not allow this method on the requested resource"
    return failure(405, "MethodNotAllowed", message)


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return failure(415, "UnsupportedMediaType", message)


def too_old(asked: int, oldest: int) -> ApiError:
    return failure(410, "Expired", f"too old resource version: {asked} ({oldest})")


def continue_expired() -> ApiError:
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter."
    )
    return failure(410, "Expired", message)


def unavailable(message: str) -> ApiError:
    return failure(503, "ServiceUnavailable", message)


def internal(message: str) -> ApiError:
    return failure(500, "InternalError", f"Internal error occurred: {message}")
