"""Nobody gives away rights that they do not hold, unless they may `escalate` roles or `bind` them.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.embedded.apiserver import errors, rbac
from mizzen.embedded.apiserver.operation import Operation
from mizzen.embedded.apiserver.rights import (
    BINDINGS,
    CLUSTER_BINDINGS,
    CLUSTER_ROLES,
    ROLES,
    SUPERUSERS,
    Rights,
    role_key,
)
from mizzen.embedded.apiserver.wire import User
from mizzen.kube.api import JSON, ApiError


def check(rights: Rights, operation: Operation) -> None:
    """Look at a write of roles and bindings. Raises 403."""
    new, old, user = operation.obj, operation.old, operation.call.user
    if new is None or SUPERUSERS in user.groups:
        return
    if operation.kind.storage in (ROLES, CLUSTER_ROLES):
        _check_role(rights, operation, new, old or {})
    elif operation.kind.storage in (BINDINGS, CLUSTER_BINDINGS):
        _check_binding(rights, operation, new, old or {})


def _check_role(rights: Rights, operation: Operation, new: JSON, old: JSON) -> None:
    same = all(new.get(part) == old.get(part) for part in ("rules", "aggregationRule"))
    if (old and same) or _may(rights, operation, "escalate", operation.kind.resource.plural, operation.name):
        return
    if new.get("aggregationRule"):
        why = "must have cluster-admin privileges to use the aggregationRule"
        raise errors.forbidden(operation.kind.resource, operation.name, why)
    _require(rights, operation, new.get("rules") or ())


def _check_binding(rights: Rights, operation: Operation, new: JSON, old: JSON) -> None:
    if old and all(new.get(part) == old.get(part) for part in ("roleRef", "subjects")):
        return
    role = role_key(new, operation.namespace)
    if not _may(rights, operation, "bind", role.resource.partition(".")[0], role.name):
        if rights.store.get(role) is None:
            raise errors.failure(404, "NotFound", f'{role.resource} "{role.name}" not found')
        _require(rights, operation, rights.rules_of(role))


def _may(rights: Rights, operation: Operation, verb: str, plural: str, name: str) -> bool:
    action = rbac.Action(verb, rbac.GROUP, plural, operation.namespace, name)
    return bool(rights.why_allowed(operation.call.user, action))


def _require(rights: Rights, operation: Operation, wanted: Iterable[JSON]) -> None:
    user = operation.call.user
    missing = rbac.uncovered(wanted, rights.rules(user, operation.namespace))
    if missing:
        raise _refusal(operation, user, missing)


def _refusal(operation: Operation, user: User, missing: list[JSON]) -> ApiError:
    groups = " ".join(f'"{each}"' for each in user.groups)
    lines = "\n".join(dict.fromkeys(map(rbac.describe, missing)))
    why = f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{lines}'
    return errors.forbidden(operation.kind.resource, operation.name, why)
