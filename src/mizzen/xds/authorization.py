"""The rules of every action, as Envoy's RBAC filters take them, for requests (`http`) or for connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mizzen.api.authorization import AuthorizationPolicy
from mizzen.scope.model import Guards
from mizzen.xds.ext_authz import POLICY_PREFIX, SHADOW_PREFIX
from mizzen.xds.rbac import policies

UNASKABLE = "-deny-due-to-bad-CUSTOM-action"
DRY_RUN_DENY, DRY_RUN_ALLOW = "istio_dry_run_deny_", "istio_dry_run_allow_"


class Rules(NamedTuple):
    """Fields of one RBAC filter; none of them: it does nothing."""

    rules: Mapping[str, Any] | None = None
    shadow_rules: Mapping[str, Any] | None = None
    """Only told, never enforced."""
    shadow_rules_stat_prefix: str | None = None


class Decisions(NamedTuple):
    """In the order in which they are met."""

    custom: Rules
    audit: Rules
    deny: Rules
    allow: Rules


def decisions(guards: Guards, *, http: bool) -> Decisions:
    return Decisions(
        custom=_custom(guards, http),
        audit=Rules(_rules(guards, "AUDIT", http, dry_run=False)),
        deny=_with_dry_run(guards, "DENY", http, DRY_RUN_DENY),
        allow=_with_dry_run(guards, "ALLOW", http, DRY_RUN_ALLOW),
    )


def can_ask(guards: Guards, *, http: bool) -> bool:
    """An authorizer that speaks HTTP cannot be asked about a connection."""
    return guards.authorizer is not None and (http or guards.authorizer.kind == "grpc")


def _custom(guards: Guards, http: bool) -> Rules:
    """Marks what the authorizer is to be asked about; where none can be asked, all of that is denied."""
    chosen = _chosen(guards, "CUSTOM", dry_run=False)
    if not chosen:
        return Rules()
    asks = can_ask(guards, http=http)
    found = policies(chosen, guards.trust_domains, http=http, prefix=POLICY_PREFIX, suffix="" if asks else UNASKABLE)
    rules = {"action": "DENY", "policies": found}
    return Rules(None, rules, SHADOW_PREFIX) if asks else Rules(rules)


def _with_dry_run(guards: Guards, action: str, http: bool, prefix: str) -> Rules:
    shadow = _rules(guards, action, http, dry_run=True)
    return Rules(_rules(guards, action, http, dry_run=False), shadow, prefix if shadow else None)


def _rules(guards: Guards, action: str, http: bool, *, dry_run: bool) -> dict[str, Any] | None:
    """None where no policy has this action. ALLOW policies whose rules match nothing allow nobody."""
    chosen = _chosen(guards, action, dry_run=dry_run)
    if not chosen:
        return None
    word = "LOG" if action == "AUDIT" else action
    return {"action": word, "policies": policies(chosen, guards.trust_domains, http=http)}


def _chosen(guards: Guards, action: str, *, dry_run: bool) -> list[AuthorizationPolicy]:
    both: Iterable[AuthorizationPolicy] = guards.policies
    return [policy for policy in both if policy.spec.action == action and policy.dry_run == dry_run]
