"""What RBAC rules allow. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from mizzen.kube.api import JSON

GROUP = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody wants to do: to a resource, or (`path` is not "") to a path that is none.

    `resource` is `pods` or `pods/log`; `namespace` and `name` are "" where the request names none.
    """

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


def allows(rule: JSON, action: Action) -> bool:
    """Whether one rule of a role allows the action, wherever the role is bound."""
    if not _named(rule.get("verbs"), action.verb):
        return False
    if action.path:
        return any(_path_matches(each, action.path) for each in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames")
    return (
        _named(rule.get("apiGroups"), action.group)
        and any(_resource_matches(each, action.resource) for each in rule.get("resources") or ())
        and (not names or action.name in names)
    )


def _named(allowed: list[str] | None, value: str) -> bool:
    return "*" in (allowed or ()) or value in (allowed or ())


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _resource_matches(allowed: str, resource: str) -> bool:
    """`*` is everything; `*/scale` is that subresource of everything."""
    if allowed in ("*", resource):
        return True
    part = resource.partition("/")[2]
    return bool(part) and allowed == f"*/{part}"


def uncovered(wanted: Iterable[JSON], held: list[JSON]) -> list[JSON]:
    """The parts of the wanted rules that none of the held ones grants: what somebody may not give to others."""
    return [part for rule in wanted for part in _parts(rule) if not any(_covers(each, part) for each in held)]


def _parts(rule: JSON) -> Iterator[JSON]:
    """The rule taken apart, so that each part names one verb on one thing."""
    for verb, path in product(rule.get("verbs") or (), rule.get("nonResourceURLs") or ()):
        yield {"nonResourceURLs": [path], "verbs": [verb]}
    names = rule.get("resourceNames") or [None]
    things = product(rule.get("verbs") or (), rule.get("apiGroups") or (), rule.get("resources") or (), names)
    for verb, group, resource, name in things:
        part: JSON = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        yield {**part, **({"resourceNames": [name]} if name is not None else {})}


def _covers(held: JSON, part: JSON) -> bool:
    verb = part["verbs"][0]
    if "nonResourceURLs" in part:
        return allows(held, Action(verb, path=part["nonResourceURLs"][0]))
    name = part.get("resourceNames", [""])[0]
    return allows(held, Action(verb, part["apiGroups"][0], part["resources"][0], name=name))


def describe(rule: JSON) -> str:
    """A part of a rule as Kubernetes words it when it refuses to grant it."""
    words = {"apiGroups": "APIGroups", "resources": "Resources", "resourceNames": "ResourceNames"}
    names = {**words, "nonResourceURLs": "NonResourceURLs", "verbs": "Verbs"}
    parts = (f"{name}:[{' '.join(_quoted(rule[key]))}]" for key, name in names.items() if rule.get(key))
    return f"{{{', '.join(parts)}}}"


def _quoted(values: list[str]) -> list[str]:
    return [f'"{each}"' for each in values]
