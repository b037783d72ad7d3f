"""ClusterRoles made of others: `aggregationRule` selects them by label, and their rules are written together.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles
"""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.embedded.apiserver import selectors
from mizzen.embedded.apiserver.store_entries import Entry
from mizzen.kube.api import JSON


def stale(entries: Iterable[Entry]) -> dict[str, list[JSON]]:
    """Name → rules of each aggregated ClusterRole whose rules are not those of its parts."""
    every = list(entries)
    roles = {entry.key.name: entry.document() for entry in every}
    wanted = {name: together(role, every) for name, role in roles.items() if role.get("aggregationRule")}
    return {name: rules for name, rules in wanted.items() if rules != (roles[name].get("rules") or [])}


def together(role: JSON, entries: Iterable[Entry]) -> list[JSON]:
    """The rules of all other roles that one of the selectors accepts, each rule once, in order of the roles' names."""
    chosen = [selectors.requirements_of(each) for each in role["aggregationRule"].get("clusterRoleSelectors") or ()]
    rules: list[JSON] = []
    for entry in entries:
        if entry.key.name == role["metadata"]["name"]:
            continue
        if any(selectors.matches_labels(requirements, entry.labels) for requirements in chosen):
            rules += [rule for rule in entry.document().get("rules") or () if rule not in rules]
    return rules
