"""Which AuthorizationPolicies a proxy enforces, read from its own configuration: `x authz check`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from mizzen.api.base import Model
from mizzen.explain.reach import find_pod, workloads_named
from mizzen.kube.api import Api, NotFound

JSON: TypeAlias = dict[str, Any]
_ORDER = ("DENY", "ALLOW", "LOG", "CUSTOM")
_RULE = re.compile(r"ns\[([^\]]*)\]-policy\[([^\]]*)\]-rule\[(\d+)\]")
_CUSTOM = "istio-ext-authz-"
_RBAC = ".rbac.v3.RBAC"
NOTHING = "_anonymous_match_nothing_"


class PolicyRow(Model):
    """One policy in one proxy."""

    action: str
    name: str
    """`NAME.NAMESPACE`; of a rule set without rules, what Istio calls that."""
    rules: int


def enforced_policies(dump: JSON) -> list[PolicyRow]:
    """From a parsed `/config_dump`: by action, then by name. What is only tried (dry run) is not enforced."""
    found: dict[tuple[str, str], set[str]] = {}
    for filter in rbac_filters(dump):
        for action, policy in _policies(filter):
            named = _RULE.search(policy)
            name, rule = (f"{named[2]}.{named[1]}", named[3]) if named else (policy, "0")
            found.setdefault((action, name), set()).add(rule)
    rows = [PolicyRow(action=action, name=name, rules=len(rules)) for (action, name), rules in found.items()]
    return sorted(rows, key=lambda row: (_ORDER.index(row.action), row.name))


def enforced_rules(dump: JSON) -> list[str]:
    """Names of all rules in a proxy, as Istio forms them: `ns[NAMESPACE]-policy[NAME]-rule[0]`. Sorted."""
    return sorted({policy for filter in rbac_filters(dump) for _, policy in _policies(filter) if policy != NOTHING})


def _policies(filter: JSON) -> Iterator[tuple[str, str]]:
    rules = filter.get("rules")
    if rules is not None:
        action, names = rules.get("action", "ALLOW"), rules.get("policies", {})
        yield from (("CUSTOM" if name.startswith(_CUSTOM) else action, name) for name in names or (NOTHING,))
    shadow = filter.get("shadow_rules", {}).get("policies", {})
    yield from (("CUSTOM", name) for name in shadow if name.startswith(_CUSTOM))


def rbac_filters(dump: JSON) -> Iterator[JSON]:
    """All RBAC filters, for requests and for connections: in slots, and in listeners of whoever wrote them there."""
    for part in dump.get("configs", ()):
        kind = part.get("@type", "")
        if kind.endswith(".EcdsConfigDump"):  # one for HTTP filters, one for network filters
            yield from _within(one["ecds_filter"].get("typed_config") for one in part.get("ecds_filters", ()))
        elif kind.endswith(".ListenersConfigDump"):
            states = part.get("dynamic_listeners", ())
            yield from _within(one.get("active_state", {}).get("listener") for one in states)


def _within(values: Iterable[Any]) -> Iterator[JSON]:
    for value in values:
        if isinstance(value, dict) and str(value.get("@type", "")).endswith(_RBAC):
            yield value
        elif isinstance(value, dict):
            # What a slot falls back to is enforced only while it has no content.
            yield from _within(inner for key, inner in value.items() if key != "config_discovery")
        elif isinstance(value, list):
            yield from _within(value)


async def pod_or_suggestion(api: Api, reference: str, namespace: str) -> tuple[str, str]:
    """As `find_pod`; for a name that there is not, the NotFound says which one was probably meant."""
    try:
        return await find_pod(api, reference, namespace)
    except NotFound as error:
        raise await meant(api, error, reference, namespace) from error


async def meant(api: Api, error: NotFound, reference: str, namespace: str) -> NotFound:
    """The same error, with the name that is near to the one that there is not."""
    kind, _, rest = reference.rpartition("/")
    name, _, own = rest.partition(".")
    there = await workloads_named(api, kind, own or namespace)
    if name in there:
        return error
    close = next((one for one in there if one.startswith(name)), None)
    close = close or next(iter(difflib.get_close_matches(name, there, n=1)), None)
    return NotFound(404, "NotFound", f"{error.message}{f'; did you mean {close}?' if close else ''}")
