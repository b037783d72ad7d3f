"""CEL's `authorizer`: may the one who writes do something else, too?

https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mizzen.embedded.apiserver.rbac import Action
from mizzen.embedded.apiserver.rights import Rights
from mizzen.embedded.apiserver.wire import User
from mizzen.kube.api import JSON

_STEPS = ("group", "resource", "subresource", "namespace", "name", "path")
METHODS = frozenset({*_STEPS, "serviceAccount", "check", "allowed", "reason", "errored", "error"})
_USER, _ALLOWED, _REASON = "user", "allowed", "reason"


def root(user: User, action: Action) -> JSON:
    """The value of `authorizer` for a request that does `action`."""
    resource, _, subresource = action.resource.partition("/")
    asked = {"group": action.group, "resource": resource, "subresource": subresource}
    place = {"namespace": action.namespace, "name": action.name}
    who = {_USER: user.name, "groups": list(user.groups)}
    return {**who, "requestResource": {**who, **asked, **place}}


def functions(rights: Rights) -> Mapping[str, Callable[..., Any]]:
    """The methods of `authorizer`, asking `rights`."""

    def check(asked: JSON, verb: str) -> JSON:
        reason = rights.why_allowed(User(asked[_USER], tuple(asked["groups"])), _action(asked, verb))
        return {_ALLOWED: bool(reason), _REASON: reason}

    def setting(name: str) -> Callable[[JSON, str], JSON]:
        return lambda asked, value: {**asked, name: value}

    return {
        **{name: setting(name) for name in _STEPS},
        "serviceAccount": _as_service_account,
        "check": check,
        "allowed": lambda decision: decision[_ALLOWED],
        "reason": lambda decision: decision[_REASON],
        "errored": lambda decision: False,
        "error": lambda decision: "",
    }


def _as_service_account(asked: JSON, namespace: str, name: str) -> JSON:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return {_USER: f"system:serviceaccount:{namespace}:{name}", "groups": groups}


def _action(asked: JSON, verb: str) -> Action:
    if "path" in asked:
        return Action(verb, path=asked["path"])
    part = asked.get("subresource")
    resource = f"{asked.get('resource', '')}/{part}" if part else asked.get("resource", "")
    return Action(verb, asked.get("group", ""), resource, asked.get("namespace", ""), asked.get("name", ""))
