"""Questions posed as objects: token reviews, access reviews, who am I. Nothing of them is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mizzen.embedded.apiserver import errors, strategy
from mizzen.embedded.apiserver.authn import Authenticator
from mizzen.embedded.apiserver.rbac import Action
from mizzen.embedded.apiserver.rights import Rights
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.tokens import API_AUDIENCES, BadToken
from mizzen.embedded.apiserver.wire import User
from mizzen.kube.api import JSON


@dataclass(slots=True)
class Reviews:
    authenticator: Authenticator
    rights: Rights

    def review(self, target: Target, body: JSON, user: User) -> JSON:
        """The answered review; `body` is changed."""
        strategy.check_versions(target.kind, body)
        body.setdefault("metadata", {})
        answers: dict[str, Callable[[JSON, User], JSON]] = {
            "tokenreviews": self._token,
            "selfsubjectreviews": lambda _, asker: {"userInfo": asker.document()},
            "selfsubjectaccessreviews": self._access,
            "selfsubjectrulesreviews": self._rules,
            "subjectaccessreviews": lambda spec, _: self._access(spec, _subject(spec)),
            "localsubjectaccessreviews": lambda spec, _: self._access(spec, _subject(spec)),
        }
        body["status"] = answers[target.resource.plural](body.get("spec") or {}, user)
        return body

    def _token(self, spec: JSON, _: User) -> JSON:
        audiences = spec.get("audiences") or API_AUDIENCES
        try:
            claims = self.authenticator.claims(spec.get("token", ""), audiences)
        except BadToken as error:
            return {"user": {}, "error": f"[invalid bearer token, {error}]"}
        return {"authenticated": True, "user": claims.user().document(), "audiences": list(claims.audiences)}

    def _access(self, spec: JSON, user: User) -> JSON:
        reason = self.rights.why_allowed(user, _action(spec))
        return {"allowed": bool(reason), **({"reason": reason} if reason else {})}

    def _rules(self, spec: JSON, user: User) -> JSON:
        rules = self.rights.rules(user, spec.get("namespace") or "")
        return {
            "resourceRules": [each for each in map(_resource_part, rules) if each],
            "nonResourceRules": [each for each in map(_path_part, rules) if each],
            "incomplete": False,
        }


def _subject(spec: JSON) -> User:
    return User(spec.get("user") or "", tuple(spec.get("groups") or ()), spec.get("uid") or "")


def _action(spec: JSON) -> Action:
    """What is asked about. Raises 422 unless it is a resource or a path, and not both."""
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if bool(asked) == bool(path):
        message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise errors.failure(422, "Invalid", f"spec.resourceAttributes: Invalid value: {message}")
    if path:
        return Action(path.get("verb") or "", path=path.get("path") or "")
    assert asked is not None
    resource, part = asked.get("resource") or "", asked.get("subresource")
    return Action(
        asked.get("verb") or "",
        asked.get("group") or "",
        f"{resource}/{part}" if part else resource,
        asked.get("namespace") or "",
        asked.get("name") or "",
    )


def _resource_part(rule: JSON) -> JSON:
    names = ("verbs", "apiGroups", "resources", "resourceNames")
    return {name: rule[name] for name in names if rule.get(name)} if rule.get("resources") else {}


def _path_part(rule: JSON) -> JSON:
    return {name: rule[name] for name in ("verbs", "nonResourceURLs")} if rule.get("nonResourceURLs") else {}
