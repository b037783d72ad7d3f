"""Between a request and its verb: what the request wants to do, for whom, and the refusal if it may not.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from dataclasses import dataclass

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.rbac import Action
from mizzen.embedded.apiserver.rights import Rights
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.wire import Request, User
from mizzen.kube.api import ApiError

_NAMED = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_WHOLE = {**_NAMED, "GET": "list", "HEAD": "list", "DELETE": "deletecollection"}
_EXTRA = "impersonate-extra-"
_ACCOUNTS = "system:serviceaccount:"


@dataclass(slots=True)
class Authorization:
    rights: Rights

    def check_path(self, request: Request) -> None:
        """For paths that are no objects. Raises 403."""
        action = Action(request.method.lower(), path=request.path)
        if not self.rights.why_allowed(request.user, action):
            message = f'forbidden: User "{request.user.name}" cannot {action.verb} path "{action.path}"'
            raise errors.failure(403, "Forbidden", message)

    def check(self, request: Request, target: Target, verb: str = "") -> None:
        """For objects; `verb` where it is not what the method says. Raises 403."""
        action = action_of(request, target, verb)
        if not self.rights.why_allowed(request.user, action):
            raise refusal(request.user, target, action)

    # -- impersonation -----------------------------------------------------------------------------------------

    def user(self, request: Request) -> User:
        """Whom the request is to be answered as (`kubectl --as`). Raises 403."""
        name, uid = request.headers.get("impersonate-user", ""), request.headers.get("impersonate-uid", "")
        groups = _values(request, "impersonate-group")
        extra = {key: _values(request, key) for key in request.headers if key.startswith(_EXTRA)}
        if not name:
            if groups or uid or extra:
                raise errors.bad_request("requested other than a user to be impersonated without impersonating a user")
            return request.user
        self._check_impersonation(request.user, name, groups, uid, extra)
        told = {key.removeprefix(_EXTRA): values for key, values in extra.items()}
        return User(name, _groups(name, groups), uid, told)

    def _check_impersonation(
        self, user: User, name: str, groups: list[str], uid: str, extra: dict[str, list[str]]
    ) -> None:
        self._may_impersonate(user, _whom(name))
        for group in groups:
            self._may_impersonate(user, Action("impersonate", "", "groups", name=group))
        if uid:
            self._may_impersonate(user, Action("impersonate", "authentication.k8s.io", "uids", name=uid))
        for key, values in extra.items():
            resource = f"userextras/{key.removeprefix(_EXTRA)}"
            for value in values:
                self._may_impersonate(user, Action("impersonate", "authentication.k8s.io", resource, name=value))

    def _may_impersonate(self, user: User, action: Action) -> None:
        if not self.rights.why_allowed(user, action):
            message = (
                f'{action.resource} "{action.name}" is forbidden: User "{user.name}" cannot impersonate resource '
                f'"{action.resource}" in API group "{action.group}"{_place(action)}'
            )
            raise errors.failure(403, "Forbidden", message)


def action_of(request: Request, target: Target, verb: str = "") -> Action:
    """A Namespace counts as being in itself, so that its own roles can speak of it."""
    resource = target.resource
    namespace = target.name if target.kind.storage == "namespaces" else target.namespace
    plural = f"{resource.plural}/{target.subresource}" if target.subresource else resource.plural
    return Action(verb or _verb(request, target), resource.group, plural, namespace, target.name)


def _verb(request: Request, target: Target) -> str:
    if request.method == "GET" and not target.subresource and request.flag("watch"):
        return "watch"
    return (_NAMED if target.name else _WHOLE).get(request.method, request.method.lower())


def refusal(user: User, target: Target, action: Action) -> ApiError:
    """Worded as Kubernetes does."""
    why = (
        f'User "{user.name}" cannot {action.verb} resource "{action.resource}" in API group "{action.group}"'
        f"{_place(action)}"
    )
    return errors.forbidden(target.resource, action.name, why)


def _place(action: Action) -> str:
    return f' in the namespace "{action.namespace}"' if action.namespace else " at the cluster scope"


def _values(request: Request, name: str) -> list[str]:
    return [each for each in request.headers.get(name, "").split("\n") if each]


def _whom(name: str) -> Action:
    if name.startswith(_ACCOUNTS):
        namespace, _, account = name.removeprefix(_ACCOUNTS).partition(":")
        return Action("impersonate", "", "serviceaccounts", namespace, account)
    return Action("impersonate", "", "users", name=name)


def _groups(name: str, asked: list[str]) -> tuple[str, ...]:
    """The groups that come with the name where none are asked for; every user but the nameless is authenticated."""
    if name == "system:anonymous":
        return (*asked, "system:unauthenticated")
    if not asked and name.startswith(_ACCOUNTS):
        namespace = name.removeprefix(_ACCOUNTS).partition(":")[0]
        asked = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return tuple(dict.fromkeys((*asked, "system:authenticated")))
