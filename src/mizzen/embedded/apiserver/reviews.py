"""Questions posed as objects: token reviews, access reviews, who am I. Nothing of them is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mizzen.embedded.apiserver import authn, strategy
from mizzen.embedded.apiserver.authn import Authenticator
from mizzen.embedded.apiserver.target import Target
from mizzen.embedded.apiserver.tokens import API_AUDIENCES, BadToken
from mizzen.embedded.apiserver.wire import User
from mizzen.kube.api import JSON


@dataclass(slots=True)
class Reviews:
    authenticator: Authenticator

    def review(self, target: Target, body: JSON, user: User) -> JSON:
        """The answered review; `body` is changed."""
        strategy.check_versions(target.kind, body)
        body.setdefault("metadata", {})
        answers: dict[str, Callable[[JSON, User], JSON]] = {
            "tokenreviews": self._token,
            "selfsubjectreviews": lambda _, asker: {"userInfo": asker.document()},
            "selfsubjectaccessreviews": _access,
            "selfsubjectrulesreviews": _rules,
            "subjectaccessreviews": lambda spec, _: _access(spec, _subject(spec)),
            "localsubjectaccessreviews": lambda spec, _: _access(spec, _subject(spec)),
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


def _subject(spec: JSON) -> User:
    return User(spec.get("user", ""), (*(spec.get("groups") or ()), "system:authenticated"), spec.get("uid", ""))


def _access(spec: JSON, user: User) -> JSON:
    asked = spec.get("resourceAttributes") or {}
    values = (asked.get(name, "") for name in ("verb", "group", "resource", "namespace", "name"))
    return {"allowed": authn.authorize(user, *values), "reason": "every authenticated user may do everything"}


def _rules(spec: JSON, user: User) -> JSON:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    return {
        "resourceRules": [everything],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": False,
    }
