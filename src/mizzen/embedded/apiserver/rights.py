"""Who may do what: the stored roles and bindings, asked. Kept up to date by events of the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mizzen.embedded.apiserver import rbac
from mizzen.embedded.apiserver.rbac import Action
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Event, Key
from mizzen.embedded.apiserver.wire import User
from mizzen.kube.api import JSON

ROLES, CLUSTER_ROLES = f"roles.{rbac.GROUP}", f"clusterroles.{rbac.GROUP}"
BINDINGS, CLUSTER_BINDINGS = f"rolebindings.{rbac.GROUP}", f"clusterrolebindings.{rbac.GROUP}"
SUPERUSERS = "system:masters"
EVERYTHING: tuple[JSON, ...] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)


class Grant(NamedTuple):
    """One binding as one of its subjects has it; `namespace` is "" for everywhere."""

    namespace: str
    binding: str
    role: Key

    def reason(self, user: User) -> str:
        kind, place = ("RoleBinding", f"/{self.namespace}") if self.namespace else ("ClusterRoleBinding", "")
        role = "Role" if self.role.resource == ROLES else "ClusterRole"
        return f'RBAC: allowed by {kind} "{self.binding}{place}" of {role} "{self.role.name}" to User "{user.name}"'


@dataclass(slots=True)
class Rights:
    store: Store
    _grants: dict[tuple[str, str], list[Grant]] | None = None
    _rules: dict[Key, list[JSON]] = field(default_factory=dict)

    def listen(self) -> None:
        """Follow the store from now on."""
        for each in (ROLES, CLUSTER_ROLES, BINDINGS, CLUSTER_BINDINGS):
            self.store.listen(each, self._changed)

    def _changed(self, event: Event) -> None:
        if event.entry.key.resource in (BINDINGS, CLUSTER_BINDINGS):
            self._grants = None
        self._rules.pop(event.entry.key, None)

    # -- questions -------------------------------------------------------------------------------------------------

    def why_allowed(self, user: User, action: Action) -> str:
        """The reason why the user may, or "" if nothing allows it."""
        if SUPERUSERS in user.groups:
            return f"the group {SUPERUSERS} may do everything"
        for grant in self._of(user):
            here = grant.namespace in ("", action.namespace) and not (grant.namespace and action.path)
            if here and any(rbac.allows(rule, action) for rule in self.rules_of(grant.role)):
                return grant.reason(user)
        return ""

    def rules(self, user: User, namespace: str) -> list[JSON]:
        """All rules that hold for the user in a namespace ("" for the cluster's own)."""
        if SUPERUSERS in user.groups:
            return list(EVERYTHING)
        grants = [each for each in self._of(user) if each.namespace in ("", namespace)]
        return [rule for grant in grants for rule in self.rules_of(grant.role)]

    def rules_of(self, role: Key) -> list[JSON]:
        """The rules of a Role or ClusterRole; none if there is no such role."""
        if role not in self._rules:
            entry = self.store.get(role)
            self._rules[role] = list(entry.document().get("rules") or ()) if entry else []
        return self._rules[role]

    # -- the index -------------------------------------------------------------------------------------------------

    def _of(self, user: User) -> Iterator[Grant]:
        if self._grants is None:
            self._grants = self._index()
        for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
            yield from self._grants.get(subject, ())

    def _index(self) -> dict[tuple[str, str], list[Grant]]:
        found: dict[tuple[str, str], list[Grant]] = {}
        for resource in (CLUSTER_BINDINGS, BINDINGS):
            for entry in self.store.entries(resource):
                binding = entry.document()
                grant = Grant(entry.key.namespace, entry.key.name, role_key(binding, entry.key.namespace))
                for subject in binding.get("subjects") or ():
                    found.setdefault(_subject(subject, entry.key.namespace), []).append(grant)
        return found


def role_key(binding: JSON, namespace: str) -> Key:
    """Which role a binding refers to."""
    reference = binding.get("roleRef") or {}
    name = reference.get("name", "")
    return Key(ROLES, namespace, name) if reference.get("kind") == "Role" else Key(CLUSTER_ROLES, "", name)


def _subject(subject: JSON, namespace: str) -> tuple[str, str]:
    """Service accounts are users with a name of their own."""
    name = subject.get("name", "")
    if subject.get("kind") == "ServiceAccount":
        return "User", f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}"
    return subject.get("kind", ""), name
