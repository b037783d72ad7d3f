"""Who owns which field: joins server-side apply (apply.py) to the way of a write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from mizzen.embedded.apiserver import apply as owners
from mizzen.embedded.apiserver import errors, strategy
from mizzen.embedded.apiserver.apply_fields import MissingKey
from mizzen.embedded.apiserver.bodies import structural_schema
from mizzen.embedded.apiserver.operation import Call
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.kube.api import JSON


@dataclass(frozen=True, slots=True)
class ManagedFields:
    """Implements `objects.FieldManagement`."""

    now: Callable[[], datetime]

    def track(self, kind: ResourceType, old: JSON | None, new: JSON, call: Call, subresource: str) -> None:
        """After server-side apply the merge has written it; what admission added since belongs to nobody."""
        if call.applying:
            return
        manager = owners.Manager(call.manager, "Update", kind.resource.api_version, subresource)
        reset = left_alone(kind, new, subresource)
        now, schema = strategy.timestamp(self.now()), structural_schema(kind)
        # An element without its key cannot be owned; validation will refuse the object and say so better.
        with contextlib.suppress(MissingKey):
            owners.track(kind.resource, old, new, manager, now, schema, reset)


def left_alone(kind: ResourceType, obj: JSON, subresource: str) -> tuple[str, ...]:
    """The top-level fields that an endpoint does not write."""
    if subresource == "status":
        return tuple(key for key in obj if key not in ("status", "apiVersion", "kind"))
    return ("status",) if kind.has_status() else ()


def merge(kind: ResourceType, current: JSON | None, wanted: JSON, call: Call, subresource: str, now: datetime) -> JSON:
    """`wanted` applied to the object. Raises 400, and 409 with the managers in the way."""
    manager = owners.Manager(call.manager, "Apply", kind.resource.api_version, subresource)
    try:
        return owners.apply(
            kind.resource,
            current,
            wanted,
            manager,
            strategy.timestamp(now),
            force=call.force,
            schema=structural_schema(kind),
            reset=left_alone(kind, wanted, subresource),
        )
    except owners.ApplyError as error:
        raise errors.bad_request(str(error)) from None
    except owners.ApplyConflict as error:
        details = {"causes": [cause.document() for cause in error.causes]}
        raise errors.failure(409, "Conflict", error.message, details) from None
